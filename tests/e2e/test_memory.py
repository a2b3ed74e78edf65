"""limits.memory: near it strangers are refused first, then ends of the lowest tier; who is in goes on, and all of it is over again."""
import re
import signal
import threading
import time

from harness import TUNN, free_port
from hosting import Hosted
from scripted import DATA, Peer, register
from test_admin import admin_relay, get, wait_until

TIERS = "{%s}" % ", ".join(f"{name}: {{relay: yes, tunnels: 100, rate: unlimited, volume: unlimited}}" for name in ("tin", "gold"))
UNAVAILABLE = "14"


class Small:
    """A relay whose bound can be moved while it runs."""

    def __init__(self, world, *args):
        self.config = world.tmp / "server.yaml"
        self.write("unlimited")
        self.relay = admin_relay(world, "--config", str(self.config), "--workers", "2", *args)
        self.hosted = Hosted(world, self.relay)
        wait_until(lambda: self.metric("memory_bytes"))

    def write(self, memory):
        self.config.write_text(f"tiers: {TIERS}\nlimits: {{memory: {memory}, newcomers: 20000, newcomers-per-network: 20000, register: 60s}}\n")

    def bound(self, memory):
        self.write(memory)
        at = self.relay.count()
        self.relay.p.send_signal(signal.SIGHUP)
        self.relay.wait_for("reloaded", after=at)
        return at

    def metric(self, name):
        return int(re.search(rf"^tunn_{name} (\d+)$", get(self.relay, "/metrics").body, re.M)[1])

    def ready(self):
        r = get(self.relay, "/readyz")
        return r.status, r.body.strip()

    def account(self, name, tier):
        path = self.hosted.account(name)
        self.hosted.run("account", "set", name, "--tier", tier)
        return path

    def way(self, account):
        """What waits until a datagram goes from one end of the account to another; the sending end."""
        address, far, laptop, _ = self.hosted.way(account, account)
        s = self.hosted.world.socket()

        def said():
            n = len(far.at)
            s.sendto(b"x", address)
            time.sleep(0.02)
            return len(far.at) > n
        return lambda: wait_until(said), laptop

    def scripted_end(self, token, name):
        if token:
            with open(token) as f:
                token = f.read().strip()
        p = Peer(self.relay.port)
        p.call()
        at = self.relay.count()
        p.frame(DATA, 0, 1, register(token, name.encode()))
        self.relay.wait_for(f"end joined id={name} ", after=at)
        return p


class Crowd:
    """Strangers who come again and again, and hold what a message of theirs is so far."""

    def __init__(self, relay):
        self.relay, self.going, self.held = relay, True, []
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(4)]
        for t in self.threads:
            t.start()

    def run(self):
        while self.going:
            try:
                p = Peer(self.relay.port)
            except (OSError, AssertionError):  # refused, or closed while it greets
                time.sleep(0.01)
                continue
            p.call()
            p.frame(DATA, 0, 1, b"\0\0\1\0\0" + bytes(16000))
            for _ in range(3):
                p.frame(DATA, 0, 1, b"\1" * 16000)
            self.held.append(p)

    def leave(self):
        self.going = False
        for t in self.threads:
            t.join()
        for p in self.held:
            p.close()


def gets_in(relay):
    try:
        Peer(relay.port).close()
    except OSError:
        return False
    return True


def test_a_crowd_of_strangers_is_refused_and_tunnels_go_on(world):
    small = Small(world)
    relay = small.relay
    small.account("lead", "tin")
    for i in range(3):
        small.hosted.end("lead", f"tin-{i}", "nobody", free_port(), "--listen").wait_for("connected as")
    small.account("au", "gold")
    arrives = small.way("au")[0]
    at = small.bound(small.metric("memory_bytes") + (16 << 20))  # workers keep 3 MB of what a crowd leaves
    assert small.ready() == (200, "ready")
    crowd = Crowd(relay)
    end = time.monotonic() + 60
    while small.metric("memory_turned_away_total") < 50:
        assert time.monotonic() < end
        arrives()
    wait_until(lambda: small.ready() == (503, "memory is short"), 30)
    assert small.metric("memory_newcomers_closed_total") > 0 and small.metric("memory_ends_closed_total") == 0
    crowd.leave()
    wait_until(lambda: small.metric("memory_short") == 0)
    assert small.ready() == (200, "ready") and gets_in(relay)
    arrives()
    lines = relay.lines[at:]
    over = [re.search(r"memory suffices again, .* turned_away=(\d+) closed=(\d+) ends=0", line) for line in lines]
    over = [m for m in over if m]
    assert len(over) == sum("memory is short" in line for line in lines)
    assert sum(int(m[1]) for m in over) == small.metric("memory_turned_away_total")
    assert not [line for line in lines if "end left" in line]


def test_the_lowest_tier_goes_first_and_all_come_again(world):
    small = Small(world)
    relay = small.relay
    lead = small.account("lead", "tin")
    tin = [small.scripted_end(lead, f"tin-{i}") for i in range(9)]
    small.account("au", "gold")
    arrives, laptop = small.way("au")
    seen = laptop.count()
    at = small.bound("1MiB")  # far less than it has
    relay.wait_for("sent away, first of tier tin", after=at)
    for p in tin:
        answer = p.answer()
        assert answer["grpc-status"] == UNAVAILABLE and "short%20of%20memory" in answer["grpc-message"].replace(" ", "%20")
        assert p.ended()  # a connection without an end is given up too
    relay.wait_for("end left id=[ab] account=au", after=at, seconds=30)
    lines = relay.lines[at:]
    left = [m[1] for line in lines if (m := re.search(r"end left id=\S+ account=(\w+) .*reason=shed", line))]
    assert left[:9] == ["lead"] * 9, left
    laptop.wait_for("short of memory", after=seen)
    at = small.bound("unlimited")
    relay.wait_for("memory suffices again", after=at)
    for end in "ab":
        relay.wait_for(f"end joined id={end} account=au", after=at, seconds=60)
    arrives()
    small.scripted_end(lead, "tin-9").close()


def test_the_ends_of_an_open_relay_are_of_no_tier(world):
    small = Small(world, "--open")
    end = [small.scripted_end("", f"peer-{i}") for i in range(40)][-1]  # together more than the least bound, under a sanitizer too
    at = small.bound("1MiB")
    small.relay.wait_for('memory is nearly used up: the newest ends are sent away"', after=at)
    assert end.answer()["grpc-status"] == UNAVAILABLE and end.ended()


def test_a_bound_that_is_none_is_refused(world):
    for words in ("1", "1023KiB", "off", "-1"):
        p = world.program([TUNN, "server", "--limits.memory", words, "--state", str(world.tmp / "s")])
        assert p.exit_code() == 2
        p.wait_for("--limits.memory must be a size of at least 1MiB, or unlimited")


def test_the_default_is_a_share_of_what_there_is(world):
    relay = admin_relay(world)
    bound = int(re.search(r"^tunn_memory_limit_bytes (\d+)$", get(relay, "/metrics").body, re.M)[1])
    with open("/proc/meminfo") as f:
        machine = int(re.search(r"MemTotal: +(\d+)", f.read())[1]) * 1024
    assert 0 < bound <= machine * 3 // 4
