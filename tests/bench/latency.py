"""What the way through the relay adds to a datagram's time when there is little to do."""
from bench import LOOPBACK, Tunnel, generator

FIGURES = {f"round trip {p}, 500/s": ("us", LOOPBACK, None) for p in ("p50", "p99")}


def measure(world, number):
    tunnel = Tunnel(world)
    generator(world, tunnel.address, 500, 1)  # warm
    through, plain = (generator(world, a, 500, 2) for a in (tunnel.address, tunnel.echo))
    return {f"round trip {p}, 500/s": (through[f"{p}_us"], plain[f"{p}_us"]) for p in ("p50", "p99")}
