"""DERP servers of others, broken and hostile ones (rows D18 to D20): what `tunn relay --transport derp` makes of them, and what they
never get to see."""
import hashlib
import json
import os
import re
import ssl
import struct
import time

import pytest
from harness import TUNN, answered, endpoint, free_port
from scripted_derp import (CLIENT_INFO, HEALTH, KEEP_ALIVE, MAGIC, NOT_HERE, NOTE_PREFERRED, PEER_GONE, PING, PONG, RECV, RESTARTING, SEND, SERVER_INFO,
                           SERVER_KEY, NodeKey, Server, frame)
from scripted_relay import TOKEN, certificate

AGAIN = r"reconnecting (now|in [\d.]+ s) because: "


@pytest.fixture
def derp(world):
    """Starts servers, and native ends of theirs whose peer is .peer."""
    shown = certificate(world.tmp)
    with open(shown.cert, encoding="ascii") as f:
        raw = hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()
    with open(os.open(f"{world.tmp}/token", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write(TOKEN)

    class Derp:
        own, peer = NodeKey(), NodeKey()

        @staticmethod
        def server(**kw):
            return Server(world, shown, **kw)

        def words(self, *more, transport="derp", port=None):
            return [TUNN, "relay", str(port or free_port()), "--peer", self.peer.text, "--transport", transport, "--listen", *more]

        def own_key(self):
            path = f"{world.tmp}/own.key"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
                f.write("privkey:" + self.own.secret.hex())
            return "--key-file", path

        def end(self, server, *more, **kw):
            own = () if "--id" in more else self.own_key()
            return world.program(self.words("--relay", server.url, "--pin", server.pin, *own, *more, **kw))

        def end_of_map(self, *servers, **kw):
            nodes = [{"Name": f"900{i}", "RegionID": 900, "HostName": "127.0.0.1", "IPv4": "127.0.0.1", "DERPPort": s.port,
                      "CertName": f"sha256-raw:{raw}", "STUNPort": -1} for i, s in enumerate(servers)]
            with open(f"{world.tmp}/map.json", "w", encoding="ascii") as f:
                json.dump({"Regions": {"900": {"RegionID": 900, "RegionCode": "test", "Nodes": nodes}}}, f)
            return world.program(self.words("--derp-map", f"{world.tmp}/map.json", *self.own_key(), **kw))

        @property
        def token(self):
            return "--token-file", f"{world.tmp}/token"

        @staticmethod
        def works(world, end, c, peer):
            """Datagrams pass both ways."""
            s = world.socket()
            s.sendto(b"out", endpoint(end))
            payload = c.read_a(SEND)
            assert payload == peer.public + b"out"
            c.frame(RECV, peer.public + b"in")
            assert answered(s, b"in", 10)
    return Derp()


def retried(server, end, words):
    """It said so, it comes again, and then all is well."""
    end.wait_for(AGAIN + words)
    c = server.accept().admit()
    end.wait_for("connected")
    return c


# -- what it says

@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast_start"])
def test_a_native_end_says_what_every_derp_server_understands_and_no_more(world, derp, fast):
    server = derp.server(fast=fast)
    end = derp.end(server, *derp.token)
    c = server.accept()
    first, said = c.request()
    assert first == "GET /derp HTTP/1.1"
    assert said["host"] == f"127.0.0.1:{server.port}" and said["upgrade"].lower() == "derp"
    assert said.get("derp-fast-start") == ("1" if fast else None)
    assert set(said) <= {"host", "user-agent", "connection", "upgrade", "derp-fast-start"}
    if fast:  # before anything was answered
        assert c.meet() == {"version": 2, "CanAckPings": True}
    c.switch()
    c.greet()
    if not fast:
        assert c.meet() == {"version": 2, "CanAckPings": True}
    assert c.client_key == derp.own.public
    c.inform()
    assert c.read_a(NOTE_PREFERRED) == b"\1"
    end.wait_for(f"connected as {derp.own.text}; the other side needs --peer {derp.own.text}$")
    derp.works(world, end, c, derp.peer)


# -- the token

@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast_start"])
@pytest.mark.parametrize("more", [b"", b"tunn0", b"TUNN1", b"xtunn1", b"tunn", bytes(5)], ids=str)
def test_a_token_never_leaves_towards_a_foreign_server(derp, fast, more):
    """A named end waits for the relay to say that it is one; a server of others never sees id, peers or token, and is told to people."""
    server = derp.server(fast=fast)
    end = derp.end(server, *derp.token, "--id", "secret-id")
    c = server.accept()
    c.request()
    c.switch()
    c.greet(more)
    end.wait_for("this DERP server is no tunn relay: it knows no ids and no tokens")
    while c.more():
        pass
    said = c.everything()
    assert end.exit_code() == 3
    for secret in (TOKEN.encode(), b"secret-id", derp.peer.hex.encode(), derp.peer.public, b"tunnId", b"tunnToken"):
        assert secret not in said, "it has left"
    assert bytes([CLIENT_INFO]) + b"\0" not in said[said.index(b"\r\n\r\n"):]
    assert TOKEN not in end.text()


def test_a_token_does_not_leave_before_the_server_has_spoken(derp):
    server = derp.server(fast=True)
    end = derp.end(server, *derp.token, "--id", "secret-id")
    c = server.accept()
    c.request()
    assert not c.comes(2), "named ends do not start fast"
    c.greet()
    end.wait_for("is no tunn relay")


def test_a_token_does_not_leave_whatever_way_is_tried(derp):
    """With `auto` gRPC is the first: where TLS agrees on no h2, nothing is said; DERP follows at once."""
    server, heard = derp.server(), b""
    end = derp.end(server, *derp.token, "--id", "secret-id", transport="auto")
    while not b"GET /derp" in heard:
        c = server.accept()
        while b"\r\n\r\n" not in c.buffer and c.more():
            pass
        if c.buffer.startswith(b"GET /derp"):
            c.request()
            c.switch()
            c.greet()
            while c.more():
                pass
        heard += c.everything()
    end.wait_for("is no tunn relay")
    assert TOKEN.encode() not in heard and b"secret-id" not in heard


def test_to_a_relay_of_ours_the_named_end_says_all_of_it_inside_the_box(derp):
    server = derp.server()
    end = derp.end(server, *derp.token, "--id", "me")
    c = server.accept()
    _, said = c.request()
    assert said["tunn-version"] == "1"
    c.switch()
    c.greet(b"tunn1")
    told = c.meet()
    assert (told["tunnId"], told["tunnPeers"], told["tunnToken"]) == ("me", [derp.peer.text], TOKEN)
    assert TOKEN.encode() not in c.heard
    c.inform({"version": 2, "tunnAccount": "main", "tunnId": "me", "tunnNode": "n", "tunnPeerKeys": [derp.peer.hex]})
    end.wait_for("connected as me")


# -- D18: the greeting

def bad_greetings(key):
    good = MAGIC + key.public
    return {"wrong_magic": frame(SERVER_KEY, b"DERP\xf0\x9f\x94\x92" + key.public), "no_magic": frame(SERVER_KEY, bytes(8) + key.public),
            "39_bytes": frame(SERVER_KEY, good[:39]), "empty": frame(SERVER_KEY), "1025_bytes": frame(SERVER_KEY, good + bytes(985)),
            "1_mb": frame(SERVER_KEY, good, 1 << 20), "4_gib": frame(SERVER_KEY, good, 0xffffffff), "other_frame": frame(KEEP_ALIVE),
            "info_first": frame(SERVER_INFO, bytes(60)), "low_order_key": frame(SERVER_KEY, MAGIC + bytes(32)), "no_frames": b"HTTP/1.1 200 OK\r\n\r\n"}


@pytest.mark.parametrize("row", bad_greetings(NodeKey()))
def test_D18_a_greeting_that_is_none_is_left_for_the_next_try(derp, row):
    server = derp.server()
    end = derp.end(server)
    c = server.accept()
    c.request()
    c.switch()
    c.send(bad_greetings(server.key)[row])
    assert c.read() is None, "nothing is said to it"
    retried(server, end, "")


@pytest.mark.parametrize("row", ["wrong_magic", "39_bytes", "1_mb"])
def test_D18_a_bad_node_of_a_region_is_left_for_the_next_node(world, derp, row):
    bad, good = derp.server(), derp.server()
    end = derp.end_of_map(bad, good)
    c = bad.accept()
    _, said = c.request()
    assert "ideal-node" not in said
    c.switch()
    c.send(bad_greetings(bad.key)[row])
    c = good.accept()
    _, said = c.request()
    assert said["ideal-node"] == "9000"
    c.switch()
    c.greet()
    c.meet()
    c.inform()
    end.wait_for("connected")
    derp.works(world, end, c, derp.peer)


def test_D18_a_long_greeting_is_good_up_to_its_limit(derp):
    server = derp.server()
    end = derp.end(server)
    server.accept().admit(more=bytes(984))
    end.wait_for("connected")


def test_D18_a_greeting_that_is_not_the_certificates_is_left(derp):
    """Who started fast has sealed its words to the key of the certificate."""
    server = derp.server(fast=True)
    end = derp.end(server)
    c = server.accept()
    c.request()
    c.frame(SERVER_KEY, MAGIC + NodeKey().public)
    retried(server, end, ".*not that of its certificate")


ANSWERS = {
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "200": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "302": b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\x1b[2J\r\nContent-Length: 0\r\n\r\n",
    "no_http": b"SSH-2.0-OpenSSH_9.2\r\n", "endless": b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 20000, "nul": b"HTTP/1.1 404 a\0b\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("row", ANSWERS)
def test_D18_what_is_no_derp_server_is_told_in_words(derp, row):
    server = derp.server()
    end = derp.end(server)
    c = server.accept()
    c.request()
    c.send(ANSWERS[row])
    retried(server, end, "")
    assert "\x1b" not in end.text() and "\0" not in end.text()


# -- D19: ServerInfo

BAD_INFO = {
    "nothing": lambda c: b"", "55_bytes": lambda c: bytes(39), "garbage": lambda c: os.urandom(60), "megabyte": lambda c: os.urandom(1 << 20),
    "of_another": lambda c: NodeKey().seal(c.client_key, b'{"version":2}'), "to_another": lambda c: c.key.seal(NodeKey().public, b'{"version":2}'),
    "changed": lambda c: bytes([*c.key.seal(c.client_key, b'{"version":2}')[:-1], 0]) + b"\0", "no_json": lambda c: c.key.seal(c.client_key, b"version 2"),
    "array": lambda c: c.key.seal(c.client_key, b"[]"), "version_text": lambda c: c.key.seal(c.client_key, b'{"version":"2"}'),
    "deep": lambda c: c.key.seal(c.client_key, b'{"a":' * 1000 + b"1" + b"}" * 1000),
}


@pytest.mark.parametrize("row", BAD_INFO)
def test_D19_a_server_info_that_cannot_be_read_is_left(derp, row):
    server = derp.server()
    end = derp.end(server)
    c = server.accept()
    c.request()
    c.switch()
    c.greet()
    c.meet()
    c.frame(SERVER_INFO, BAD_INFO[row](c))
    assert c.read() is None
    retried(server, end, "")


def test_D19_a_server_that_closes_instead_is_told_as_one_that_does_not_admit(derp):
    server = derp.server()
    end = derp.end(server)
    c = server.accept()
    c.request()
    c.switch()
    c.greet()
    c.meet()
    c.close()
    retried(server, end, ".*does not admit our node key")


def test_D19_the_rate_that_a_server_gives_is_kept(world, derp):
    server = derp.server()
    end = derp.end(server)
    c = server.accept().admit(info={"version": 2, "TokenBucketBytesPerSecond": 1, "TokenBucketBytesBurst": 3 * 137})
    s = world.socket()
    for n in range(10):
        s.sendto(bytes([n]) * 100, endpoint(end))
    for n in range(3):
        assert c.read_a(SEND)[32:] == bytes([n]) * 100
    c.frame(PING, b"all told")
    f = c.read()
    assert (f.type, f.payload) == (PONG, b"all told"), "the others were dropped"


# -- D20: frames

@pytest.fixture
def joined(derp):
    server = derp.server()
    end = derp.end(server)
    c = server.accept().admit()
    end.wait_for("connected")
    return server, end, c


def test_D20_frames_that_mean_nothing_here_are_skipped(world, derp, joined):
    _, end, c = joined
    for f in (frame(PEER_GONE, NodeKey().public + bytes([NOT_HERE])), frame(PEER_GONE, derp.peer.public), frame(PEER_GONE, b"short"),
              frame(PEER_GONE, derp.peer.public + b"\xff"), frame(0x09, os.urandom(51)), frame(0x09, b""), frame(KEEP_ALIVE, b"payload"),
              frame(SERVER_KEY, MAGIC + bytes(32)), frame(SERVER_INFO, bytes(50)), frame(PING, b"short"), frame(PONG, b"x"), frame(0x74, b"x"),
              frame(0xff, os.urandom(1 << 20)), frame(RESTARTING, b"1234567"), frame(HEALTH, b"\xff\xfe")):
        c.send(f)
    derp.works(world, end, c, derp.peer)
    assert not re.search(AGAIN, end.text())


@pytest.mark.parametrize("length", [0, 31, 32 + 65537, (1 << 20) + 1, 0xffffffff])
def test_D20_a_packet_of_an_impossible_length_ends_it(derp, joined, length):
    server, end, c = joined
    c.frame(RECV, bytes(min(length, 31)), length)
    while f := c.read():
        assert f.type in (NOTE_PREFERRED, PING, SEND)
    retried(server, end, "")


def test_D20_packets_of_strangers_never_reach_the_local_program(world, derp, joined):
    _, end, c = joined
    s = world.socket()
    s.sendto(b"hello", endpoint(end))
    c.read_a(SEND)
    for source in (NodeKey().public, bytes(32), derp.own.public, b"\xff" * 32, derp.peer.public[:31] + bytes([derp.peer.public[31] ^ 0x80])):
        c.frame(RECV, source + b"from a stranger")
    c.frame(RECV, derp.peer.public + b"from the peer")
    assert s.recv(100) == b"from the peer"


def test_D20_what_a_server_says_of_its_health_is_cut_and_cleaned(joined):
    _, end, c = joined
    c.frame(HEALTH, b"\x1b[2Jvery ill " + b"x" * ((1 << 20) - 100))
    end.wait_for("very ill")
    c.frame(HEALTH, b"")
    assert "\x1b" not in end.text()
    assert max(len(line) for line in end.lines) < 1500


@pytest.mark.parametrize("ms", [0, 1, 2000])
def test_D20_a_server_that_restarts_is_left_before_it_does(world, derp, joined, ms):
    """That 4294967295 ms, 49 days, count as 30 s is shown where there is no clock, in derp_dial_test.c."""
    server, end, c = joined
    began = time.monotonic()
    c.frame(RESTARTING, struct.pack(">II", ms, ms))
    again = server.accept().admit()
    assert time.monotonic() - began < 5
    derp.works(world, end, again, derp.peer)


def test_D20_floods_of_pings_and_unknown_frames_are_answered_by_one_at_a_time(joined):
    _, end, c = joined
    c.send(frame(PING, bytes(8)) * 20000 + frame(0x7f, b"x") * 20000)
    n = 0
    while True:
        c.frame(PING, b"the last")  # until one finds the place of the answer free
        while c.comes(0.2) and (f := c.read()):
            n += f.payload == bytes(8)
            if f.payload == b"the last":
                assert 0 < n < 2000
                return
