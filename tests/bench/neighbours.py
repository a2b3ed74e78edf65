"""What a pair notices of others on the same worker: of one that sends ten times as much, and of a receiver that is stuck.

Each time the pair is measured alone just before or after. A third of the machine must stay idle: without that, whoever waits
for the CPU is measured, not the relay. The rate is the highest of RATES that leaves it.
"""
import signal
import statistics
import time

from bench import BUILD, SIZE, Tunnel, check, endpoint, free_port, start_far, udpgen, whole

ROUNDS = 10
SECONDS, RATES, TIMES, IDLE = 3, (500, 250), 10, 1 / 3
FIGURES = {f"round trip p99 beside {who}": ("us", "the same pair alone", "at most 1.25")
           for who in ("a ten-fold sender", "a stalled receiver")}


class Idle:
    """The share of the machine's CPU that nobody used since."""

    def __init__(self):
        self.before = self.read()

    @staticmethod
    def read():
        with open("/proc/stat", encoding="ascii") as f:
            words = [int(w) for w in f.readline().split()[1:9]]
        return words[3] + words[4], sum(words)  # idle and waiting for a disk; all, guests are in user time

    def share(self):
        (a, n), (b, m) = self.before, self.read()
        return (b - a) / (m - n)


def wait_for_calm(seconds=120):
    """Until nobody else uses the machine; then, or at the latest, we begin."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        idle = Idle()
        time.sleep(0.5)
        if idle.share() > 0.85:
            return


class Other:
    """A pair of which one end sends and the other takes."""

    def __init__(self, world, relay, name):
        self.world, self.relay, self.taker = world, relay, f"{name}-taker"
        _, address = start_far(world, "sink")
        self.home = world.end(relay, address[1], self.taker, f"{name}-sender", "--forward")
        laptop = world.end(relay, free_port(), f"{name}-sender", self.taker, "--listen")
        self.address = endpoint(laptop)
        self.home.wait_for("is up")
        laptop.wait_for("is up")

    def sends(self, rate):
        """The same generator at another rate, until it is stopped; nothing comes back."""
        return self.world.program([f"{BUILD}/support/udpgen", "ping", f"{self.address[0]}:{self.address[1]}", "--rate", str(rate),
                                   "--size", str(SIZE), "--seconds", "60"])

    def is_cut(self):
        return any("end left" in line and f"id={self.taker} " in line for line in self.relay.lines)


def p99(world, tunnel, rate):
    r = whole(udpgen(world, tunnel.address, rate=rate, seconds=SECONDS))
    check(r["received"] >= 0.99 * r["sent"] > 100, f"datagrams were lost: {r}")
    return r["p99_us"]


def beside(world, tunnel, rate, other):
    """The pair's p99 while the other one sends, and how much of the machine was idle."""
    before, sender, idle = other.relay.counters(), other.sends(TIMES * rate), Idle()
    value = p99(world, tunnel, rate)
    share = idle.share()
    sender.stop()
    passed = other.relay.counters()["packets_in_total"] - before["packets_in_total"] - 2 * rate * SECONDS
    check(passed > 0.8 * TIMES * rate * SECONDS, f"the other pair sent only {passed} datagrams")
    return value, share


def beside_stuck(world, tunnel, rate, other):
    """The same while who is sent to does not read, and is not cut yet."""
    full = other.relay.counters()["drop_queue_full"]
    other.home.p.send_signal(signal.SIGSTOP)
    sender = other.sends(TIMES * rate)
    end = time.monotonic() + 20
    while other.relay.counters()["drop_queue_full"] == full:  # what sockets hold is full
        check(time.monotonic() < end, "the receiver did not get stuck")
        time.sleep(0.05)
    idle = Idle()
    value = p99(world, tunnel, rate)
    share = idle.share()
    check(not other.is_cut(), "the stalled receiver was cut too early to be measured beside")
    sender.stop()
    other.home.p.send_signal(signal.SIGCONT)
    return value, share


def measure(world, number):
    relay = world.relay(args=["--workers", "1"])
    tunnel = Tunnel(world, relay=relay)
    busy, stuck = Other(world, relay, "busy"), Other(world, relay, "stuck")
    p99(world, tunnel, RATES[-1])  # warm
    wait_for_calm()
    for rate in RATES:
        alone = [p99(world, tunnel, rate)]
        first, idle = beside(world, tunnel, rate, busy)
        if idle >= IDLE:
            break
    check(idle >= IDLE, f"only {idle:.0%} of the CPU were idle beside {TIMES * rate} datagrams a second")
    alone.append(p99(world, tunnel, rate))
    second, idle = beside_stuck(world, tunnel, rate, stuck)
    check(idle >= IDLE, f"only {idle:.0%} of the CPU were idle beside the stalled receiver")
    alone.append(p99(world, tunnel, rate))
    return {"round trip p99 beside a ten-fold sender": (first, statistics.mean(alone[:2])),
            "round trip p99 beside a stalled receiver": (second, statistics.mean(alone[1:]))}
