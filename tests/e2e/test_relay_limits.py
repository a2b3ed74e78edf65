"""Everything that `tunn relay` reads from a relay has a limit and a deadline."""
import os
import socket
import struct
import threading
import time

import pytest
from harness import BUILD, answered, endpoint
from scripted import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS,
                      WINDOW_UPDATE, field, message)
from scripted_relay import (GRPC, Relay, draining, peer_status, quota, registered, settings, udp, varint)

AGAIN = r"reconnecting (now|in [\d.]+ s|in \d+ min) because: "
MEGABYTES = 400 if "san" in BUILD else 40  # sanitizers keep what was freed
FLOOD = AGAIN + "sent more than a connection may"


@pytest.fixture
def fake(world):
    return Relay(world)


def memory(end):
    with open(f"/proc/{end.p.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) >> 10


def back(fake, end):
    fake.accept().admit()
    end.wait_for("connected again")


def raw(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# -- floods of frames

FLOODS = {
    "settings": (SETTINGS, 0, 0, b""),
    "pings": (PING, 0, 0, b"12345678"),
    "ping_answers": (PING, ACK, 0, b"12345678"),
    "priority": (PRIORITY, 0, 1, bytes(4) + b"\x05"),
    "unknown_frames": (0xFA, 0, 0, b"x"),
    "empty_data": (DATA, 0, 1, b""),
    "window_updates": (WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
    "informational_answers": (HEADERS, END_HEADERS, 1, b"\x08\x03103"),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_of_frames_end_the_connection(fake, kind):
    end = fake.end()
    c = fake.accept()
    c.request()
    if kind != "informational_answers":
        c.headers(1, GRPC)
        c.data(registered())
        end.wait_for("connected as me")
    threading.Thread(target=c.ended, daemon=True).start()  # it reads, so that ours are not held up
    for _ in range(40):
        c.send(raw(*FLOODS[kind]) * 100)
    end.wait_for(FLOOD)
    assert memory(end) < MEGABYTES
    fake.accept().admit()
    end.wait_for("connected")


BROKEN = {
    "settings_of_33_entries": [(SETTINGS, 0, 0, settings(max_frame_size=16384) * 33)],
    "a_window_that_overflows": [(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")],
    "a_pushed_stream": [(PUSH_PROMISE, END_HEADERS, 1, bytes([0, 0, 0, 2, 0x82]))],
    "a_frame_too_large": [(DATA, 0, 1, bytes(16385))],
    "ten_continuations": [(HEADERS, 0, 1, b"\x88")] + [(CONTINUATION, 0, 1, b"\x00\x01a\x01b")] * 10,
    "a_bomb_of_headers": [(HEADERS, 0, 1, b"\x40\x01a\x7f\xa1\x1d" + b"x" * 3872), (CONTINUATION, END_HEADERS, 1, b"\xbe" * 16000)],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_frames_end_the_connection(fake, kind):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    for frame in BROKEN[kind]:
        c.frame(*frame)
    end.wait_for(AGAIN + "(broke the protocol|sent more than a connection may|the connection was reset)")
    back(fake, end)


def test_a_relay_that_reads_no_answers_is_left(fake):
    end = fake.end()
    c = fake.accept().admit()  # and never opens the window of 64 KiB again
    end.wait_for("connected as me")
    threading.Thread(target=c.ended, daemon=True).start()
    for _ in range(500):
        c.data(message(field(5, varint(1, 77))) * 100)
    end.wait_for(AGAIN + "stopped reading")
    assert memory(end) < MEGABYTES
    back(fake, end)


# -- what takes too long

def trickle(s, data, seconds):
    """A byte ten times a second; how long the other side put up with it."""
    start = time.monotonic()
    try:
        for i in range(len(data)):
            s.send(data[i:i + 1])
            time.sleep(0.1)  # the pace is the point
            if time.monotonic() - start > seconds:
                raise AssertionError(f"still there after {seconds} s")
    except OSError:
        pass
    return time.monotonic() - start


def test_silence_instead_of_tls_is_given_up_after_10_s(fake):
    end, start = fake.end(), time.monotonic()
    fake.accept_tcp()
    end.wait_for(AGAIN + "no answer in time while connecting: the TLS handshake took too long")
    assert 8 < time.monotonic() - start < 16


def test_a_tls_handshake_that_trickles_in_is_given_up_after_10_s(fake):
    end = fake.end()
    s = fake.accept_tcp()
    s.recv(1)
    assert trickle(s, b"\x16\x03\x03\x3f\xff" + b"\x02\x00\x3f\xfb" + bytes(600), 20) < 18
    end.wait_for(AGAIN + "no answer in time while connecting: the TLS handshake took too long")


def test_settings_that_trickle_in_are_given_up_after_5_s(fake):
    end = fake.end()
    c = fake.accept(greet=False)
    assert trickle(c.s, raw(SETTINGS, 0, 0, settings(max_concurrent_streams=100) * 30), 15) < 12
    end.wait_for(AGAIN + "no answer in time")


def test_a_registration_without_answer_is_given_up_after_5_s(fake):
    end, start = fake.end(), time.monotonic()
    c = fake.accept()
    c.request()
    c.headers(1, GRPC)
    end.wait_for(AGAIN + "no answer in time while connecting: no answer to the registration within 5 s")
    assert time.monotonic() - start < 12


def test_a_header_block_that_trickles_in_is_given_up(fake):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    head = raw(HEADERS, END_HEADERS | END_STREAM, 1, bytes(300))
    assert trickle(c.s, head, 25) < 20
    end.wait_for(AGAIN)


def test_a_message_that_trickles_in_is_given_up(fake):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    start = time.monotonic()
    for byte in udp(bytes(300)):
        if c.closed or time.monotonic() - start > 25:
            break
        c.data(bytes([byte]))
        time.sleep(0.1)  # the pace is the point
    end.wait_for(AGAIN + "no answer in time while connecting: the relay stopped within a message")
    assert time.monotonic() - start < 25


# -- messages

WRONG = {
    "too_long": b"\0" + struct.pack(">I", 66561),
    "endless": b"\0\xff\xff\xff\xff",
    "compressed": b"\x01\0\0\0\0",
    "of_unknown_kind_of_frame": b"\x02\0\0\0\0",
    "no_protobuf": message(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    "registered_again": registered(),
    "of_an_end": message(field(1, b"")),
}


@pytest.mark.parametrize("kind", WRONG)
def test_messages_that_cannot_be_end_the_connection(fake, kind):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.data(WRONG[kind])
    end.wait_for(AGAIN + "(broke the protocol|message larger).*the relay sent a message that cannot be read")
    back(fake, end)


@pytest.mark.parametrize("kw", [{"account": b""}, {"account": b"UPPER"}, {"account": b"a" * 64}, {"tunnel_id": b"a/b"},
                                {"tunnel_id": b"\xff"}, {"more": field(6, b"\xff\xfe")}])
def test_a_welcome_with_impossible_names_is_refused(fake, kw):
    end = fake.end()
    fake.accept().admit(**kw)
    end.wait_for(AGAIN + "broke the protocol")


@pytest.mark.parametrize("max_payload", [0, 1, 65507, 65508, 0xffffffff])
def test_odd_largest_payloads_change_nothing(fake, world, max_payload):
    s = world.socket()
    end = fake.end()
    address = endpoint(end)
    c = fake.accept().admit(more=varint(7, max_payload))
    end.wait_for("connected as me")
    s.sendto(b"hello", address)
    assert c.read_until(lambda f: f.type == DATA and b"hello" in f.payload)
    c.data(udp(b"world"))
    assert answered(s, b"world", 10)


def test_what_does_not_fit_or_is_of_nobody_is_dropped_and_counted(fake, world):
    s = world.socket()
    end = fake.end(port=s.getsockname()[1], mode="--forward")
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.data(udp(bytes(65508)))
    for sender in (b"stranger", b"", b"main/peer", b"me", b"\xff" * 300):
        c.data(udp(b"x", sender))
    c.data(message(field(11, field(3, b"of the sender before, who is nobody"))))
    c.data(udp(b"fine"))
    assert answered(s, b"fine", 10)
    counted = end.counters()
    assert (counted["drop_too_big"], counted["drop_not_declared"]) == (1, 6), dict(counted)
    assert counted["packets_out_total"] == 1


def test_odd_news_are_ignored_or_shown_harmless(fake):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    at = end.count()
    for state in (0, 6, 7, 127, 0x7fffffff, -1 & 0xffffffff):
        c.data(peer_status(state))
    c.data(peer_status(1, b"stranger"))
    c.data(peer_status(1, text=b"\x1b[2J\r\n" * 10000))
    c.data(peer_status(2, text=b"\xff\xfe"))
    c.data(message(field(13, b"")) + message(field(13, field(3, field(1, b"\x1b[31m" * 9000)))))
    c.data(message(field(9, field(2, b"\x07" * 60000))))
    end.wait_for("peer is not there", after=at)
    assert "\x1b" not in end.text() and "\x07" not in end.text()
    assert end.count() - at <= 4
    assert fake.settle(1) == 0


def test_endless_news_do_not_flood_the_terminal(fake):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    at, now = end.count(), int(time.time())
    for i in range(3000):
        c.data(peer_status(1) + peer_status(5) + quota(i % 100, now + i))
    c.finish(14, "the end")
    end.wait_for(AGAIN + "the relay cannot serve now: the end", after=at)
    end.wait_for("lines were left out", after=at)
    assert end.count() - at < 80


@pytest.mark.parametrize("resets", [-1, 0, 1, 1 << 40, (1 << 63) - 1, -(1 << 63)])
def test_a_quota_that_never_resets_is_asked_about_once_an_hour(fake, resets):
    end = fake.end()
    c = fake.accept().admit()
    c.data(quota(100, resets))
    c.finish(8, "quota used up")
    m = end.wait_for(r"reconnecting (in [\d.]+ s|in \d+ min) because: quota used up")
    if resets > 1:
        assert m.group(1) in [f"in {minutes} min" for minutes in range(60, 67)]
    elif resets:  # over by now
        assert m.group(1) in ("in 1.0 s", "in 1.1 s")


def test_a_relay_cannot_send_us_elsewhere(fake, world):
    other = socket.create_server(("127.0.0.1", 0))
    world.cleanups.append(other.close)
    other.settimeout(0.5)
    end = fake.end()
    c = fake.accept().admit()
    c.data(draining(0, f"https://127.0.0.1:{other.getsockname()[1]}".encode()))
    back(fake, end)
    with pytest.raises(TimeoutError):
        other.accept()


# -- descriptors

def test_a_peer_with_countless_flows_leaves_enough_to_reconnect(fake, world):
    s = world.socket()
    s.setblocking(False)
    end = fake.end(port=s.getsockname()[1], mode="--forward", within=["prlimit", "--nofile=200:200"])
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.data(udp(b"first"))
    for flow in range(1, 3000):
        c.data(udp(b"x", flow=flow))
        try:
            s.recv(100)
        except BlockingIOError:
            pass
    c.data(udp(b"last"))
    assert answered(s, b"last", 10)
    assert len(os.listdir(f"/proc/{end.p.pid}/fd")) <= 200 - 32
    c.s.close()
    again = fake.accept().admit()
    end.wait_for("connected again")
    again.data(udp(b"after"))
    assert answered(s, b"after", 10)
