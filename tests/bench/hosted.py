"""Accounts that have a rate: how exactly it holds, what waits for it, and what others notice of it.

The sender's account has 8 Mbit/s and a burst of a second; those who receive have no limits. A sink tells each arrival.
What is offered is three times the rate; windows begin once the burst is used up. The excess is the most by which arrivals of
any span, however short, were more than burst + rate * span: what the relay granted cannot exceed it (the bucket's arithmetic,
tests/unit/server/accounts/account_test.c); what is seen is how much later than others some datagrams were told to arrive, by the relay's turns, the
kernel and the receiving end, and so it is given in milliseconds of the rate.
"""
import json
import os
import signal
import statistics
import struct

from bench import BUILD, ONE_WORKER, SIZE, Disturbed, Tunnel, check, whole
from harness import RELAY_IP, Net, free_port
from hosting import MBIT, Hosted
from neighbours import IDLE, RATES, TIMES, Idle, p99, wait_for_calm

ROUNDS, LONG_ROUNDS = 10, 3  # of the neighbour's figure, and of all others
PATH = ("--rate-mbit", "100", "--delay-ms", "5", "--buffer-kb", "1000")  # of the sender, when delays are measured
RATE, BURST_S, WINDOW_S = 8 * MBIT, 1, 10  # bytes a second
SETTLE_S, RUN_S = 4, 20
NEIGHBOUR_PPS = RATES[0]
LIMITED = ("--rate", "8Mbit", "--burst", f"{BURST_S}s", "--tunnels", "unlimited", "--volume", "unlimited")
FREE = ("--rate", "unlimited", "--tunnels", "unlimited", "--volume", "unlimited")
CASES = {  # name: tunnels, and the workers of the ends of each in turn (that sends, that receives)
    "one tunnel": (1, [(0, 0)]),
    "ten tunnels": (10, [(0, 0)]),
    "across two workers": (2, [(0, 1), (1, 0)]),
}
LOADS = {"at 0.9 of its rate": 0.9, "at 1.2 times its rate": 1.2, "at 4 times its rate": 4}
FIGURES = {}
for _name in CASES:
    FIGURES |= {f"{_name}: least 10 s": ("Mbit/s", "the account's rate", "at least 0.95"),
                f"{_name}: median 10 s": ("Mbit/s", "the account's rate", None),
                f"{_name}: most 10 s": ("Mbit/s", "the account's rate", "at most 1.05"),
                f"{_name}: excess over burst and rate": ("ms", None, None)}
FIGURES["ten tunnels: smallest share"] = ("", "a tenth", None)
for _name in LOADS:
    FIGURES |= {f"one way {p}, {_name}": ("ms", "without limits", None) for p in ("p50", "p99")}
FIGURES["round trip p99 beside an account at ten times its limit"] = ("us", "the same pair alone", "at most 1.25")
FIGURES["sent to a third, beside a receiver over its rate"] = ("Mbit/s", "the same receiver without limits", "at least 0.95")


class Sink:
    """A program that takes what comes, and tells each arrival at the end."""

    def __init__(self, world, address="127.0.0.1:0", ns=None):
        self.path = f"{world.tmp}/arrivals-{len(world.programs)}"
        self.p = world.program([f"{BUILD}/support/udpgen", "sink", address, "--seconds", "0", "--arrivals", self.path], ns=ns)
        self.port = int(self.p.wait_for(r"port (\d+)").group(1))

    def arrivals(self):
        """(seconds, ms on the way, bytes) of each."""
        self.p.p.send_signal(signal.SIGTERM)
        check(self.p.exit_code() == 0, "the sink failed")
        whole(json.loads(self.p.lines[-1]))
        with open(self.path, "rb") as f:
            return [(ns / 1e9, us / 1e3, n) for ns, us, n in struct.iter_unpack("=QII", f.read())]


def send(world, address, bytes_per_s, seconds, ns=None):
    """A generator that has begun."""
    return world.program([f"{BUILD}/support/udpgen", "send", f"{address[0]}:{address[1]}", "--rate", str(round(bytes_per_s / SIZE)),
                          "--size", str(SIZE), "--seconds", str(seconds)], ns=ns)


def ended(generators):
    for p in generators:
        check(p.exit_code(120) == 0, "a generator failed: " + p.text())
    return [json.loads(p.lines[-1])["sent"] for p in generators]


def percentile(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


def windows(seen, start, seconds):
    """Bytes a second of each span of so many seconds that begins with an arrival, from start on."""
    found, first, total = [], 0, 0
    for at, _, n in seen:
        total += n
        while seen[first][0] <= at - seconds:
            if seen[first][0] >= start:
                found.append((total - n) / seconds)
            total -= seen[first][2]
            first += 1
    check(len(found) > 100, f"only {len(found)} windows")
    return found


def excess(seen, rate, burst):
    """By how many bytes the worst of all spans exceeds burst + rate * span."""
    before, worst, low = 0, 0, float("inf")
    for at, _, n in seen:
        low = min(low, before - rate * at)
        before += n
        worst = max(worst, before - rate * at - low)
    return max(0.0, worst - burst)


def with_accounts(world, workers):
    relay = world.relay(name=f"relay-{len(world.programs)}", args=["--workers", str(workers)])
    hosted = Hosted(world, relay)
    hosted.account("slow", *LIMITED)
    hosted.account("free", *FREE)
    return hosted


def rate_of(world, name):
    """How exactly the account's rate holds."""
    n, workers = CASES[name]
    hosted = with_accounts(world, 1 + max(max(pair) for pair in workers))
    sinks = [Sink(world) for _ in range(n)]
    ways = [hosted.way("slow", "free", f"-{i}", far=sinks[i], workers=workers[i % len(workers)]) for i in range(n)]
    ended([send(world, way[0], 3 * RATE / n, SETTLE_S + RUN_S) for way in ways])
    each = [sink.arrivals() for sink in sinks]
    seen = sorted(sum(each, []))
    world.stop()
    found = [w / MBIT for w in windows(seen, seen[0][0] + SETTLE_S, WINDOW_S)]
    late = excess(seen, RATE, BURST_S * RATE) * 1000 / RATE
    figures = {f"{name}: least 10 s": (min(found), 8), f"{name}: median 10 s": (statistics.median(found), 8),
               f"{name}: most 10 s": (max(found), 8), f"{name}: excess over burst and rate": (late, None)}
    if n == 10:
        figures[f"{name}: smallest share"] = (min(sum(n for *_, n in one) for one in each) / sum(n for *_, n in seen), 1 / n)
    return figures


def delays(world, sender, load):
    """ms on the way of each datagram that arrived over PATH, after another tunnel has used up the burst, where there is one."""
    net = Net(world, ["a", "b"], f"{os.getpid() % 100000}h", slow={"a": PATH})
    relay = world.relay(":443", name=f"relay-{len(world.programs)}", ns=net.ns["r"], args=ONE_WORKER)
    hosted, url = Hosted(world, relay), f"https://{RELAY_IP}"
    hosted.account("slow", *LIMITED)
    hosted.account("free", *FREE)
    for port, name in ((5000, "measured"), (5001, "first")):
        home = world.end(relay, port, f"b-{name}", f"{sender}/a-{name}", "--forward", url=url, ns=net.ns["b"], token=hosted.tokens["free"])
        laptop = world.end(relay, port, f"a-{name}", f"free/b-{name}", "--listen", url=url, ns=net.ns["a"], token=hosted.tokens[sender])
        home.wait_for("is up")
        laptop.wait_for("is up")
    sink = Sink(world, "127.0.0.1:5000", ns=net.ns["b"])
    ended([send(world, ("127.0.0.1", 5001), 4 * RATE, 2, ns=net.ns["a"])])
    ended([send(world, ("127.0.0.1", 5000), load * RATE, 8, ns=net.ns["a"])])
    seen = sink.arrivals()
    world.stop()
    return [late for at, late, _ in seen if at > seen[-1][0] - 5]


def waiting(world):
    found = {}
    for name, load in LOADS.items():
        slow, free = (delays(world, who, load) for who in ("slow", "free"))
        found |= {f"one way {p}, {name}": (percentile(slow, share), percentile(free, share))
                  for p, share in (("p50", 0.5), ("p99", 0.99))}
    return found


def third(world, receiver):
    """What an end gets through to another, in Mbit/s, while it sends four times the rate of the limited account to a third."""
    hosted = with_accounts(world, 1)
    over, far = Sink(world), Sink(world)
    port = free_port()
    laptop = world.end(hosted.relay, port, "a", [f"{receiver}/over", "free/third"], "--listen", token=hosted.tokens["free"])
    for account, name, sink in ((receiver, "over", over), ("free", "third", far)):
        hosted.end(account, name, "free/a", sink.port, "--forward").wait_for("is up")
        laptop.wait_for(f"{name} is up")
    to = [("127.0.0.1", port), ("127.0.0.2", port)]  # one of each peer
    ended([send(world, to[0], 4 * RATE, 6), send(world, to[1], RATE, 6)])
    seen = [one for one in far.arrivals() if one[0]]
    least = len(over.arrivals())
    world.stop()
    check((least * SIZE < 8 * RATE) == (receiver == "slow"), f"{least} datagrams came to the other receiver")
    return sum(n for at, _, n in seen if at > seen[0][0] + 2) / MBIT / (seen[-1][0] - seen[0][0] - 2)


def thirds(world):
    return {"sent to a third, beside a receiver over its rate": (third(world, "slow"), third(world, "free"))}


def over_its_limit(hosted, address):
    """A generator at ten times the rate of the limited account."""
    return hosted.world.program([f"{BUILD}/support/udpgen", "send", f"{address[0]}:{address[1]}", "--rate",
                                 str(round(TIMES * RATE / SIZE)), "--size", str(SIZE), "--seconds", "60"])


def neighbour(world):
    """A pair's p99 beside an account that sends ten times its limit, and alone just before and after."""
    hosted = with_accounts(world, 1)
    tunnel = Tunnel(world, relay=hosted.relay)
    far = Sink(world)
    address = hosted.way("slow", "free", far=far)[0]
    first = over_its_limit(hosted, address)
    p99(world, tunnel, RATES[-1])  # warm, and the burst is used up
    first.stop()
    wait_for_calm()
    alone = [p99(world, tunnel, NEIGHBOUR_PPS)]
    sender, idle = over_its_limit(hosted, address), Idle()
    beside = p99(world, tunnel, NEIGHBOUR_PPS)
    share = idle.share()
    sender.stop()
    check(share >= IDLE, f"only {share:.0%} of the CPU were idle beside the other account", Disturbed)
    alone.append(p99(world, tunnel, NEIGHBOUR_PPS))
    world.stop()
    return {"round trip p99 beside an account at ten times its limit": (beside, statistics.mean(alone))}


def measure(world, number):
    found = neighbour(world)
    if number >= LONG_ROUNDS:
        return found
    for name in CASES:
        found |= rate_of(world, name)
    return found | waiting(world) | thirds(world)
