"""UDP_SEGMENT and UDP_GRO: datagrams that travel together, and that they need not."""
import itertools
import json
import os
import random
import socket
import struct

import pytest
from harness import BUILD, ask, endpoint, free_port, sh

UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h
SIZES = [1420, 1420, 1420, 1280, 200, 1, 0, 9000]


def split(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)] if size else [data]


class Port:
    """A local program's socket; .reads counts how often it had to look."""

    def __init__(self, world, gso, gro):
        self.s, self.gso, self.reads, self.got = world.socket(), gso, 0, []
        self.s.settimeout(10)
        if gro:
            self.s.setsockopt(socket.SOL_UDP, UDP_GRO, 1)

    def send(self, run, to):
        """Datagrams of one size, the last may be shorter."""
        if self.gso and len(run) > 1 and run[0]:
            self.s.sendmsg([b"".join(run)], [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("H", len(run[0])))], 0, to)
        else:
            for d in run:
                self.s.sendto(d, to)

    def take(self, n):
        """The next n or more datagrams; gives who sent the last."""
        self.got = []
        while len(self.got) < n:
            data, cmsgs, _, who = self.s.recvmsg(65536, 256)
            size = next((struct.unpack("i", d[:4])[0] for level, kind, d in cmsgs if (level, kind) == (socket.SOL_UDP, UDP_GRO)), 0)
            self.got += split(data, size)
            self.reads += 1
        return who


def some_run(rng):
    size = rng.choice(SIZES + [rng.randrange(20000)])
    n = rng.randrange(1, min(40, 45000 // max(size, 1)) + 1)
    run = [rng.randbytes(size) for _ in range(n)]
    if size > 1 and rng.random() < 0.5:
        run.append(rng.randbytes(rng.randrange(1, size)))
    return run if size else run[:3]


@pytest.mark.parametrize("gso,gro", itertools.product([True, False], repeat=2), ids=lambda on: "together" if on else "singly")
def test_bursts_of_any_sizes_arrive_in_order_and_whole_both_ways(world, relay, gso, gro):
    rng = random.Random(4)
    near, far = Port(world, gso, gro), Port(world, gso, gro)
    home = world.end(relay, far.s.getsockname()[1], "home", "laptop", "--forward")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen")
    there = endpoint(laptop)
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    near.send([b"start"], there)
    back = far.take(1)
    n, near.reads, far.reads = 0, 0, 0
    for _ in range(50):
        for one, to, other in ((near, there, far), (far, back, near)):
            runs = [some_run(rng) for _ in range(rng.randrange(1, 5))]
            sent = [d for run in runs for d in run]
            for run in runs:
                one.send(run, to)
            other.take(len(sent))
            assert other.got == sent
            n += len(sent)
    assert n > 2000
    if gso and gro:  # what came together goes together
        assert near.reads + far.reads < n / 2


@pytest.mark.root
def test_where_the_path_is_too_narrow_for_groups_all_arrive_all_the_same(world):
    """Segments do not fragment, datagrams do: the kernel refuses the one and takes the other.

    Each way between two sockets has addresses of its own: fragments are told apart by addresses and a 16-bit id
    alone, so two fast senders on one pair of addresses lose datagrams to each other (RFC 4963).
    """
    ns = f"t{os.getpid() % 100000}o"
    sh("ip", "netns", "add", ns)
    world.cleanups.append(lambda: sh("ip", "netns", "del", ns, check=False))
    sh("ip", "link", "set", "lo", "mtu", "1300", "up", ns=ns)

    def udpgen(*words):
        return world.program([f"{BUILD}/support/udpgen", *words], ns=ns)

    relay = world.relay(ns=ns)
    echo = udpgen("echo", "127.0.0.2:0").wait_for(r"port (\d+)").group(1)
    home = world.end(relay, int(echo), "home", "laptop", "--forward", "127.0.0.2", ns=ns)
    laptop = world.end(relay, 51820, "laptop", "home", "--listen", "127.0.0.3", ns=ns)
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    refused = udpgen("send", f"127.0.0.2:{echo}", "--gso", "--size", "1420", "--rate", "0", "--seconds", "0.1")
    assert refused.exit_code() == 0 and json.loads(refused.lines[-1])["sent"] == 0
    flood = udpgen("ping", "127.0.0.3:51820", "--size", "1420", "--rate", "0", "--window", "100", "--seconds", "1")
    assert flood.exit_code() == 0
    seen = json.loads(flood.lines[-1])
    assert seen["sent"] == seen["received"] > 1000 and seen["reordered"] == seen["duplicated"] == seen["corrupt"] == 0
    for end in (home, laptop):
        assert not [name for name in end.counters() if name.startswith("drop_")]
