"""A flood through the relay: what a datagram costs. A generator keeps 256 on their way there and back."""
from bench import LOOPBACK, SEAL, Tunnel, check, generator, seal_us

FIGURES = {
    "relay CPU per datagram": ("us", SEAL, "at most 0.55"),
    "both clients' CPU per datagram": ("us", SEAL, "at most 0.75"),
    "bytes on the wire added per datagram": ("B", None, "below 20"),
    "echoes through the relay": ("1/s", LOOPBACK, None),
}


def measure(world, number):
    tunnel = Tunnel(world)
    generator(world, tunnel.address, 0, 1)  # warm
    seal = seal_us(world)
    before = tunnel.usage()
    through = generator(world, tunnel.address, 0, 3)
    relay, clients, n, added = (b - a for a, b in zip(before, tunnel.usage()))
    check(n >= 2 * through["received"], f"the relay counted {n} datagrams, {through['received']} went there and back")
    plain = generator(world, tunnel.echo, 0, 1)
    return {"relay CPU per datagram": (relay / n, seal), "both clients' CPU per datagram": (clients / n, seal),
            "bytes on the wire added per datagram": (added / n, None),
            "echoes through the relay": (through["pps"], plain["pps"])}
