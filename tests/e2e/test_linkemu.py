"""The link emulator of tests/support/linkemu.c does what it is asked for. Figures of tests/bench/links.py stand on it."""
import json
import os
import signal
import struct
import subprocess
import time

import pytest
from harness import BUILD, RELAY_IP, Net, socket_in

pytestmark = pytest.mark.root
HEAD = 28  # IPv4 and UDP


class Link:
    """Datagrams with numbers over an emulated link, and what its emulator says of them."""

    def __init__(self, world, *options):
        self.net = Net(world, ["a"], f"{os.getpid() % 100000}e", slow={"a": options})
        self.emu = self.net.emu["a"]
        self.near = socket_in(world, self.net.ns["a"], "10.9.1.2")
        self.far = socket_in(world, self.net.ns["r"], RELAY_IP)
        self.to = self.far.getsockname()

    def send(self, n, size):
        for i in range(n):
            self.near.sendto(struct.pack("!I", i) + bytes(size - HEAD - 4), self.to)

    def said(self):
        """Of the way from a to r (the kernel's own packets are not in the way: IPv6 is off)."""
        at = self.emu.count()
        self.emu.p.send_signal(signal.SIGUSR1)
        return json.loads(self.emu.wait_for(r"^\{.*\}$", after=at).group(0))["back"]

    def settled(self):
        """When nothing is on the way any more."""
        end = time.monotonic() + 20
        while (said := self.said())["on_the_way"]:
            assert time.monotonic() < end, said
            time.sleep(0.01)
        return said

    def arrived(self, n):
        return [struct.unpack("!I", self.far.recv(2000)[:4])[0] for _ in range(n)]


def test_a_packet_arrives_after_the_delay_and_not_much_later(world):
    link = Link(world, "--delay-ms", "50", "--rate-mbit", "100")
    took = []
    for _ in range(20):
        start = time.monotonic()
        link.send(1, 100)
        link.arrived(1)
        took.append(time.monotonic() - start)
    assert min(took) >= 0.050
    assert sorted(took)[10] < 0.080


def test_packets_leave_at_the_rate_and_in_order(world):
    link = Link(world, "--rate-mbit", "10", "--buffer-kb", "1000")
    start = time.monotonic()
    link.send(500, 1250)  # a millisecond each
    assert link.arrived(500) == list(range(500))
    assert 0.5 <= time.monotonic() - start < 5
    said = link.settled()
    assert (said["forwarded"], said["bytes"], said["dropped_buffer"]) == (500, 500 * 1250, 0)
    assert 100_000 < said["wait_max_us"] < 500_000  # all at once would be 499 ms


def test_what_does_not_fit_the_buffer_goes_at_the_tail_and_is_counted(world):
    link = Link(world, "--rate-mbit", "0.1", "--buffer-kb", "10")  # 100 ms each
    link.send(50, 1250)
    said = link.said()
    while sum(said[k] for k in ("forwarded", "on_the_way", "dropped_buffer")) < 50:
        said = link.said()
    kept = said["forwarded"] + said["on_the_way"]
    assert 8 <= kept <= 12  # 8 fit, and who was slow to send found room again
    assert link.arrived(8) == list(range(8))
    assert link.settled()["dropped_buffer"] == 50 - kept


def lost(world, *options):
    link = Link(world, *options)
    for i in range(10):  # no more at once than its device queues
        link.send(1000, 60)
        while sum(link.said()[k] for k in ("forwarded", "dropped_loss")) < 1000 * (i + 1):
            pass
    said = link.settled()
    there = link.arrived(said["forwarded"])
    assert said["dropped_loss"] == 10000 - len(there) and said["dropped_buffer"] == said["refused"] == 0
    world.stop()
    return there


def test_packets_are_lost_as_often_as_asked_and_the_seed_says_which(world):
    one = lost(world, "--loss-percent", "10", "--seed", "7")
    assert 8800 < len(one) < 9200  # 6 standard deviations
    assert lost(world, "--loss-percent", "10", "--seed", "7") == one
    assert lost(world, "--loss-percent", "10", "--seed", "8") != one
    assert len(lost(world)) == 10000


@pytest.mark.parametrize("words, text", [
    ([], "two ends are needed, each NAMESPACE/DEVICE"),
    (["a/b", "no-device"], "namespace /run/netns/a: No such file"),
    (["nothing", "a/b"], "'nothing': must be NAMESPACE/DEVICE"),
    (["a/a-name-that-is-too-long", "a/b"], "must be NAMESPACE/DEVICE"),
    (["--rate-mbit", "ten", "a/b", "c/d"], "--rate-mbit ten: must be a number from 0 to 10000"),
    (["--delay-ms", "-1", "a/b", "c/d"], "--delay-ms -1: must be a number"),
    (["--loss-percent", "101", "a/b", "c/d"], "--loss-percent 101: must be a number from 0 to 100"),
    (["--rate-mbit", "1", "--buffer-kb", "1", "a/b", "c/d"], "--buffer-kb 1: must be at least 1.5"),
    (["--speed", "1", "a/b", "c/d"], "unrecognized option"),
])
def test_options_that_make_no_sense_are_told(words, text):
    r = subprocess.run([f"{BUILD}/support/linkemu", *words], capture_output=True, text=True)
    assert r.returncode != 0 and text in r.stderr
