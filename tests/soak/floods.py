"""Each attack of robustness.md 2.3 (and slow starters) by a scripted peer, until the relay ends it or some seconds passed."""
import os
import random
import socket
import ssl
import struct
import threading
import time

from scripted import (CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM,
                      SETTINGS, WINDOW_UPDATE, Peer, register, request_fields)

SECONDS = 4


def head(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def repeat(p, data, reads=False):
    end = time.monotonic() + SECONDS
    while not p.closed and time.monotonic() < end:
        p.send(data * 100)
        if reads:
            p.s.settimeout(0.001)
            try:
                while p.s.recv(65536):
                    pass
                return
            except TimeoutError:
                pass
            except (OSError, ssl.SSLError):
                return
            finally:
                p.s.settimeout(5)


def streams(p, n, after_each):
    for i in range(n):
        if p.closed:
            return
        p.call(2 * i + 1)
        p.send(after_each(2 * i + 1))


def pings_read(p, _):
    repeat(p, head(PING, 0, 0, b"12345678"), reads=True)


def pings_unread(p, _):
    repeat(p, head(PING, 0, 0, b"12345678"))


def settings_unread(p, _):
    repeat(p, head(SETTINGS, 0, 0, b""))


def rapid_reset(p, _):
    streams(p, 600, lambda i: head(RST_STREAM, 0, i, struct.pack(">I", CANCEL)))


def window_overflow(p, _):
    streams(p, 300, lambda i: head(WINDOW_UPDATE, 0, i, b"\x7f\xff\xff\xff"))


def invalid_header(p, _):
    for i in range(300):
        p.headers(2 * i + 1, request_fields("/x", ("X-Upper", "v")))


def content_length_that_lies(p, _):
    for i in range(300):
        p.headers(2 * i + 1, request_fields("/x", ("content-length", "5")))
        p.frame(DATA, END_STREAM, 2 * i + 1, b"123456789")


def streams_beyond_the_limit(p, _):
    streams(p, 3000, lambda i: b"")


def empty_data(p, _):
    p.call()
    repeat(p, head(DATA, 0, 1, b""))


def priorities(p, _):
    repeat(p, head(PRIORITY, 0, 1, bytes(4) + b"\x05"))


def window_updates(p, _):
    repeat(p, head(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"))


def unknown_frames(p, _):
    repeat(p, head(0xFA, 0, 0, b"x" * 50))


def header_bomb(p, _):
    for i in range(50):
        p.headers(2 * i + 1, request_fields("/x", ("x-long", "v" * 3000)), 0)
        for _ in range(8):
            p.frame(CONTINUATION, 0, 2 * i + 1, b"\xbe" * 16000)
        p.frame(CONTINUATION, END_HEADERS, 2 * i + 1, b"")


def continuations(p, _):
    p.headers(1, request_fields(), 0)
    repeat(p, head(CONTINUATION, 0, 1, b"\x00\x01a\x01b"))


def garbage(p, _):
    for _ in range(20):
        p.send(os.urandom(5000))


def bad_tokens(p, token):
    for i in range(100):
        p.call(2 * i + 1)
        p.frame(DATA, 0, 2 * i + 1, register(token[:-1] + "x", b"flood-bad"))


def zero_window(p, token):
    """Registers, allows no byte, and makes the relay say something again and again."""
    p.frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    p.call()
    p.frame(DATA, 0, 1, register(token, f"flood-{random.getrandbits(32):x}".encode()))
    check = b"\x2a\x02\x08\x01"  # health_check
    repeat(p, head(DATA, 0, 1, b"\0" + struct.pack(">I", len(check)) + check))


def huge_messages(p, _):
    p.call()
    p.frame(DATA, 0, 1, b"\0\xff\xff\xff\xff" + b"x" * 1000)


WITH_PEER = [pings_read, pings_unread, settings_unread, rapid_reset, window_overflow, invalid_header, content_length_that_lies,
             streams_beyond_the_limit, empty_data, priorities, window_updates, unknown_frames, header_bomb, continuations, garbage,
             bad_tokens, zero_window, huge_messages]


def half_open(port, source, _):
    """TCP that says nothing, or part of a TLS hello."""
    held = []
    for i in range(30):
        s = socket.create_connection(("127.0.0.1", port), 5, (source, 0))
        if i % 2:
            s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:1 + i // 3])
        held.append(s)
    time.sleep(SECONDS)
    for s in held:
        s.close()


def never_acknowledges_settings(port, source, _):
    p = Peer(port, greet=False, source=source)
    p.send(PREFACE + head(SETTINGS, 0, 0, b""))
    for i in range(3000):
        p.headers(2 * i + 1, request_fields("/x"))
    p.close()


def slow_starter(port, source, _):
    """One byte at a time: preface, then a header block."""
    p = Peer(port, greet=False, source=source)
    end, block = time.monotonic() + SECONDS, PREFACE + head(SETTINGS, 0, 0, b"") + head(HEADERS, 0, 1, b"\x3f\xe1\x07\x82" * 50)
    for byte in block:
        if p.closed or time.monotonic() > end:
            break
        p.send(bytes([byte]))
        time.sleep(0.03)
    p.close()


WITHOUT_PEER = [half_open, never_acknowledges_settings, slow_starter]


class Floods:
    """Threads that attack at random while they may."""

    def __init__(self, port, token, seed, n=2):
        self.port, self.token, self.counts, self.lock = port, token, {}, threading.Lock()
        self.may, self.over, self.busy = threading.Event(), threading.Event(), 0
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed + i), i), daemon=True) for i in range(n)]
        for t in self.threads:
            t.start()

    def one(self, rng, source):
        flood = rng.choice(WITH_PEER + WITHOUT_PEER)
        with self.lock:
            self.counts[flood.__name__] = self.counts.get(flood.__name__, 0) + 1
        if flood in WITHOUT_PEER:
            flood(self.port, source, self.token)
            return
        p = Peer(self.port, source=source)
        p.s.settimeout(5)
        try:
            flood(p, self.token)
        finally:
            p.close()

    def run(self, rng, number):
        n = 0
        while not self.over.is_set():
            if not self.may.wait(0.2):
                continue
            n += 1
            with self.lock:
                self.busy += 1
            try:
                self.one(rng, f"127.{251 + number % 4}.{n % 250}.{1 + n // 250 % 250}")
            except (OSError, ssl.SSLError, AssertionError):
                pass  # cut off: what they are for
            with self.lock:
                self.busy -= 1

    def stop(self):
        self.over.set()
        self.may.set()
        for t in self.threads:
            t.join(30)


