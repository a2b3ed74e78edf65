"""A flood through the relay: what a datagram costs, and where the missing ones are.

A generator keeps 448 datagrams on their way there and back; it and the echo give and take many at once (UDP_SEGMENT,
UDP_GRO), or one by one where the figure says so. Every datagram has a sequence number and a checksum; each that does
not come back must be in a drop counter of the relay, of an end, or of a socket.
"""
import mmap
import os
import socket
import struct

from bench import (BUILD, LOOPBACK, ONE_WORKER, SEAL, SIZE, Disturbed, Tunnel, between_seals, check, end_of_sink, kernel_drops,
                   start_far, udpgen, whole)

PARTS = 3  # seconds of load, each between two seals
SMALL = 128
WINDOW = ("--window", "448")  # a lane of the relay holds 512
TOGETHER = ("--gso",)
FIGURES = {
    "relay CPU per datagram": ("us", SEAL, "at most 0.55"),
    "both clients' CPU per datagram": ("us", SEAL, "at most 0.75"),
    "bytes on the wire added per datagram": ("B", None, "below 20"),
    "echoes through the relay": ("1/s", LOOPBACK, None),
    "relay CPU per datagram, sent one by one": ("us", SEAL, None),
    "both clients' CPU per datagram, sent one by one": ("us", SEAL, None),
    "echoes through the relay, sent one by one": ("1/s", LOOPBACK, None),
    "relay CPU per 128-byte datagram": ("us", SEAL, "at most 0.12"),
    "both clients' CPU per 128-byte datagram": ("us", SEAL, None),
    "echoes of 128 bytes through the relay": ("1/s", LOOPBACK, None),
    "packets from the heap per datagram": ("", None, "at most 0.001"),
    "heap allocations per datagram, relay": ("", None, None),
    "heap allocations above 1 kB per datagram, relay": ("", None, "at most 0.01"),
    "one-way flood: delivered": ("1/s", LOOPBACK, None),
    "one-way flood: relay CPU per datagram": ("us", SEAL, None),
    "one-way flood: share that was too much": ("", None, None),
    "one-way flood: lost without a reason": ("", None, "at most 0"),
}


def flood(world, tunnel, size, words):
    """Seal, what one datagram cost under load, and echoes a second through the relay and without it. Every missing
    datagram has a reason."""
    udpgen(world, tunnel.address, "ping", *WINDOW, *words, seconds=0.5, size=size)  # warm
    before = tunnel.usage()
    seal, runs = between_seals(world, PARTS, lambda: whole(udpgen(world, tunnel.address, "ping", *WINDOW, *words, size=size)))
    used = tunnel.usage() - before
    sent, received = (sum(r[k] for r in runs) for k in ("sent", "received"))
    dropped = used.drops.total()
    check(sent - received == dropped, f"{sent} sent, {received} came back, but {dropped} were dropped: {dict(used.drops)}")
    check(received >= 0.99 * sent, f"more than 1 % lost on a healthy link: {dict(used.drops)}", Disturbed)
    check(used.passed >= 2 * received, f"the relay passed on {used.passed}, {received} went there and back")
    plain = whole(udpgen(world, tunnel.echo, "ping", *WINDOW, *words, size=size))
    return seal, used, (sum(r["pps"] for r in runs) / PARTS, plain["pps"])


def heap_allocations(world):
    """How often a relay asks the heap for each datagram, OpenSSL, nghttp2 and libevent included; and how often for more
    than the allocator has ready."""
    path = f"{world.tmp}/counted"
    with open(path, "wb") as f:
        f.truncate(mmap.PAGESIZE)
    relay = world.relay(name="allocs", args=ONE_WORKER, env={**os.environ, "LD_PRELOAD": f"{BUILD}/bench/allocs.so", "ALLOCS": path})
    tunnel = Tunnel(world, *TOGETHER, relay=relay)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        def so_far():
            return struct.unpack_from("LL", m)
        check(so_far()[0] > 1000, "nobody counts allocations")
        udpgen(world, tunnel.address, "ping", *WINDOW, *TOGETHER)  # warm
        before, n = tunnel.usage(), so_far()
        udpgen(world, tunnel.address, "ping", *WINDOW, *TOGETHER)
        n = [b - a for a, b in zip(n, so_far())]
        return [i / (tunnel.usage() - before).passed for i in n]


def one_way(world):
    """As fast as a socket takes them, most are too many: what arrives, and whether every lost one was counted."""
    tunnel = Tunnel(world, far="sink")
    before = tunnel.usage()
    seal, (sent,) = between_seals(world, 1, lambda: udpgen(world, tunnel.address, "send", seconds=2)["sent"])
    tunnel.settled()
    at_the_sink = kernel_drops(tunnel.echo[1])
    got = end_of_sink(tunnel.far)
    # A socket tells what it had no room for with the next datagram.
    n = tunnel.laptop.counters()["packets_in_total"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"last", tunnel.address)
    while tunnel.laptop.counters()["packets_in_total"] == n:
        pass
    used = tunnel.settled() - before
    lost = sent - got["received"]
    return seal, used, got["pps"], lost / sent, lost - used.drops.total() - at_the_sink


def plain_one_way(world):
    sink, address = start_far(world, "sink")
    udpgen(world, address, "send")
    return end_of_sink(sink)["pps"]


def measure(world, number):
    tunnel = Tunnel(world, *TOGETHER)
    seal, used, echoes = flood(world, tunnel, SIZE, TOGETHER)
    small_seal, small, small_echoes = flood(world, tunnel, SMALL, TOGETHER)
    single_seal, single, single_echoes = flood(world, Tunnel(world), SIZE, ())
    allocations, large = heap_allocations(world)
    flood_seal, flooded, delivered, too_much, unknown = one_way(world)
    return {
        "relay CPU per datagram": (used.relay_us / used.passed, seal),
        "both clients' CPU per datagram": (used.clients_us / used.passed, seal),
        "bytes on the wire added per datagram": (used.added / used.passed, None),
        "echoes through the relay": echoes,
        "relay CPU per datagram, sent one by one": (single.relay_us / single.passed, single_seal),
        "both clients' CPU per datagram, sent one by one": (single.clients_us / single.passed, single_seal),
        "echoes through the relay, sent one by one": single_echoes,
        "relay CPU per 128-byte datagram": (small.relay_us / small.passed, small_seal),
        "both clients' CPU per 128-byte datagram": (small.clients_us / small.passed, small_seal),
        "echoes of 128 bytes through the relay": small_echoes,
        "packets from the heap per datagram": ((used.pkt_allocs + small.pkt_allocs) / (used.passed + small.passed), None),
        "heap allocations per datagram, relay": (allocations, None),
        "heap allocations above 1 kB per datagram, relay": (large, None),
        "one-way flood: delivered": (delivered, plain_one_way(world)),
        "one-way flood: relay CPU per datagram": (flooded.relay_us / flooded.passed, flood_seal),
        "one-way flood: share that was too much": (too_much, None),
        "one-way flood: lost without a reason": (unknown, None),
    }
