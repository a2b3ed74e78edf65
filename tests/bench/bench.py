"""Instruments of the benchmarks, and what a figure is.

A module of figures has FIGURES = {name: (unit, name of the baseline or None, goal in words or None)} and
measure(world, number) -> {name: (value, baseline value or None)} for one round; the world is the round's own.
A goal is "at most N", "below N" or "at least N", of the median: of the ratio where there is a baseline, else of
the value. ROUNDS in a module is its number of rounds when none is asked for.
"""
import collections
import dataclasses
import json
import os
import re
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
from harness import BUILD, TUNN, World, endpoint, free_port  # noqa: E402,F401

SIZE = 1420  # of a full WireGuard packet
SEAL = "16 KiB AES-128-GCM seal"  # the unit of CPU: what a full TLS record costs at least
ONE_WORKER = ("--workers", "1")
LOOPBACK = "plain loopback UDP"


class Invalid(Exception):
    """What was measured is not what the figure says."""


class Disturbed(Invalid):
    """The machine was too busy for this round: it may be tried again."""


class Missing(Exception):
    """This machine cannot measure it."""


def check(true, words, error=Invalid):
    if not true:
        raise error(words)


def cpu_us(pid):
    """CPU time of all threads, from the scheduler."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1000


def resident_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1))


def seal_us(world):
    """CPU of one seal, now."""
    p = world.program([f"{BUILD}/bench/seal"])
    check(p.exit_code() == 0, "seal failed")
    return float(p.text()) / 1000


def between_seals(world, parts, what):
    """Does `what` that often, with seals before, between and after: the CPU goes faster and slower by the second. Gives
    the mean seal and what came of each part."""
    seals, found = [seal_us(world)], []
    for _ in range(parts):
        found.append(what())
        seals.append(seal_us(world))
    return statistics.mean(seals), found


def udpgen(world, address, what="ping", *words, rate=0, seconds=1, size=SIZE):
    """What a generator found out."""
    p = world.program([f"{BUILD}/support/udpgen", what, f"{address[0]}:{address[1]}", "--rate", str(rate), "--size", str(size),
                       "--seconds", str(seconds), *words])
    check(p.exit_code(60) == 0, "the generator failed: " + p.text())
    return json.loads(p.lines[-1])


def whole(r):
    """No datagram was damaged, came twice, or overtook another of its flow."""
    check(r["corrupt"] == r["duplicated"] == r["reordered"] == 0, f"datagrams were damaged, doubled or out of order: {r}")
    return r


def generator(world, address, rate, seconds, size=SIZE):
    """What came back of what was sent; nearly all of it and in order, or the round is not valid."""
    r = whole(udpgen(world, address, rate=rate, seconds=seconds, size=size))
    check(r["sent"] > 100 and r["received"] >= 0.99 * r["sent"], f"datagrams were lost: {r}", Disturbed)
    return r


def kernel_drops(port):
    """Datagrams for which a UDP socket had no room."""
    with open("/proc/net/udp", encoding="ascii") as f:
        return sum(int(w[-1]) for w in map(str.split, f) if w[1].endswith(f":{port:04X}"))


def start_far(world, what, *words):
    """An echo or a sink, and its address."""
    p = world.program([f"{BUILD}/support/udpgen", what, "127.0.0.1:0", *(["--seconds", "0"] if what == "sink" else []), *words])
    return p, ("127.0.0.1", int(p.wait_for(r"port (\d+)").group(1)))


def end_of_sink(sink):
    """What it got."""
    sink.p.send_signal(signal.SIGTERM)
    check(sink.exit_code() == 0, "the sink failed")
    return whole(json.loads(sink.lines[-1]))


class Tunnel:
    """A relay, two ends, and a far side: an echo, or a sink that tells at the end what it got, with words for udpgen."""

    def __init__(self, world, *words, relay=None, far="echo", binary=TUNN):
        self.relay = relay or world.relay(name=f"relay-{len(world.programs)}", args=ONE_WORKER, binary=binary)
        self.far, self.echo = start_far(world, far, *words)
        self.home = world.end(self.relay, self.echo[1], "home", "laptop", "--forward", binary=binary)
        self.laptop = world.end(self.relay, free_port(), "laptop", "home", "--listen", binary=binary)
        self.address = endpoint(self.laptop)
        self.home.wait_for("laptop is up")
        self.laptop.wait_for("home is up")

    def settled(self):
        """Its usage when nothing moves any more."""
        now, before = self.usage(), None
        while not before or (now.passed, now.drops) != (before.passed, before.drops):
            time.sleep(0.2)
            now, before = self.usage(), now
        return now

    def usage(self):
        """What all have done so far, to be subtracted from what they have done later."""
        c = [p.counters() for p in (self.relay, self.home, self.laptop)]
        drops = collections.Counter()
        for one in c:
            drops.update({k: v for k, v in one.items() if k.startswith("drop_") or k == "udp_overflows_total"})
        return Usage(relay_us=cpu_us(self.relay.p.pid), clients_us=cpu_us(self.home.p.pid) + cpu_us(self.laptop.p.pid),
                     passed=c[0]["packets_out_total"] - sum(v for k, v in c[0].items() if k.startswith("drop_")),
                     added=c[0]["tls_bytes_out_total"] - c[0]["bytes_out_total"],
                     pkt_allocs=sum(one["packet_allocations_total"] for one in c),
                     drops=drops + collections.Counter(at_the_echo=kernel_drops(self.echo[1])))


@dataclasses.dataclass
class Usage:
    relay_us: float
    clients_us: float
    passed: int  # datagrams that left the relay; there and back are two
    added: int  # bytes that the relay wrote beside the payload
    pkt_allocs: int
    drops: collections.Counter

    def __sub__(self, before):
        return Usage(*(getattr(self, f.name) - getattr(before, f.name) for f in dataclasses.fields(self)))
