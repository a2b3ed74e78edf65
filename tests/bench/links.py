"""Slow links: latency and goodput under overload, delivery under loss. One way, over tests/support/linkemu.c.

Each case is a relay and two ends in namespaces of their own, one end behind the emulated link: the receiving one (the
relay queues) or the sending one (its client queues). The programs beside the ends are udpgen's; all run on one machine
with one clock, so that one way is what a datagram's timestamp says. BBR is asked for by tunn itself where the routes
say cubic; where they say it with a lock, the kernel refuses it, and what is left is what a machine without has.
"""
import json
import os
import re
import signal
import statistics
import threading
import time

from bench import BUILD, SIZE, Missing, check
from harness import RELAY_IP, Net, sh

ROUNDS = 3
WARM_S, SAMPLE_S = 3, 11
LATE_US = 25000  # an emulator that was kept waiting longer has added that to the link
NARROW = ("--rate-mbit", "10", "--delay-ms", "20", "--buffer-kb", "250")
LOSSY = ("--rate-mbit", "50", "--delay-ms", "20", "--buffer-kb", "250", "--loss-percent", "1")
CASES = {  # name: link, Mbit/s offered, the namespace behind it (a sends, b receives), with BBR
    "10 Mbit/s": (NARROW, 12, "b", True),
    "10 Mbit/s up": (NARROW, 12, "a", True),
    "10 Mbit/s, no BBR": (NARROW, 12, "b", False),
    "10 Mbit/s up, no BBR": (NARROW, 12, "a", False),
    "1 % loss": (LOSSY, 20, "b", True),
    "1 % loss up": (LOSSY, 20, "a", True),
    "1 % loss, no BBR": (LOSSY, 20, "b", False),
}
NARROW_GOALS = {True: ("at most 100", "at most 250", "at least 0.85"), False: ("at most 250", None, None)}
PARTS = ("router's buffer", "unsent in the kernel", "lane and machine")


def figures():
    found = {}
    for name, (link, _, _, bbr) in CASES.items():
        if link is NARROW:
            p50, p99, goodput = NARROW_GOALS[bbr]
            found |= {f"{name}: p50": ("ms", None, p50), f"{name}: p99": ("ms", None, p99),
                      f"{name}: goodput": ("Mbit/s", "the link's rate", goodput)}
            found |= {f"{name}: {part}": ("ms", None, None) for part in PARTS}
        else:
            found |= {f"{name}: p50": ("ms", None, None), f"{name}: p99": ("ms", None, None),
                      f"{name}: delivered": ("datagrams", "sent", "at least 0.9" if bbr else None)}
    return found | {"10 Mbit/s, plain UDP: p50": ("ms", None, None)}


FIGURES = figures()


def said(emu):
    """By an emulator: what became of packets since its start, and of times since it was asked last."""
    at = emu.count()
    emu.p.send_signal(signal.SIGUSR1)
    return json.loads(emu.wait_for(r"^\{.*\}$", after=at).group(0))


class Kernel:
    """Watches how much a namespace's connection has that is not sent."""

    def __init__(self, ns, peer):
        self.ns, self.peer, self.unsent, self.over = ns, peer, [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.wait(0.1):
            for one in re.split(r"\n(?=\S)", sh("ss", "-tinH", "state", "established", "dst", self.peer, ns=self.ns)):
                m = re.search(r"\bnotsent:(\d+)", one)
                self.unsent.append(int(m.group(1)) if m else 0)

    def median(self):
        self.over.set()
        self.thread.join()
        return statistics.median(self.unsent)


class Path:
    """Sender's end in a, receiver's in b, the relay in r."""

    def __init__(self, world, slow, options, bbr):
        self.world, self.slow = world, slow
        self.net = Net(world, ["a", "b"], f"{os.getpid() % 100000}k", slow={slow: options})
        self.emu = self.net.emu[slow]
        algorithm = ("congctl", "cubic") if bbr else ("congctl", "lock", "cubic")
        for i, n in enumerate("ab", 1):
            sh("ip", "route", "replace", "default", "via", f"10.9.{i}.1", *algorithm, ns=self.net.ns[n])
            sh("ip", "route", "replace", f"10.9.{i}.0/24", "dev", f"to{n}", "src", f"10.9.{i}.1", *algorithm, ns=self.net.ns["r"])
        relay = world.relay(":443", ns=self.net.ns["r"])
        receiver = world.end(relay, 5000, "b", "a", "--forward", url=f"https://{RELAY_IP}", ns=self.net.ns["b"])
        sender = world.end(relay, 5001, "a", "b", "--listen", url=f"https://{RELAY_IP}", ns=self.net.ns["a"])
        receiver.wait_for("a is up")
        sender.wait_for("b is up")
        self.receiver, self.programs = receiver, {"sender": sender, "relay": relay, "receiver": receiver}
        used = set(re.findall(r"\b(bbr|cubic|reno)\b", "".join(sh("ss", "-tinH", ns=ns) for ns in self.net.ns.values())))
        check(used == {"bbr" if bbr else "cubic"}, f"the connections use {used}")

    def dropped(self):
        """The datagrams that each program says it has lost, and why."""
        return {f"{who} {why}": n for who, p in self.programs.items() for why, n in p.counters().items()
                if why.startswith("drop_") or why == "udp_overflows_total"}

    def udpgen(self, n, *words):
        return self.world.program([f"{BUILD}/support/udpgen", *map(str, words)], ns=self.net.ns[n])

    def sample(self, mbit, seconds):
        """What the sink saw; what it did not see has a reason."""
        before, handed = self.dropped(), self.receiver.counters()["packets_out_total"]
        sink = self.udpgen("b", "sink", "127.0.0.1:5000", "--seconds", 0)
        sink.wait_for("port")
        send = self.udpgen("a", "send", "127.0.0.1:5001", "--rate", round(mbit * 1e6 / 8 / SIZE), "--size", SIZE, "--seconds", seconds)
        check(send.exit_code(seconds + 30) == 0, "the generator failed: " + send.text())
        sent, end = json.loads(send.lines[-1])["sent"], time.monotonic() + 10
        while True:
            dropped = {why: n - before.get(why, 0) for why, n in self.dropped().items() if n > before.get(why, 0)}
            arrived = self.receiver.counters()["packets_out_total"] - handed
            if arrived + sum(dropped.values()) >= sent or time.monotonic() > end:
                break
            time.sleep(0.05)
        sink.stop()
        got = json.loads(sink.lines[-1]) | {"sent": sent, "dropped": dropped}
        check(sent > 100 and sent == got["received"] + sum(dropped.values()), f"datagrams went without a reason: {got}")
        check(got["corrupt"] == got["duplicated"] == got["reordered"] == 0, f"damaged, doubled or out of order: {got}")
        return got

    def measured(self, mbit):
        """A sample on a link that is busy already, with where the time went; None: the emulator was kept waiting."""
        self.sample(mbit, WARM_S)
        said(self.emu)
        queue = Kernel(self.net.ns["r" if self.slow == "b" else "a"], "10.9.2.2" if self.slow == "b" else RELAY_IP)
        got = self.sample(mbit, SAMPLE_S)
        way = said(self.emu)["there" if self.slow == "b" else "back"]  # its first end is r's
        unsent = queue.median()
        check(way["refused"] == 0, f"the emulator lost packets: {way}")
        for n, dev in (("r", f"to{self.slow}"), (self.slow, "up0")):
            link = json.loads(sh("ip", "-s", "-j", "link", "show", dev, ns=self.net.ns[n]))[0]
            check(link["stats64"]["tx"]["dropped"] == 0, f"the emulator did not keep up: {link}")
        if way["late_max_us"] > LATE_US:
            return None
        return got | {"router": way["wait_us"] / 1000, "unsent": unsent * 8 / got["mbit"] / 1000}


    def plain_p50(self, mbit):
        """Of plain UDP from r to b on the same link, once nothing of ours is on it."""
        sink = self.udpgen("b", "sink", "10.9.2.2:5002", "--seconds", 0)
        sink.wait_for("port")
        send = self.udpgen("r", "send", "10.9.2.2:5002", "--rate", round(mbit * 1e6 / 8 / SIZE), "--size", SIZE, "--seconds", WARM_S)
        check(send.exit_code(30) == 0, "the generator failed: " + send.text())
        while any(way["on_the_way"] for way in said(self.emu).values()):
            time.sleep(0.05)
        sink.stop()
        return json.loads(sink.lines[-1])["p50_us"] / 1000


def one(world, name):
    """A case, measured."""
    link, mbit, slow, bbr = CASES[name]
    for _ in range(3):
        path = Path(world, slow, link, bbr)
        got = path.measured(mbit)
        if got:
            break
        world.stop()
    check(got, "the emulator was kept waiting, three times")
    p50, p99 = got["p50_us"] / 1000, got["p99_us"] / 1000
    found = {f"{name}: p50": (p50, None), f"{name}: p99": (p99, None)}
    if link is LOSSY:
        found[f"{name}: delivered"] = (got["received"], got["sent"])
    else:
        parts = (got["router"], got["unsent"], p50 - 20 - got["router"] - got["unsent"])
        found |= {f"{name}: goodput": (got["mbit"], 10)} | {f"{name}: {part}": (ms, None) for part, ms in zip(PARTS, parts)}
    if name == "10 Mbit/s":
        found["10 Mbit/s, plain UDP: p50"] = (path.plain_p50(mbit), None)
    world.stop()
    return found


def measure(world, number):
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control", encoding="ascii") as f:
        lacks = {"bbr", "cubic"} - set(f.read().split())
    if os.geteuid() or not os.path.exists("/dev/net/tun") or lacks:
        raise Missing("slow links need root, /dev/net/tun, BBR and CUBIC")
    found = {}
    for name in CASES:
        found |= one(world, name)
    return found
