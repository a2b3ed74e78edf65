"""Limits of a connection and of newcomers: their defaults hold, the config file changes them, honest ends get in."""
import os
import select
import signal
import socket
import statistics
import subprocess
import time

import pytest
from harness import SANITIZED, TUNN, ask
from scripted import (ACK, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE,
                      Peer, message, register, request_fields, settings_of)


def limited(world, text, name="limits"):
    path = f"{world.tmp}/{name}.yaml"
    with open(path, "w") as f:
        f.write(text)
    return world.relay(args=["--config", path], name=name), path


def rss_kb(p):
    with open(f"/proc/{p.p.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def n_fds(p):
    return len(os.listdir(f"/proc/{p.p.pid}/fd"))


def seconds_until_closed(s, dribble, at_most=40):
    """Sends one byte of `dribble` at a time until the other side ends the connection."""
    start = time.monotonic()
    s.settimeout(0.2)
    for byte in dribble:
        try:
            s.sendall(bytes([byte]))
            if s.recv(65536) == b"":
                break
        except (TimeoutError, socket.timeout):
            pass
        except OSError:
            break
        assert time.monotonic() - start < at_most, "still open"
    return time.monotonic() - start


# -- newcomers

HALF_OPEN = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (6000, 6000))
port, n = int(sys.argv[1]), int(sys.argv[2])
held, refused = [], 0
for i in range(n):
    s = socket.socket(); s.bind((f"127.{1 + i % 200}.{i // 200 % 250}.{1 + i // 3000}", 0)); s.setblocking(False)
    s.connect_ex(("127.0.0.1", port)); held.append(s)
print("held", len(held), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs more descriptors than a user has")
def test_T01_five_thousand_half_open_connections_leave_room_for_an_honest_end(world):
    relay, _ = limited(world, "limits:\n  handshake: 600s\n")
    pair, s = world.pair(relay), world.socket()
    before = n_fds(relay)
    flood = subprocess.Popen(["/usr/bin/python3", "-c", HALF_OPEN, str(relay.port), "5000"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    world.cleanups.append(lambda: (flood.kill(), flood.wait()))
    assert flood.stdout.readline() == "held 5000\n"
    took = []
    for _ in range(40):
        start = time.monotonic()
        while True:
            try:
                Peer(relay.port).close()
                break
            except OSError:  # turned away: once more, as an end does
                assert time.monotonic() - start < 20
        took.append(time.monotonic() - start)
    assert statistics.quantiles(took, n=20)[-1] < 1 + 1  # p95; the machine may be busy
    assert n_fds(relay) - before <= 1024 + 10
    counters = relay.counters()
    assert counters["connections_turned_away_total"] + counters["close_crowded"] > 3000
    ask(s, pair.address, os.urandom(100))
    flood.stdin.close()
    flood.wait(20)


def test_T01_one_network_gets_its_share_and_the_log_says_so(world):
    relay, _ = limited(world, "limits:\n  newcomers-per-network: 3\n")
    held = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(3)]
    relay.wait_for_counter("connections_accepted_total", 3)
    with pytest.raises(OSError):
        Peer(relay.port)
    relay.wait_for(r"turning away new connections.*from 127.0.0.1.*newcomers-per-network 3")
    other = socket.socket()
    other.bind(("127.9.9.9", 0))
    other.connect(("127.0.0.1", relay.port))
    other.settimeout(0.5)
    with pytest.raises(TimeoutError):
        other.recv(1)  # it is let in: nobody closes it
    for s in held:
        s.close()
    for _ in range(100):  # its place is free once the relay has seen the end of one
        try:
            Peer(relay.port).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("still turned away")


def test_admitted_ends_and_health_checkers_are_no_newcomers(world):
    relay, _ = limited(world, "limits:\n  newcomers-per-network: 2\n")
    token = open(relay.token).read().strip()
    peers = []
    for i in range(6):
        p = Peer(relay.port)
        if i % 2:
            p.call()
            p.frame(0, 0, 1, register(token, b"end-%d" % i))
            p.read_until(lambda f: f.type == 0)
        else:
            p.call(1, "/grpc.health.v1.Health/Check")
            p.frame(0, 1, 1, message(b""))
            assert p.answer()["grpc-status"] == "0"
        peers.append(p)
    assert all(p.is_alive() for p in peers)


def test_an_end_that_asks_for_health_first_takes_no_load_balancers_place(world):
    relay, _ = limited(world, "limits:\n  health-connections: 1\n  register: 2s\n")
    end, balancer = Peer(relay.port), Peer(relay.port)
    assert health_checks(end, 1) == 1
    end.call(3)
    end.frame(0, 0, 3, register(open(relay.token).read().strip(), b"end"))
    relay.wait_for("end joined")
    assert health_checks(balancer, 1) == 1
    assert Peer(relay.port).ended()  # by its deadline, and that is later than the balancer's
    assert balancer.is_alive()


# -- deadlines, none of them extended by bytes that trickle in

SHORT = "limits:\n  handshake: 2s\n  preface: 2s\n  register: 3s\n  header-block: 2s\n  message: 2s\n"


@pytest.fixture
def short(world):
    return limited(world, SHORT)[0]


def test_T02_a_tls_handshake_that_trickles_in_ends_at_its_deadline(short):
    hello = bytes.fromhex("16030101000100fc0303") + bytes(200)
    assert 1.5 < seconds_until_closed(socket.create_connection(("127.0.0.1", short.port)), hello) < 8


def test_H07_a_preface_that_trickles_in_ends_at_its_deadline(short):
    p = Peer(short.port, greet=False)
    assert 1.5 < seconds_until_closed(p.s, PREFACE * 2) < 8


def test_T02_a_header_block_that_trickles_in_ends_at_its_deadline(short):
    p = Peer(short.port)
    block = p.encoder.encode(request_fields())
    p.send((len(block) + 100).to_bytes(3, "big") + bytes([HEADERS, END_HEADERS]) + (1).to_bytes(4, "big") + block)
    p.s.settimeout(0.1)
    assert 1.5 < seconds_until_closed(p.s, bytes(100)) < 8


def test_T07_a_header_block_that_never_ends_ends_at_its_deadline(short):
    p = Peer(short.port)
    start = time.monotonic()
    p.headers(1, request_fields(), 0)
    p.frame(9, 0, 1, b"")
    assert p.goaway() == 11
    assert 1.5 < time.monotonic() - start < 8


def test_T02_a_message_that_trickles_in_ends_its_stream_at_the_deadline(short):
    p, token = Peer(short.port), open(short.token).read().strip()
    p.call()
    p.frame(0, 0, 1, register(token))
    p.read_until(lambda f: f.type == 0)
    start = time.monotonic()
    for byte in message(bytes(50)):
        p.frame(0, 0, 1, bytes([byte]))
        if select.select([p.s], [], [], 0.2)[0]:
            break
    assert p.answer()["grpc-status"] == "4"
    assert 1.5 < time.monotonic() - start < 8
    assert p.is_alive()


def test_T02_a_connection_that_registers_nothing_ends_at_its_deadline(short):
    p = Peer(short.port)
    start = time.monotonic()
    p.call()
    assert p.ended()
    assert 2 < time.monotonic() - start < 10


def test_T02_many_dribblers_do_not_grow_the_relay(world):
    relay, _ = limited(world, "limits:\n  newcomers-per-network: 1000\n")
    Peer(relay.port).close()
    before = rss_kb(relay)
    held = []
    for _ in range(200):
        s = socket.create_connection(("127.0.0.1", relay.port))
        s.sendall(bytes.fromhex("16030101000100fc0303"))
        held.append(s)
    relay.counters()
    assert SANITIZED or rss_kb(relay) - before < 200 * 60  # an SSL object each, and no more


# -- control

def test_T03_S20_the_goaway_of_a_ping_flood_says_too_many_pings(world):
    p = Peer(world.relay().port)
    for _ in range(100):
        p.frame(PING, 0, 0, b"flooding")
    f = p.read_until(lambda f: f.type == 7)
    assert (int.from_bytes(f.payload[4:8], "big"), f.payload[8:]) == (11, b"too_many_pings")


def test_control_frames_rest_the_reading_before_they_end_the_connection(world):
    relay, _ = limited(world, "limits:\n  control-burst: 20\n  control-rate: 1000\n")
    p = Peer(relay.port)
    p.read_until(lambda f: f.type == SETTINGS and f.flags & ACK)  # of the greeting
    for _ in range(5):  # each time over the burst, never twice over it
        p.send((bytes(3) + bytes([SETTINGS]) + bytes(5)) * 30)
        for _ in range(30):
            p.read_until(lambda f: f.type == SETTINGS and f.flags & ACK)
        start = time.monotonic()
        p.frame(SETTINGS)
        p.read_until(lambda f: f.type == SETTINGS and f.flags & ACK)
        assert time.monotonic() - start > 0.05  # it was not read before; then the budget is full again
    assert relay.counters()["close_flood"] == 0


def test_streams_opened_too_fast_are_refused(world):
    relay, _ = limited(world, "limits:\n  streams-burst: 20\n  streams-rate: 1\n")
    p, refused = Peer(relay.port), 0
    with p.at_once():
        for i in range(46):
            p.headers(2 * i + 1, request_fields("/unknown"), END_HEADERS | END_STREAM)
    for _ in range(46):
        f = p.read_until(lambda f: f.type in (RST_STREAM, HEADERS))
        refused += f.type == RST_STREAM and int.from_bytes(f.payload, "big") == REFUSED_STREAM
    assert refused == 6  # the burst, as many again, and no more
    assert p.is_alive()


def health_checks(p, n, first=1):
    """How many of n checks, ten at a time, were answered OK; streams from `first` on."""
    good = 0
    for at in range(first, first + 2 * n, 20):
        batch = range(at, min(at + 20, first + 2 * n), 2)
        for i in batch:
            p.call(i, "/grpc.health.v1.Health/Check")
            p.frame(0, 1, i, message(b""))
        p.frame(WINDOW_UPDATE, 0, 0, (1000).to_bytes(4, "big"))
        good += sum(p.answer(i)["grpc-status"] == "0" for i in batch)
    return good


def test_G20_a_thousand_health_checks_are_slowed_down_and_all_answered(world):
    assert health_checks(Peer(world.relay().port), 1000) == 1000


def test_G20_ten_thousand_health_checks_on_one_connection_leave_memory_flat(world):
    relay, _ = limited(world, "limits:\n  streams-rate: 100000\n  streams-burst: 100000\n  control-rate: 100000\n  control-burst: 100000\n")
    p = Peer(relay.port)
    assert health_checks(p, 1000) == 1000
    before = rss_kb(relay)
    assert health_checks(p, 9000, first=2001) == 9000
    assert SANITIZED or rss_kb(relay) - before < 512


def say(p, line, answer):
    p.stdin.write(line)
    p.stdin.flush()
    seen = ""
    while answer not in seen:
        chunk = p.stdout.readline()
        if not chunk:
            return False
        seen += chunk
    return True


def s_client(world, relay, *args):
    p = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-alpn", "h2", *args],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    world.cleanups.append(lambda: (p.kill(), p.wait()))
    while "Verify return code" not in p.stdout.readline():
        pass
    return p


def test_H32_key_updates_are_counted_and_end_the_connection(world):
    relay = world.relay()
    p, n = s_client(world, relay, "-tls1_3"), 0
    try:
        while n < 5000 and say(p, "k\n", "KEYUPDATE"):
            n += 1
    except BrokenPipeError:
        pass
    assert 30 <= n < 5000
    relay.wait_for("reason=flood: too many TLS KeyUpdate messages")


# -- the config file

def test_limits_come_from_the_config_file_and_again_with_a_reload(world):
    relay, path = limited(world, "limits:\n  streams: 3\n  header-list: 2KiB\n  queued-bytes: 1MiB\n")
    said = settings_of(relay.port)
    assert (said[3], said[6]) == (3, 2048)
    with open(path, "w") as f:
        f.write("limits:\n  streams: 4\n")
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded")
    for _ in range(50):  # the news reaches the worker by mail
        if settings_of(relay.port)[3] == 4:
            return
    raise AssertionError("still the old limit")


@pytest.mark.parametrize("text, words", [
    ("limits:\n  streams: 0\n", "{}:2:12: limits.streams must be a number from 1 to 10000"),
    ("limits:\n  stream: 3\n", '{}:2:3: unknown key "limits.stream", did you mean "limits.streams"?'),
    ("limits:\n  preface: 5\n", "{}:2:12: limits.preface must be a time"),
    ("limits:\n  header-list: 10XB\n", "{}:2:16: limits.header-list must be a size"),
    ("limits:\n  header-list: 18446744073709551616\n", "{}:2:16: limits.header-list must be a size"),
    ("limits:\n  header-list: -1\n", "{}:2:16: limits.header-list must be a size"),
    ("limits:\n  header-list: 1e999\n", "{}:2:16: limits.header-list must be a size"),
    ("limits: 3\n", '{}:1:9: limits must be on or off, not "3"'),
    ("limits:\n  penalty: maybe\n", '{}:2:12: limits.penalty must be on or off'),
])
def test_C15_C22_a_limit_that_is_none_is_refused_with_file_and_line(tmp_path, text, words):
    path = f"{tmp_path}/c.yaml"
    with open(path, "w") as f:
        f.write(text)
    r = subprocess.run([TUNN, "server", "--config", path, "--state", str(tmp_path)], capture_output=True, text=True, check=False)
    assert r.returncode == 2
    assert words.format(path) in r.stderr
