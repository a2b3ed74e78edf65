"""Who shares a destination, or a relay with one that is stuck: each has its share, and every datagram is accounted for."""
import collections
import select
import struct
import threading
import time

import pytest
from harness import endpoint, free_port
from scripted import ACK, DATA, PREFACE, SETTINGS, WINDOW_UPDATE, Peer, register

SIZE = 1400


def varint(data, at):
    value = shift = 0
    while True:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """The length-delimited fields of a message, by number."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            found[key >> 3] = data[at:at + value]
            at += value
    return found


class Receiver:
    """A registered end that takes as much as it is told to: .got counts datagrams by sender, .order keeps their numbers."""

    def __init__(self, relay, name, peers):
        self.got, self.order = collections.Counter(), collections.defaultdict(list)
        self.sender, self.buffer, self.lock = None, b"", threading.Lock()
        p = self.peer = Peer(relay.port, greet=False)
        p.send(PREFACE)
        p.frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
        p.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
        p.read_until(lambda f: f.type == SETTINGS and not f.flags & ACK)
        p.frame(SETTINGS, ACK)
        p.call()
        with open(relay.token, encoding="ascii") as f:
            p.frame(DATA, 0, 1, register(f.read().strip(), name.encode(), [w.encode() for w in peers]))

    def allow(self, n):
        with self.lock:
            self.peer.frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", n))

    def next_frame(self):
        """A TLS connection bears one thread at a time: nobody holds it who waits."""
        with self.lock:
            has_some = self.peer.buffer or self.peer.s.pending()
        while not has_some:
            has_some = select.select([self.peer.s], [], [], 1)[0]
        with self.lock:
            return self.peer.read()

    def read(self):
        """What comes until the connection ends."""
        while f := self.next_frame():
            if f.type == DATA:
                self.take(f.payload)

    def take(self, data):
        self.buffer += data
        while len(self.buffer) >= 5 and len(self.buffer) >= 5 + int.from_bytes(self.buffer[1:5], "big"):
            end = 5 + int.from_bytes(self.buffer[1:5], "big")
            message, self.buffer = fields(self.buffer[5:end]), self.buffer[end:]
            if 11 in message:
                packet = fields(message[11])
                self.sender = packet.get(1, self.sender)
                self.got[self.sender.decode()] += 1
                self.order[self.sender.decode()].append(int.from_bytes(packet[3][:4], "big"))

    def start(self):
        thread = threading.Thread(target=self.read, daemon=True)
        thread.start()
        return thread


def speak(world, relay, me, peers):
    """An end that listens for each of the peers, and where."""
    end = world.end(relay, free_port(), me, peers, "--listen")
    return end, endpoint(end)


class Sender:
    """Numbered datagrams at a rate, from a thread of its own."""

    def __init__(self, s, address, rate):
        self.s, self.address, self.rate, self.n, self.over = s, address, rate, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        start = time.monotonic()
        while not self.over.wait(0.002):  # the pace is the point
            due = int((time.monotonic() - start) * self.rate)
            while self.n < due:
                self.s.sendto(self.n.to_bytes(4, "big") + bytes(SIZE - 4), self.address)
                self.n += 1

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.n


def drops(counters):
    return sum(v for k, v in counters.items() if k.startswith("drop_")) + counters["udp_overflows_total"]


class Books:
    """What became of all datagrams, from the counters of the relay and of the ends that sent them."""

    def __init__(self, relay, *ends):
        self.relay, self.programs = relay, (relay, *ends)
        self.before = [p.counters() for p in self.programs]

    def read(self):
        return [collections.Counter(p.counters()) for p in self.programs]

    def settle(self, sent, received, seconds=20):
        """Once every datagram is delivered or counted; the relay's counters."""
        end = time.monotonic() + seconds
        while True:
            now = self.read()
            dropped = sum(drops(a) - drops(b) for a, b in zip(now, self.before))
            if received() + dropped == sent:
                return now[0]
            assert time.monotonic() < end, f"of {sent} sent {received()} came and {dropped} were dropped: {now}"
            select.select([], [], [], 0.05)


# -- two senders, one slow destination

SHARE = 200  # datagrams a second that the receiver takes
RATES = {"of_who_sends_a_tenth_all_arrives": (60, 600), "who_have_too_much_get_the_same": (400, 4000)}


@pytest.mark.parametrize("calm, wild", RATES.values(), ids=RATES)
def test_two_sources_to_one_slow_destination_each_get_their_share(world, calm, wild):
    relay = world.relay()
    slow = Receiver(relay, "slow", ["calm", "wild"])
    slow.allow(1000)  # the answer to the registration
    slow.start()
    ends = {name: speak(world, relay, name, "slow") for name in ("calm", "wild")}
    for end, _ in ends.values():
        end.wait_for("slow is up")
    books = Books(relay, *(end for end, _ in ends.values()))
    senders = {name: Sender(world.socket(), ends[name][1], rate) for name, rate in (("calm", calm), ("wild", wild))}
    start, allowed = time.monotonic(), 0
    while allowed < 4 * SHARE:
        due = int((time.monotonic() - start) * SHARE)
        if due > allowed:
            slow.allow((due - allowed) * (SIZE + 25))
            allowed = due
        time.sleep(0.002)  # the pace is the point
    sent = {name: s.stop() for name, s in senders.items()}
    got = collections.Counter(slow.got)
    slow.allow(1 << 20)  # what is left and not too old comes now
    books.settle(sum(sent.values()), lambda: sum(slow.got.values()))
    for numbers in slow.order.values():
        assert numbers == sorted(set(numbers))
    if calm < SHARE / 2:
        assert got["calm"] > 0.8 * sent["calm"], (got, sent)
        assert got["wild"] > 0.4 * allowed, (got, sent)
    else:
        assert got["calm"] > 0.5 * got["wild"], (got, sent)


# -- a receiver that stops reading

def test_a_receiver_that_stops_reading_slows_neither_its_sender_nor_other_receivers_and_is_cut(world):
    """One end sends to two others; who reads gets everything, and so does the other pair."""
    relay = world.relay()
    stuck = Receiver(relay, "stuck", ["feeder"])
    reader = Receiver(relay, "reader", ["feeder", "writer"])
    for r in (stuck, reader):
        r.allow((1 << 31) - 1 - 65535)
    reader.start()
    feeder = world.end(relay, free_port(), "feeder", ["stuck", "reader"], "--listen")
    found = (feeder.wait_for(rf"([\d.]+):(\d+) for {n}\b") for n in ("stuck", "reader"))
    to_stuck, feeder_to_reader = ((m[1], int(m[2])) for m in found)
    writer, to_reader = speak(world, relay, "writer", "reader")
    writer.wait_for("reader is up")
    feeder.wait_for("stuck is up")
    feeder.wait_for("reader is up")
    books = Books(relay, feeder, writer)
    flood = Sender(world.socket(), to_stuck, 3000)
    steady = {"feeder": Sender(world.socket(), feeder_to_reader, 200), "writer": Sender(world.socket(), to_reader, 200)}
    at = time.monotonic()
    left = relay.wait_for(r"end left id=stuck .*reason=stalled packets_in=0 packets_out=(\d+) dropped=(\d+)", 30)
    assert 4 < time.monotonic() - at < 15  # filling the buffers, 5 s, and the machine's own pauses
    sent = {name: s.stop() for name, s in steady.items()}
    n_flood = flood.stop()
    sealed = int(left[1]) - int(left[2])
    books.settle(n_flood + sum(sent.values()), lambda: sealed + sum(reader.got.values()))
    for name, n in sent.items():
        order = reader.order[name]
        assert order == sorted(set(order)) and len(order) > 0.9 * n  # a few are too old where the machine has no time
    assert sealed * SIZE < 8 << 20, sealed  # what the two sockets' buffers hold
    assert "reconnecting" not in feeder.text() + writer.text()
