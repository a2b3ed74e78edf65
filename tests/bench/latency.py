"""What the way through the relay adds to a datagram's time when there is little to do, and what batching adds to that.

Nothing waits for company, so that a build without batching (one packet for each record and each write) must not be faster.
"""
import os
import statistics

from bench import BUILD, LOOPBACK, Tunnel, check, generator

RATE, TURNS = 1000, 12
UNBATCHED = "the same without batching"
FIGURES = {
    "round trip p50, 1,000/s": ("us", LOOPBACK, None),
    "round trip p99, 1,000/s": ("us", LOOPBACK, None),
    "round trip p50, 1,000/s, with batching": ("us", UNBATCHED, "at most 1"),
    "round trip p99, 1,000/s, with batching": ("us", UNBATCHED, None),
}


def measure(world, number):
    unbatched = f"{os.path.dirname(BUILD)}/unbatched/tunn"
    check(os.path.exists(unbatched), "there is no build without batching: make FLAVOUR=unbatched all")
    tunnel, other = Tunnel(world), Tunnel(world, binary=unbatched)
    ways = [("with", tunnel.address), ("without", other.address), ("plain", tunnel.echo)]
    seen = {name: [] for name, _ in ways}
    for _, address in ways:
        generator(world, address, RATE, 0.5)  # warm
    for turn in range(TURNS):
        for name, address in ways[turn % 3:] + ways[:turn % 3]:
            seen[name].append(generator(world, address, RATE, 0.5))
    found = {}
    for p in ("p50", "p99"):
        us = {name: statistics.median(r[f"{p}_us"] for r in runs) for name, runs in seen.items()}
        found[f"round trip {p}, 1,000/s"] = (us["with"], us["plain"])
        found[f"round trip {p}, 1,000/s, with batching"] = (us["with"], us["without"])
    return found
