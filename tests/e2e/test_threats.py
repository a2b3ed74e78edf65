"""Rows of the threat table (T) and of tokens (A) against the real relay and the real end."""
import gzip
import os
import re
import socket
import sqlite3
import ssl
import struct
import subprocess
import threading
import time

import pytest
from fixtures import peer, standing, undisturbed as relay  # noqa: F401
from harness import BUILD, ROOT, TUNN, ask, free_port
from scripted import (ACK, DATA, END_HEADERS, GOAWAY, HEADERS, PING, PRIORITY, PROTOCOL_ERROR, RST_STREAM, SETTINGS, TUNNEL,
                      WINDOW_UPDATE, Peer, field, message, register, token_with, varied)

MIB = 1 << 20
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAUTHENTICATED = "3", "8", "12", "13", "16"


def memory(process, name):
    with open(f"/proc/{process.p.pid}/status") as f:
        return int(re.search(rf"{name}:\s+(\d+) kB", f.read()).group(1)) * 1024


class Growth:
    """How far resident memory rose at most. Sanitizers keep what is freed: they are not measured."""

    def __init__(self, process):
        self.process, self.before = process, memory(process, "VmRSS")
        try:
            with open(f"/proc/{process.p.pid}/clear_refs", "w") as f:
                f.write("5")  # the high-water mark begins anew
        except OSError:
            pass

    def assert_below(self, limit):
        if not re.search("[at]san", BUILD):
            assert memory(self.process, "VmHWM") - self.before < limit


# -- HTTP/2 and gRPC

FOLLOWERS = {
    "settings_of_7_bytes": (SETTINGS, 0, 0, b"1234567"),
    "settings_ack_with_payload": (SETTINGS, ACK, 0, b"123456"),
    "ping_of_7_bytes": (PING, 0, 0, b"1234567"),
    "data_on_stream_0": (DATA, 0, 0, b"x"),
    "data_on_idle_stream": (DATA, 0, 99, b"x"),
    "headers_of_garbage": (HEADERS, END_HEADERS, 3, b"\xff\xff\xff\x7f"),
    "headers_on_stream_0": (HEADERS, END_HEADERS, 0, b"\x82"),
    "continuation_alone": (9, END_HEADERS, 1, b"\x82"),
    "rst_of_3_bytes": (RST_STREAM, 0, 1, bytes(3)),
    "priority_of_4_bytes": (PRIORITY, 0, 1, bytes(4)),
    "window_update_of_0": (WINDOW_UPDATE, 0, 0, bytes(4)),
    "frame_beyond_16384": (DATA, 0, 1, bytes(20000)),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_T09_a_malformed_frame_behind_the_one_that_ended_the_connection(peer, name):
    def raw(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    peer.call()
    peer.send(raw(PING, 0, 1, b"12345678") + raw(*FOLLOWERS[name]) * 3)  # in one write
    assert peer.goaway() == PROTOCOL_ERROR


def test_T11_a_compression_bomb_is_not_opened(relay, peer):
    bomb = gzip.compress(bytes(64 * MIB))
    assert len(bomb) < 66560
    growth = Growth(relay)
    for stream, more in ((1, [("grpc-encoding", "gzip")]), (3, [("grpc-encoding", "deflate")])):
        peer.call(stream, TUNNEL, *more)
        data = message(bomb, 1)
        for i in range(0, len(data), 16000):
            peer.frame(DATA, 0, stream, data[i:i + 16000])
        answer = peer.answer(stream)
        assert (answer["grpc-status"], answer["grpc-accept-encoding"]) == (UNIMPLEMENTED, "identity")
    growth.assert_below(8 * MIB)
    assert peer.is_alive()


def test_T12_what_a_prefix_or_many_fields_announce_costs_no_memory(relay, peer):
    growth = Growth(relay)
    for stream in range(1, 41, 2):
        peer.call(stream)
        peer.frame(DATA, 0, stream, b"\0\xff\xff\xff\xff" + bytes(16000))
        assert peer.answer(stream)["grpc-status"] == RESOURCE_EXHAUSTED
    for stream, junk in ((41, b"\x98\x06\x01" * 21000), (43, b"\x9a\x06\x00" * 21000), (45, b"\x0b" * 63000)):
        data = message(field(1, junk))
        peer.call(stream)
        for i in range(0, len(data), 16000):
            peer.frame(DATA, 0, stream, data[i:i + 16000])
        assert peer.answer(stream)["grpc-status"] in (RESOURCE_EXHAUSTED, INTERNAL)
    growth.assert_below(8 * MIB)
    assert peer.is_alive()


ODD_PATHS = [TUNNEL + "/", TUNNEL + "//", "/" + TUNNEL, TUNNEL + "?x=1", TUNNEL + "#x", TUNNEL + ";x", TUNNEL.lower(), TUNNEL.upper(),
             TUNNEL.replace("T", "%54"), TUNNEL.replace("/E", "%2fE"), "/." + TUNNEL, "/.." + TUNNEL, TUNNEL + "/../Admin",
             TUNNEL.replace("/E", "//E"), TUNNEL.replace("/E", "\\E"), TUNNEL + " ", TUNNEL + "\t", TUNNEL[:-1], TUNNEL + "x",
             "/tunn.v1.Admin/AddAccount", "/tunn.v1.TunnelService/", "/tunn.v1.TunnelService", "/tunn.v1.TunnelService.EstablishTunnel",
             "/EstablishTunnel", "/*", "/"]


def test_T13_odd_paths_reach_no_handler(relay, peer):
    assert len(ODD_PATHS) >= 20
    before = relay.counters()
    for i, path in enumerate(ODD_PATHS):
        stream = 2 * i + 1
        peer.call(stream, path)
        peer.frame(DATA, 0, stream, register(relay.secret, b"odd"))
        f = peer.read_until(lambda f: f.stream == stream and f.type in (HEADERS, RST_STREAM))
        assert f.type == RST_STREAM or f.fields["grpc-status"] == UNIMPLEMENTED, path
        assert f.type == HEADERS or path.strip() != path  # blanks at an end are malformed (RFC 9113 8.2.1)
    for i, path in enumerate([TUNNEL[1:], "", "*"]):  # without its slash
        stream = 2 * (len(ODD_PATHS) + i) + 1
        peer.call(stream, path)
        peer.rst(stream)
    assert relay.counters()["registrations_total"] == before["registrations_total"]
    assert peer.is_alive()


def assert_lines_are_ours(relay, at, names):
    assert all(re.match(r'ts=\S+ level=\w+ msg="|tunn: counters ', line) for line in relay.lines[at:])
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", "".join(relay.lines[at:]))
    with open(f"{ROOT}/common/base/metric_list.h", encoding="utf-8") as f:
        ours = set(re.findall(r'METRIC\(\w+, "(\w+)"', f.read())) | {"heap_bytes"}
    made = set(relay.counters()) - names  # those that were zero so far are left out
    assert all(re.fullmatch(r"(drop|close)_[a-z_]+", name) or name in ours for name in made), made


def test_T24_what_comes_from_outside_neither_breaks_a_line_nor_names_a_metric(standing, relay):
    world = standing.world
    names, at = set(relay.counters()), relay.count()
    odd = [b"a\nts=2000 level=error msg=forged", b"\x1b[31mred\x1b[0m", b'a" b="c', b"a\\", b"\r", b"%s%n", "\u2028\u202e".encode()]
    for text in odd:
        peer = Peer(relay.port)
        peer.call(1, "/x" + re.sub(r"[^!-~]", "?", text.decode("latin-1")), ("user-agent", "'\"%s%n\\"))
        assert peer.answer(1)["grpc-status"] == UNIMPLEMENTED
        for stream, registration in ((3, register("tunn_" + text.decode("latin-1"), b"a")), (5, register(relay.secret, text)),
                                     (7, register(relay.secret, b"a", (text,)))):
            peer.call(stream)
            peer.frame(DATA, 0, stream, registration)
            assert peer.answer(stream)["grpc-status"] in (UNAUTHENTICATED, INVALID_ARGUMENT)
        peer.frame(GOAWAY, 0, 0, bytes(8) + text + b" " + relay.secret.encode())
        peer.close()
        name = text.replace(b"\0", b"").decode("latin-1")
        subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-servername", name], stdin=subprocess.DEVNULL,
                       capture_output=True, check=False, timeout=20)
    with socket.create_connection(("127.0.0.1", relay.port)) as s:
        s.sendall(b"\n\x1b[2Jlevel=error\r\n" * 10)
    world.end(relay, free_port(), "calm", "b", "--listen").wait_for("connected as calm")
    assert_lines_are_ours(relay, at, names)
    assert relay.secret[20:40] not in relay.text()


def test_T24_strangers_fill_no_log(world):
    relay = world.relay(args=["--log-level", "debug", "--workers", "1"])

    def stranger():
        with socket.create_connection(("127.0.0.1", relay.port)) as s:
            s.sendall(b"no TLS at all")
            while s.recv(100):
                pass

    for _ in range(700):
        stranger()
    world.end(relay, free_port(), "calm", "b", "--listen").wait_for("connected as calm")  # its lines are not theirs
    assert 500 <= relay.text().count("connection closed") <= 600
    end = time.monotonic() + 30
    while "lines about refused ends and closed connections were left out" not in relay.text():
        assert time.monotonic() < end
        stranger()
        time.sleep(0.2)


def test_T24_a_hundred_thousand_ids_make_no_metric(relay):
    names, at, growth = set(relay.counters()), relay.count(), Growth(relay)
    for batch in range(200):
        if batch % 40 == 0:
            peer = Peer(relay.port)
        peers = [b"p-%d-%d" % (batch, i) for i in range(500)]
        stream = 2 * (batch % 40) + 1
        data = register(relay.secret, b"n-%d" % batch, peers)
        peer.call(stream)
        peer.frame(DATA, 0, stream, data[:16000])
        peer.frame(WINDOW_UPDATE, 0, 0, (60000).to_bytes(4, "big"))  # 500 peers, none of them there
        assert len(data) < 16000
        peer.read_until(lambda f: f.stream == stream and f.type == DATA)  # it is registered
        if batch % 40 == 39:
            peer.close()
    assert relay.counters()["registrations_total"] >= 200
    assert_lines_are_ours(relay, at, names)
    assert relay.count() - at < 2000
    growth.assert_below(64 * MIB)


# -- proxies between us and the relay

class Proxy:
    """Accepts, reads a request, and says what it is told; how often and from whom is kept."""

    def __init__(self, say, then=b"", forever=False):
        self.say, self.then, self.forever, self.n = say, then, forever, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            self.n += 1
            threading.Thread(target=self._answer, args=(s,), daemon=True).start()

    def _answer(self, s):
        try:
            s.settimeout(60)
            while b"\r\n\r\n" not in s.recv(65536):
                pass
            s.sendall(self.say)
            while self.forever:
                s.sendall(self.then)
            if self.then:
                s.sendall(self.then)
            while s.recv(65536):
                pass
        except OSError:
            pass
        s.close()

    def close(self):
        self.server.close()


@pytest.fixture
def behind(standing, world):
    """An end that goes through a proxy which says this."""
    relay = standing.relay

    def start(say, then=b"", forever=False, args=("--once",)):
        proxy = Proxy(say, then, forever)
        world.cleanups.append(proxy.close)
        return world.end(relay, free_port(), "behind", "b", "--listen", "--transport", "grpc", "--proxy", proxy.url, *args), proxy
    return start


GARBAGE = {
    "zeros": bytes(1000),
    "text": b"HTTP/1.1 200 OK\r\n\r\n<html>",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls_alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "tls_record_too_long": b"\x16\x03\x03\xff\xff" + bytes(5000),
    "server_hello_cut": b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_T28_bytes_behind_the_proxys_answer_go_to_tls_alone(behind, what):
    end, proxy = behind(b"HTTP/1.1 200 OK\r\n\r\n" + GARBAGE[what])
    assert end.exit_code(60) == 4
    assert "connected" not in end.text() and proxy.n == 1
    if what != "server_hello_cut":  # which waits for its rest
        assert "TLS" in end.text()


HOSTILE = {
    "huge_407": (b"HTTP/1.1 407 No\r\nProxy-Authenticate: " + b"Basic realm=\"" + b"x" * 100000 + b"\"\r\n\r\n", b"", False),
    "endless_headers": (b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n" * 1000, True),
    "an_endless_line": (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10000, True),
    "endless_status": (b"HTTP/1.1 200 ", b"O" * 10000, True),
    "endless_informational": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, True),
    "101_lines": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n", b"", False),
    "redirect_to_itself": (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"", False),
    "redirect_elsewhere": (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\x1b[31m\r\n\r\n", b"", False),
    "many_challenges": (b"HTTP/1.1 407 No\r\n" + b"Proxy-Authenticate: NTLM " + b"A" * 3000 + b"\r\nProxy-Authenticate: Negotiate\r\n\r\n",
                        b"", False),
    "escape_sequences": (b"HTTP/1.1 407 No\r\nProxy-Authenticate: \x1b[2J\x1b[31mred realm=\"\x07\"\r\n\r\n", b"", False),
    "no_http": (b"\x00\x01\x02\x03" * 100, b"", False),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_T29_a_hostile_proxy_is_given_up_at_once(behind, what):
    say, then, forever = HOSTILE[what]
    start = time.monotonic()
    end, proxy = behind(say, then, forever)
    assert end.exit_code(60) in (3, 4)
    assert "proxy 127.0.0.1" in end.text()
    assert proxy.n == 1  # no redirect followed, no login tried again
    assert time.monotonic() - start < 14  # by what it said, not at the deadline of 15 s
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", end.text())


def test_T29_a_hostile_proxy_costs_no_memory(behind):
    end, proxy = behind(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"1" * 60000 + b"\r\n", True, args=())
    end.wait_for("proxy 127.0.0.1")
    growth = Growth(end)
    deadline = time.monotonic() + 60
    while proxy.n < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    growth.assert_below(8 * MIB)


# -- tokens

def refusal(relay, token, stream=1):
    p = Peer(relay.port)
    p.call(stream)
    p.frame(DATA, 0, stream, register(token, b"who"))
    answer = p.answer(stream)
    p.close()
    return answer["grpc-status"], answer["grpc-message"]


def test_A01_malformed_tokens_are_unauthenticated(relay):
    s = relay.secret
    for token in (s[:-1] + ("0" if s[-1] != "0" else "1"), "TUNN_" + s[5:], s[:-1], s + "0", s[:20] + " " + s[21:], s[:20] + "\n" + s[21:],
                  s.lower(), "tunn_", "x"):
        status, text = refusal(relay, token)
        assert status == UNAUTHENTICATED and s[5:30] not in text, token


def test_A02_an_unknown_id_and_a_wrong_secret_get_the_same_answer(relay):
    unknown = token_with(relay.secret, lambda kid, rest: (varied(kid), rest))
    wrong = token_with(relay.secret, lambda kid, rest: (kid, varied(rest)))
    assert refusal(relay, unknown) == refusal(relay, wrong)
    assert refusal(relay, unknown)[0] == UNAUTHENTICATED


def set_time(relay, column, bound_id, seconds):
    """Of a token, by the database: seconds from now."""
    with sqlite3.connect(f"{relay.state}/accounts.db", timeout=20) as db:
        assert db.execute(f"UPDATE token SET {column} = ? WHERE bound_id = ?", (int(time.time()) + seconds, bound_id)).rowcount == 1
    db.close()


@pytest.mark.parametrize("how, words", [("expires", "the token has expired"), ("revoked", "the token was revoked")])
def test_A03_expired_and_revoked_tokens_are_refused_for_good(world, how, words):
    relay = world.relay()
    token = world.new_token(relay, "main", "--id", "late", "--expires", "1h")
    set_time(relay, how, "late", -3600)
    end = world.end(relay, free_port(), "late", "b", "--listen", token=token)
    assert end.exit_code() == 3
    assert words in end.text()
    assert words in relay.wait_for("refused end id=late account=main from=.* reason=unauthenticated").string
    for _ in range(12):  # whoever had it does not guess
        assert refusal(relay, open(token).read().strip())[0] == UNAUTHENTICATED
    assert relay.counters()["penalties_total"] == 0


def test_A09_of_two_tokens_the_old_one_dies_on_time_and_its_tunnel_with_it(world):
    relay = world.relay()
    tokens = [world.new_token(relay, "main", "--id", name, "--expires", "1h") for name in ("old", "new")]
    set_time(relay, "expires", "old", 4 - 60)  # a minute of grace
    old, new = (world.end(relay, free_port(), None, "b", "--listen", token=t) for t in tokens)
    old.wait_for("connected as old")
    new.wait_for("connected as new")
    old.wait_for("the token has expired")
    assert old.exit_code() == 3
    relay.wait_for("end left id=old account=main .* reason=unauthenticated .*: the token has expired")
    again = world.end(relay, free_port(), None, "b", "--listen", token=tokens[0])
    assert again.exit_code() == 3
    assert new.p.poll() is None and "reconnecting" not in new.text()


def test_T17_a_copy_of_all_files_but_the_pepper_has_no_usable_token(world):
    relay = world.relay()
    os.unlink(relay.token)  # the operator's own copy
    token = world.new_token(relay, "main")
    end = world.end(relay, free_port(), "a", "b", "--listen", token=token)
    end.wait_for("connected as a")
    _, kid, secret, crc = open(token).read().strip().split("_")

    def copy():
        return {path: open(path, "rb").read() for folder, _, files in os.walk(relay.state) for name in files
                if not os.path.islink(path := f"{folder}/{name}") and os.path.isfile(path) and name != "pepper"}

    for files in (copy(), relay.stop() or copy()):
        assert any(kid.encode() in data for data in files.values())  # or the search could not fail
        for path, data in files.items():
            assert not any(secret[i:i + 8].encode() in data for i in range(len(secret) - 7)), path
            assert crc.encode() not in data, path
    stolen = f"{world.tmp}/stolen"
    os.mkdir(stolen, 0o700)
    for path, data in files.items():
        if "/usage/" not in path:
            with open(f"{stolen}/{os.path.basename(path)}", "wb") as f:
                f.write(data)
            os.chmod(f"{stolen}/{os.path.basename(path)}", 0o600)
    thief = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", stolen])
    assert thief.exit_code() != 0 and "pepper is missing" in thief.text()
    with open(os.open(f"{stolen}/pepper", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
        f.write(os.urandom(32))
    thief = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", stolen])
    assert thief.exit_code() != 0 and "is not the one that its tokens were made with" in thief.text()


def test_A12_a_token_in_a_path_is_refused_and_not_repeated(relay):
    start, kid = relay.count(), relay.secret[5:13]
    far = "/" + "x" * 300 + relay.secret  # behind what a refusal repeats
    for path in (f"{TUNNEL}?token={relay.secret}", f"/{relay.secret}", f"{TUNNEL}/{relay.secret}", far):
        at = relay.count()
        p = Peer(relay.port)
        p.call(1, path)
        answer = p.answer()
        assert answer["grpc-status"] == UNIMPLEMENTED and "revoke" in answer["grpc-message"]
        assert relay.secret[5:40] not in str(answer)
        p.close()
        relay.wait_for(rf"revoke it, tunn token revoke {kid} \(from=127.0.0.1:\d+\)", after=at)
    p = Peer(relay.port)
    p.call(1, "/tunn_sesame")
    assert p.answer()["grpc-status"] == UNIMPLEMENTED
    relay.wait_for(r"revoke it, tunn token revoke ID ", after=start)
    assert relay.secret[14:40] not in "\n".join(relay.lines[start:])


@pytest.mark.parametrize("upgrade", ["DERP", "websocket"])
def test_A12_a_token_in_the_address_of_derp_is_refused_and_not_logged(relay, upgrade):
    at = relay.count()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", relay.port), timeout=15))
    s.sendall(f"GET /derp?token={relay.secret} HTTP/1.1\r\nHost: r\r\nUpgrade: {upgrade}\r\nConnection: Upgrade\r\n\r\n".encode())
    assert s.recv(100).startswith(b"HTTP/1.1 400 ")
    s.close()
    relay.wait_for(rf"revoke it, tunn token revoke {relay.secret[5:13]} ", after=at)
    assert relay.secret[14:40] not in "\n".join(relay.lines[at:])


def test_A12_a_token_in_a_url_or_word_is_refused_and_not_repeated(relay):
    for argv in (["--relay", f"https://r.example/?t={relay.secret}"], ["--relay", f"https://{relay.secret}@r.example"],
                 ["--id", relay.secret], [relay.secret]):
        r = subprocess.run([TUNN, "relay", "51820", "--peer", "b", *argv], capture_output=True, text=True, check=False)
        assert r.returncode == 2 and relay.secret[5:40] not in r.stderr
        assert "revoke it" in r.stderr or "on the command line" in r.stderr
