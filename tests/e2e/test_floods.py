"""The floods of HTTP/2's history (robustness.md 2.3): bounded memory, the stated end, other tunnels undisturbed."""
import os
import re
import select
import struct
import threading
import time

import hpack
import pytest
from fixtures import standing  # noqa: F401
from harness import BUILD, ask
from scripted import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
                      PROTOCOL_ERROR, RST_STREAM, SETTINGS, SETTINGS_TIMEOUT, WINDOW_UPDATE, Peer, message, request_fields)

MIB = 1 << 20


def status(relay, key):
    with open(f"/proc/{relay.p.pid}/status") as f:
        return 1024 * int(re.search(rf"^{key}:\s+(\d+)", f.read(), re.M).group(1))


def cpu_s(relay):
    with open(f"/proc/{relay.p.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """A pair of ends that talks while the flood goes on, and the relay's memory."""

    def __init__(self, standing):
        self.relay, self.pair, self.s = standing[1:]
        ask(self.s, self.pair.address, b"before")
        self.before = status(self.relay, "VmRSS")
        try:
            with open(f"/proc/{self.relay.p.pid}/clear_refs", "w") as f:
                f.write("5")  # the high-water mark begins anew
        except OSError:
            pass
        self.slowest, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.talk, daemon=True)
        self.thread.start()

    def talk(self):
        while not self.over.wait(0.02):
            self.slowest = max(self.slowest, ask(self.s, self.pair.address, os.urandom(100), 10))

    def check(self, grown=MIB):
        self.over.set()
        self.thread.join(20)
        assert self.slowest < 2, "a datagram of others waited"
        assert "reconnecting" not in self.pair.home.text() + self.pair.laptop.text()
        if not re.search("[at]san", BUILD):
            assert status(self.relay, "VmHWM") - self.before < grown


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Flooder(Peer):
    def flood(self, blocks, reads, seconds=20):
        """Sends the blocks until they are over or the relay has had enough; what it sends meanwhile is read, or not. The GOAWAY code
        that was read, if any."""
        self.s.setblocking(False)
        end, code, pending, incoming, blocks = time.monotonic() + seconds, None, b"", b"", iter(blocks)
        while time.monotonic() < end:
            if not pending:
                pending = next(blocks, b"")
            want = [self.s] if reads else []
            readable, writable, _ = select.select(want, [self.s] if pending else [], [], 0.5)
            if not pending and not readable and not reads:
                return code
            try:
                if readable:
                    data = self.s.recv(65536)
                    if not data:
                        return code
                    incoming += data
                if writable and pending:
                    pending = pending[self.s.send(pending):]
            except BlockingIOError:
                pass
            except OSError as e:
                if "did not complete" in str(e) or "want" in str(e).lower():
                    continue
                return code
            while len(incoming) >= 9 and len(incoming) >= 9 + int.from_bytes(incoming[:3], "big"):
                n = 9 + int.from_bytes(incoming[:3], "big")
                if incoming[3] == GOAWAY:
                    code = int.from_bytes(incoming[13:17], "big")
                incoming = incoming[n:]
        raise AssertionError("the relay bears it for ever")


def calls():
    """A header block of a call that stands alone, without the dynamic table."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 1024
    first = encoder.encode(request_fields())  # begins with the size of the table
    later = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*f) for f in request_fields()])
    return first, later


def opened(more, n=100_000, end_headers=END_HEADERS):
    """n calls, and behind each what `more` makes of its stream."""
    _, block = calls()
    return (frame(HEADERS, end_headers, i, block) + more(i) for i in range(3, 2 * n, 2))


def bad_name(i):
    return frame(HEADERS, END_HEADERS, i, b"\x82\x87\x84\x00\x01X\x01y")


FLOODS = {
    "T03_pings": lambda: (frame(PING, 0, 0, b"flooding") * 100 for _ in range(10_000)),
    "T03_settings": lambda: (frame(SETTINGS, 0, 0) * 100 for _ in range(10_000)),
    "T04_rapid_reset": lambda: opened(lambda i: frame(RST_STREAM, 0, i, struct.pack(">I", 8))),
    "T05_window_overflows": lambda: opened(lambda i: frame(WINDOW_UPDATE, 0, i, b"\x7f\xff\xff\xff")),
    "T05_invalid_header_fields": lambda: (bad_name(i) for i in range(3, 200_000, 2)),
    "T05_wrong_content_lengths": lambda: (
        frame(HEADERS, END_HEADERS, i, calls()[1] + b"\x0f\x0d\x015") + frame(DATA, END_STREAM, i, b"x") for i in range(3, 200_000, 2)),
    "G11_empty_data": lambda: (frame(DATA, 0, 1) * 100 for _ in range(10_000)),
    "H23_priority": lambda: (frame(PRIORITY, 0, 1, bytes(4) + b"\x05") * 100 for _ in range(10_000)),
    "window_updates": lambda: (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100 for _ in range(10_000)),
    "H27_unknown_frames": lambda: (frame(0xFA, 0, 0, b"x") * 100 for _ in range(10_000)),
    "H24_ping_acks": lambda: (frame(PING, ACK, 0, b"unasked!") * 100 for _ in range(10_000)),
}


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_its_connection_and_nothing_else(standing, flood, reads):
    relay, watch, at = standing.relay, Watch(standing), standing.relay.count()
    p = Flooder(relay.port)
    p.call()
    code = p.flood(FLOODS[flood](), reads)
    relay.wait_for(r"connection closed .*reason=(flood|protocol|tls|reset)", 15, after=at)
    ends = [ENHANCE_YOUR_CALM, None]  # None: the end overtook it
    if flood.startswith(("T04", "T05")):
        ends.append(PROTOCOL_ERROR)  # more than a hundred streams at once, where we read more slowly than it sends
    assert code in ends
    watch.check()


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_T06_settings_never_acknowledged_end_the_connection_in_time(standing, reads):
    relay, watch, at = standing.relay, Watch(standing), standing.relay.count()
    p = Flooder(relay.port, greet=False)
    p.send(PREFACE + frame(SETTINGS, 0, 0))
    first, later = calls()
    start = time.monotonic()
    code = p.flood((frame(HEADERS, END_HEADERS, i, first if i == 1 else later) for i in range(1, 200_000, 2)), reads)
    relay.wait_for(r"connection closed .*reason=(flood|protocol)", 15, after=at)
    assert time.monotonic() - start < 5 + 5
    assert code in (ENHANCE_YOUR_CALM, SETTINGS_TIMEOUT, None)
    watch.check()


def test_T06_settings_that_are_not_acknowledged_are_waited_for_five_seconds(standing):
    relay, start = standing.relay, time.monotonic()
    p = Peer(relay.port, greet=False)
    p.send(PREFACE + frame(SETTINGS, 0, 0))
    p.call(1, "/grpc.health.v1.Health/Watch")
    p.frame(DATA, END_STREAM, 1, message(b""))
    assert p.goaway() == SETTINGS_TIMEOUT
    assert 4.5 < time.monotonic() - start < 12


def test_T07_continuations_without_end_end_the_connection(standing):
    relay, watch, at = standing.relay, Watch(standing), standing.relay.count()
    p = Flooder(relay.port)
    _, block = calls()
    p.flood((frame(HEADERS if i == 0 else CONTINUATION, 0, 1, block if i == 0 else b"\x00\x01a\x01b" * 1000) for i in range(10_000)), True)
    relay.wait_for(r"connection closed .*reason=(flood|protocol)", 15, after=at)
    watch.check()


def test_T08_a_header_bomb_costs_its_stream_and_next_to_no_time(standing):
    relay, watch = standing.relay, Watch(standing)
    p = Peer(relay.port)
    bomb = p.encoder.encode(request_fields()) + b"\x40\x01x\x7f\xf9\x05" + b"v" * 888  # 921 bytes with its overhead: the whole table
    at, pieces = cpu_s(relay), [b"\xbe" * 16384] * 8
    p.frame(HEADERS, 0, 1, bomb)
    for i, piece in enumerate(pieces[:7]):
        p.frame(CONTINUATION, END_HEADERS if i == 6 else 0, 1, piece)
    p.rst()
    p.encoder, p.decoder = hpack.Encoder(), p.decoder
    p.encoder.header_table_size = 1024
    p.call(3, "/unknown")
    assert p.answer(3)["grpc-status"] == "12"
    assert cpu_s(relay) - at < 0.25  # the 0.3 s of 115 000 header fields, and those of everybody else
    watch.check()
