"""Instruments of the benchmarks, and what a figure is.

A module of figures has FIGURES = {name: (unit, name of the baseline or None, goal in words or None)} and
measure(world, number) -> {name: (value, baseline value or None)} for one round; the world is the round's own.
A goal is "at most N", "below N" or "at least N", of the median: of the ratio where there is a baseline, else of
the value. ROUNDS in a module is its number of rounds when none is asked for.
"""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
from harness import BUILD, World, endpoint, free_port  # noqa: E402,F401

SIZE = 1420  # of a full WireGuard packet
SEAL = "16 KiB AES-128-GCM seal"  # the unit of CPU: what a full TLS record costs at least
LOOPBACK = "plain loopback UDP"


class Invalid(Exception):
    """What was measured is not what the figure says."""


class Missing(Exception):
    """This machine cannot measure it."""


def check(true, words):
    if not true:
        raise Invalid(words)


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


def generator(world, address, rate, seconds, size=SIZE):
    """What came back of what was sent; all of it, or the round is not valid."""
    p = world.program([f"{BUILD}/support/udpgen", "ping", f"{address[0]}:{address[1]}", "--rate", str(rate),
                       "--size", str(size), "--seconds", str(seconds)])
    check(p.exit_code(60) == 0, "the generator failed: " + p.text())
    r = json.loads(p.lines[-1])
    check(r["sent"] > 100 and r["received"] >= 0.99 * r["sent"], f"datagrams were lost: {r}")
    check(r["corrupt"] == r["duplicated"] == 0, f"datagrams were damaged or doubled: {r}")
    return r


class Tunnel:
    """A relay, two ends, an echo behind one of them."""

    def __init__(self, world):
        self.relay = world.relay()
        echo = world.program([f"{BUILD}/support/udpgen", "echo", "127.0.0.1:0"])
        self.echo = ("127.0.0.1", int(echo.wait_for(r"port (\d+)").group(1)))
        self.home = world.end(self.relay, self.echo[1], "home", "laptop", "--forward")
        self.laptop = world.end(self.relay, free_port(), "laptop", "home", "--listen")
        self.address = endpoint(self.laptop)
        self.home.wait_for("laptop is up")
        self.laptop.wait_for("home is up")

    def usage(self):
        c = self.relay.counters()
        clients = cpu_us(self.home.p.pid) + cpu_us(self.laptop.p.pid)
        return (cpu_us(self.relay.p.pid), clients, c["packets_out_total"], c["tls_bytes_out_total"] - c["bytes_out_total"])
