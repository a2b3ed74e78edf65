"""Bad DERP and WebSocket input (rows D of the bad-input table, server): the stated end, and nobody else is disturbed."""
import ctypes
import json
import os
import struct
import time

import nacl.bindings
import pytest
from derp_fixtures import until
from fixtures import standing, undisturbed as relay  # noqa: F401
from scripted import END_HEADERS, END_STREAM, HEADERS, Peer, request_fields
from scripted_derp import (CLIENT_INFO, CLOSE, CLOSE_PEER, CONTINUATION, FAST, FORWARD, KEEP_ALIVE, NOT_HERE, NOTE_PREFERRED, PEER_GONE,
                           PING, PONG, RECV, SEND, SERVER_INFO, SERVER_KEY, TEXT, TUNN, WATCH_CONNS, WEBSOCKET, Client,
                           NodeKey, disco, frame, request, ws_frame)

MESH = os.urandom(32).hex()


def relay_words(folder):
    path = f"{folder}/mesh.key"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write(MESH + "\n")
    return ["--derp.allow", "any", "--mesh-key-file", path]


@pytest.fixture
def derp(relay):
    """An admitted end."""
    c = Client(relay.port)
    yield c
    c.close()


@pytest.fixture
def new(relay):
    """Connections that the test does not have to close."""
    made = []

    def make(**kw):
        made.append(Client(relay.port, **kw))
        return made[-1]
    yield make
    for c in made:
        c.close()


def greeted(new, fields=("Upgrade: DERP",), **kw):
    """A connection that waits for its ClientInfo."""
    c = new(enter=False, **kw)
    c.ask(fields)
    c.greeting()
    return c


def mesh_peer(new):
    return new(info={"version": 2, "meshKey": MESH})


# -- the request

def test_D01_derp_without_an_upgrade_is_426(new):
    for fields in ((), ("Upgrade: h2c", "Connection: Upgrade"), ("Upgrade: derpy",), ("Connection: Upgrade",), ("Upgrade:",)):
        c = new(enter=False)
        first, said = c.ask(fields)
        assert first == "HTTP/1.1 426 Upgrade Required", fields
        assert c.take(int(said["content-length"])) == b"DERP requires connection upgrade\n"


def test_D02_derp_over_h2_is_426_and_an_upgrade_there_costs_the_stream(relay):
    """An Upgrade field over HTTP/2 is malformed (RFC 9113 8.2.2): it never reaches a route. Clients go on by HTTP/1.1."""
    peer = Peer(relay.port)
    peer.headers(1, request_fields("/derp", method="GET", content_type=None), END_HEADERS | END_STREAM)
    assert peer.read_until(lambda f: f.type == HEADERS and f.stream == 1).fields[":status"] == "426"
    peer.headers(3, request_fields("/derp", ("upgrade", "derp"), method="GET", content_type=None), END_HEADERS | END_STREAM)
    assert peer.rst(3) == 1
    assert peer.is_alive()
    peer.close()


@pytest.mark.parametrize("fields", [("Upgrade: DERP",), ("uPGRADE: derp",), ("Upgrade: Derp", "Connection: keep-alive"),
                                    ("Upgrade: websocket",), ("Upgrade: WebSocket", "Connection: Upgrade"),
                                    ("Upgrade: websocket", "Sec-WebSocket-Protocol: chat")],
                         ids=["alone", "names_in_any_case", "another_connection", "old_name", "old_name_in_any_case", "other_subprotocol"])
def test_D03_an_upgrade_that_real_clients_write_is_accepted(new, fields):
    c = new(enter=False)
    first, said = c.ask(fields)
    assert first == "HTTP/1.1 101 Switching Protocols"
    assert (said["upgrade"], said["connection"], said["derp-version"]) == ("DERP", "Upgrade", "2") and len(said) == 4
    c.greeting()
    assert c.relay_key.hex() == said["derp-public-key"]
    c.introduce()
    assert c.admitted() == {"version": 2} and c.is_alive()


@pytest.mark.parametrize("more", [dict(method="POST"), dict(method="OPTIONS"), dict(method="brew"), dict(host=""), dict(path="/derp?x=1")], ids=lambda m: str(m))
def test_D03_any_method_an_empty_host_and_a_query_are_accepted(new, more):
    c = new(enter=False)
    assert c.ask(("Upgrade: DERP", "Content-Length: 0"), **more)[0] == "HTTP/1.1 101 Switching Protocols"
    c.greeting()
    c.introduce()
    assert c.admitted() and c.is_alive()


def test_D03_of_several_upgrades_the_known_one_is_picked_and_of_two_fields_the_first_counts(new):
    """The original takes no list at all, and of two fields the first (derp.md 1.4)."""
    for fields in (("Upgrade: DERP", "Upgrade: h2c"), ("Upgrade: h2c, DERP",), ("Upgrade: derp , h2c",)):
        c = new(enter=False)
        assert c.ask(fields)[0].split()[1] == "101", fields
        c.greeting()
    for fields in (("Upgrade: h2c", "Upgrade: DERP"), ("Upgrade: h2c, DERPY",)):
        assert new(enter=False).ask(fields)[0].split()[1] == "426", fields


def test_D04_behind_a_fast_start_are_frames_and_no_http_comes_back(new, derp):
    c = new(enter=False, relay_key=derp.relay_key)
    c.ask(FAST, frame(CLIENT_INFO, c.box()) + frame(NOTE_PREFERRED, b"\1") + frame(SEND, derp.key.public + b"at once"))
    c.greeting()
    assert c.heard.startswith(frame(SERVER_KEY, b"DERP\xf0\x9f\x94\x91" + derp.relay_key))
    assert c.admitted() == {"version": 2}
    assert derp.packet() == (c.key.public, b"at once")


def test_D04_a_fast_start_may_be_cut_anywhere(new, derp):
    c = new(enter=False, relay_key=derp.relay_key)
    said = request(*FAST) + frame(CLIENT_INFO, c.box()) + frame(SEND, derp.key.public + b"in pieces")
    for at in range(0, len(said), 7):
        c.send(said[at:at + 7])
    c.greeting()
    assert c.admitted() and derp.packet()[1] == b"in pieces"


def test_D04_only_the_value_1_starts_fast(new):
    for value in ("0", "true", "11", ""):
        c = new(enter=False)
        assert c.ask(("Upgrade: DERP", f"Derp-Fast-Start: {value}"))[0] == "HTTP/1.1 101 Switching Protocols"


# -- ClientInfo

@pytest.mark.parametrize("kind", [0, SERVER_KEY, SERVER_INFO, SEND, RECV, KEEP_ALIVE, NOTE_PREFERRED, FORWARD, WATCH_CONNS, CLOSE_PEER, PING, PONG,
                                  0x7f, 0xff])
def test_D05_a_first_frame_that_is_no_client_info_ends_it(new, kind):
    c = greeted(new)
    c.frame(kind, c.box())
    assert c.ended()


@pytest.mark.parametrize("length", [0, 31, 55, 16385, 0xffffffff])
def test_D06_T33_a_client_info_of_a_wrong_length_ends_at_its_head(new, length):
    c = greeted(new)
    c.send(struct.pack(">BI", CLIENT_INFO, length))  # and nothing of it
    assert c.ended()


def test_D06_T33_a_client_info_of_16_kib_is_read(new):
    c = greeted(new)
    text = b'{"version":2,"AppName":"%s"}' % (b"x" * (16384 - 72 - 26))
    assert len(c.box(text)) == 16384
    c.introduce(text)
    assert c.admitted()


def test_D07_T33_a_box_that_does_not_open_ends_it(new):
    """No penalty beyond the end: the penalty box comes with accounts and tiers (A13)."""
    c = greeted(new)
    whole = c.box()
    damaged = [bytes(len(whole)), whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), NodeKey().public + whole[32:],
               whole[:32] + bytes([whole[32] ^ 1]) + whole[33:], whole[:56], whole[:71], whole + b"x"]
    for payload in damaged:
        c = greeted(new, ("Upgrade: DERP",))
        c.frame(CLIENT_INFO, payload)
        assert c.ended()


LOW_ORDER = ["00" * 32, "01" + "00" * 31, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
             "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157", "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f",
             "ee" + "ff" * 30 + "7f"]


def sealed_by_anybody(text):
    """A box as it would be between a key of low order and any other: what they share is zero."""
    sodium, key = ctypes.CDLL("libsodium.so.23"), ctypes.create_string_buffer(32)
    sodium.crypto_core_hsalsa20(key, bytes(16), bytes(32), None)
    nonce = os.urandom(24)
    return nonce + nacl.bindings.crypto_secretbox(text, nonce, key.raw)


@pytest.mark.parametrize("key", LOW_ORDER)
def test_D07_T33_a_key_of_low_order_proves_nothing(new, key):
    c = greeted(new)
    c.frame(CLIENT_INFO, bytes.fromhex(key) + sealed_by_anybody(b'{"version":2}'))
    assert c.ended()


def test_D07_who_has_our_own_key_is_no_end(relay, new):
    with open(f"{relay.state}/derp.key", encoding="ascii") as f:
        own = NodeKey(bytes.fromhex(json.load(f)["PrivateKey"].removeprefix("privkey:")))
    c = greeted(new, key=own)
    assert own.public == c.relay_key
    c.introduce()
    assert c.ended()


def test_D07_T18_a_key_that_looks_like_a_tunnels_is_no_end(new):
    """Bit 255 means nothing to Curve25519, so the box opens; keys of named tunnels have it (product.md section 4)."""
    c = greeted(new)
    box = c.box()
    c.frame(CLIENT_INFO, box[:31] + bytes([box[31] | 0x80]) + box[32:])
    assert c.ended()


BAD_JSON = {
    "nothing": b"", "no_json": b"version=2", "cut": b'{"version":2', "array": b"[]", "number": b"2", "text": b'"x"', "null_twice": b"null null",
    "depth_1000": b'{"a":' * 1000 + b"1" + b"}" * 1000, "arrays_1000": b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "depth_9": b'{"a":' + b"[" * 9 + b"]" * 9 + b"}", "more_behind": b'{"version":2}{}', "no_utf8_key": b'{"\xff',
    "version_text": b'{"version":"2"}', "pings_number": b'{"CanAckPings":1}', "prober_text": b'{"IsProber":"yes"}',
    "mesh_short": b'{"meshKey":"00"}', "mesh_no_hex": b'{"meshKey":"%s"}' % (b"zz" * 32), "mesh_number": b'{"meshKey":7}',
    "mesh_long": b'{"meshKey":"%s"}' % (b"00" * 33),
}


@pytest.mark.parametrize("row", BAD_JSON)
def test_D08_T33_a_client_info_that_is_not_what_it_should_be_ends_it(new, row):
    c = greeted(new)
    c.introduce(BAD_JSON[row])
    assert c.ended()


GOOD_JSON = {
    "empty_object": b"{}", "version_0": b'{"version":0}', "version_3": b'{"version":3}', "blanks": b' {\n"version" : 2 }\t', "any_case": b'{"VERSION":2}',
    "version_twice": b'{"version":1,"version":2}', "mesh_empty": b'{"meshKey":""}', "mesh_null": b'{"meshKey":null}',
    "mesh_underscore": b'{"mesh_key":"none"}', "unknown": b'{"version":2,"Later":{"a":[1,2,{"b":null}]}}',
    "mesh_wrong": b'{"meshKey":"%s"}' % (b"ab" * 32), "mesh_zero": b'{"meshKey":"%s"}' % (b"00" * 32),
    "mesh_twice": b'{"meshKey":"%s","meshKey":"%s"}' % (MESH.encode(), b"ab" * 32),
}


@pytest.mark.parametrize("row", GOOD_JSON)
def test_D08_T34_a_client_info_that_is_odd_but_good_makes_an_ordinary_end(new, row):
    """Duplicate keys: the last counts, as in the original; a wrong mesh key is no error and no right."""
    c = new(info=GOOD_JSON[row])
    assert c.info == {"version": 2} and c.is_alive()
    c.frame(WATCH_CONNS)
    assert c.ended()


# -- packets

@pytest.mark.parametrize("length", [0, 31, 32 + 65537])
def test_D09_a_packet_without_a_whole_key_or_too_long_ends_it(derp, length):
    derp.frame(SEND, bytes(min(length, 31)), length)
    assert derp.ended()


def test_D09_packets_of_every_length_arrive_empty_ones_too(new, derp):
    other = new()
    for size in (0, 1, 61, 62, 1500, 16383, 16384, 65507, 65535, 65536):
        packet = os.urandom(size)
        other.send_to(derp.key, packet)
        assert derp.packet() == (other.key.public, packet)


def test_D10_only_who_looks_for_a_path_is_told_that_a_key_is_unknown(derp):
    nobody = NodeKey()
    for size in (0, 61, 62, 1400):
        derp.send_to(nobody, os.urandom(size))
    derp.send_to(nobody, disco(61))  # too short to be one
    derp.send_to(nobody, b"\0" + disco(62))
    assert derp.is_alive() and not derp.saw(PEER_GONE)
    derp.send_to(nobody, disco(62))
    assert derp.read_a(PEER_GONE) == nobody.public + bytes([NOT_HERE])


def test_D10_three_are_told_at_once_then_one_a_second(derp):
    began = time.monotonic()
    for _ in range(20):
        derp.send_to(bytes(32), disco())
    assert derp.is_alive()
    at_once = len(derp.saw(PEER_GONE))
    assert 3 <= at_once <= 3 + (time.monotonic() - began)
    while not derp.saw(PEER_GONE) or time.monotonic() - began < 1:
        derp.send_to(bytes(32), disco())
        assert derp.is_alive() and time.monotonic() < began + 10
    more = len(derp.saw(PEER_GONE))
    for _ in range(20):
        derp.send_to(bytes(32), disco())
    assert derp.is_alive()
    assert more + len(derp.saw(PEER_GONE)) <= 1 + time.monotonic() - began


def test_D10_zero_keys_as_destination_are_nobody_and_end_nothing(derp):
    for packet in (b"", b"x" * 100, disco()):
        derp.send_to(bytes(32), packet)
    assert derp.is_alive()
    assert derp.saw(PEER_GONE) == [bytes(32) + bytes([NOT_HERE])]


def test_D11_a_packet_to_oneself_comes_back(derp):
    for size in (0, 10, 65536):
        packet = os.urandom(size)
        derp.send_to(derp.key, packet)
        assert derp.packet() == (derp.key.public, packet)


PRIVILEGED = {"watch": frame(WATCH_CONNS), "close": frame(CLOSE_PEER, bytes(32)), "forward": frame(FORWARD, bytes(64) + b"x")}


@pytest.mark.parametrize("what", PRIVILEGED)
def test_D12_T34_what_only_the_mesh_may_say_ends_who_is_not_of_it(new, derp, what):
    other = new()
    derp.send(PRIVILEGED[what].replace(bytes(32), other.key.public))
    assert derp.ended()
    assert other.is_alive() and not other.seen


@pytest.mark.parametrize("what", PRIVILEGED)
def test_D12_T34_a_guessed_mesh_key_gives_no_right(new, what):
    other = new()
    for guess in (MESH[:-1] + ("0" if MESH[-1] != "0" else "1"), "0" * 64, "f" * 64):
        c = new(info={"version": 2, "meshKey": guess})
        assert c.info
        c.send(PRIVILEGED[what].replace(bytes(32), other.key.public))
        assert c.ended()
    assert other.is_alive() and not other.seen


BAD_OF_THE_MESH = {
    "watch_of_1_byte": frame(WATCH_CONNS, b"x"), "close_of_31_bytes": frame(CLOSE_PEER, bytes(31)), "close_of_33_bytes": frame(CLOSE_PEER, bytes(33)),
    "forward_of_63_bytes": frame(FORWARD, bytes(63)), "forward_of_65537_bytes": frame(FORWARD, b"", 64 + 65537),
}


@pytest.mark.parametrize("row", BAD_OF_THE_MESH)
def test_D12_the_mesh_keeps_to_the_lengths_too(new, row):
    c = mesh_peer(new)
    c.send(BAD_OF_THE_MESH[row])
    assert c.ended()


def test_D12_a_forward_between_zero_keys_ends_nothing(new, derp):
    """As a destination nobody, as a source forged: dropped, and the link lives."""
    c = mesh_peer(new)
    c.frame(FORWARD, bytes(64) + b"x" * 100)
    c.frame(FORWARD, bytes(32) + derp.key.public + b"from nobody")
    c.frame(CLOSE_PEER, bytes(32))
    c.frame(FORWARD, NodeKey().public + bytes(32) + disco())
    assert c.is_alive() and derp.is_alive() and not derp.seen
    assert c.saw(PEER_GONE) == [bytes(32) + bytes([NOT_HERE])]


# -- control

@pytest.mark.parametrize("length", [0, 7, 1001])
def test_D13_a_ping_too_short_or_too_long_ends_it(derp, length):
    derp.frame(PING, bytes(length))
    assert derp.ended()


def test_D13_of_a_long_ping_the_first_8_bytes_come_back(derp):
    for size in (8, 9, 1000):
        payload = os.urandom(size)
        derp.frame(PING, payload)
        assert derp.read_a(PONG) == payload[:8]


def test_D13_pings_without_end_are_answered_by_one_at_a_time_and_then_ended(relay, derp):
    """Behind the burst of limits.control-burst reading rests, behind twice that it is a flood."""
    before = relay.counters()
    for _ in range(100):
        if not derp.closed:
            derp.send(frame(PING, bytes(8)) * 1000)
    assert derp.ended()
    after = relay.counters()
    asked, answered = (after[k] - before[k] for k in ("derp_pings_total", "derp_pongs_total"))
    assert 500 <= asked <= 1300 and answered < asked / 2


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x09, 0x0b, 0x13, 0x14, 0x15, 0x74, 0xff])
def test_D14_unknown_frames_are_skipped(relay, derp, kind):
    before = relay.counters()["derp_unknown_frames_total"]
    for size in (0, 1, 100, 65600):
        derp.frame(kind, os.urandom(size))
    assert derp.is_alive() and not derp.seen
    skipped = relay.counters()["derp_unknown_frames_total"] - before
    assert skipped == (0 if kind == PONG else 4)


@pytest.mark.parametrize("length", [65601, 1 << 20, 0xffffffff])
def test_D14_an_unknown_frame_longer_than_any_ends_at_its_head(derp, length):
    derp.send(struct.pack(">BI", 0x7f, length))
    assert derp.ended()


@pytest.mark.parametrize("length", [0, 2, 32, 0xffffffff])
def test_D15_a_note_preferred_that_is_not_one_byte_ends_it(derp, length):
    derp.frame(NOTE_PREFERRED, bytes(min(length, 32)), length)
    assert derp.ended()


# -- one key, several connections

def test_D17_of_several_with_one_key_the_newest_and_then_who_spoke_last_has_the_packets(relay, new, derp):
    key = NodeKey()
    a, b, c = (new(key=key) for _ in range(3))
    until(relay, "derp_duplicate_connections", 3)

    def has(one, packet):
        derp.send_to(key, packet)
        assert one.packet() == (derp.key.public, packet)
    has(c, b"newest")
    assert a.is_alive() and not a.seen  # by any frame
    has(a, b"spoke")
    b.frame(0x7f, b"unknown")
    assert b.is_alive() and not b.seen
    has(b, b"said something")
    b.close()
    until(relay, "derp_duplicate_connections", 2)
    has(a, b"spoke before")
    a.close()
    until(relay, "derp_duplicate_connections", 0)
    has(c, b"the last one")
    assert c.is_alive() and not c.seen


def named(new, secret, tunnel_id, peers, instance):
    """A tunnel of ours over DERP (product.md section 5)."""
    c = greeted(new, ("Upgrade: DERP", "Tunn-Version: 1"))
    assert c.marked
    c.introduce({"version": 2, "CanAckPings": True, "tunnId": tunnel_id, "tunnPeers": peers, "tunnToken": secret, "tunnInstance": instance})
    return c


def test_D17_of_several_with_one_tunnel_id_the_newest_is_active_and_the_others_are_told_superseded(relay, new):
    instances = [os.urandom(16).hex() for _ in range(6)]
    ends = [named(new, relay.secret, "cuckoo", ["nobody"], i) for i in instances[:1]]
    assert ends[0].admitted()["tunnId"] == "cuckoo"
    for i in instances[1:4]:
        ends.append(named(new, relay.secret, "cuckoo", ["nobody"], i))
        assert ends[-1].admitted()
        assert not ends[-2].is_alive()
        assert any(b"superseded" in f.payload for f in ends[-2].seen if f.type == TUNN)
    fought = named(new, relay.secret, "cuckoo", ["nobody"], instances[4])  # the fourth within a minute
    told = [fought.read()]
    while told[-1]:
        told.append(fought.read())
    assert any(b"several instances" in f.payload for f in told[:-1] if f.type == TUNN) and not any(f.type == SERVER_INFO for f in told[:-1])


def test_D17_a_tunnel_that_comes_again_replaces_itself_without_a_word(relay, new):
    instance = os.urandom(16).hex()
    ends = []
    for _ in range(10):
        ends.append(named(new, relay.secret, "phoenix", ["nobody"], instance))
        assert ends[-1].admitted()
    for old in ends[:-1]:
        assert not old.is_alive() and not any(b"superseded" in f.payload for f in old.seen)
    assert ends[-1].is_alive()


# -- WebSocket

def in_websocket(new):
    return new(websocket=True)


BAD_WS = {
    "unmasked": (ws_frame(b"x", masked=False), 1002),
    "rsv1": (ws_frame(b"x", rsv=4), 1002), "rsv2": (ws_frame(b"x", rsv=2), 1002), "rsv3": (ws_frame(b"x", rsv=1), 1002),
    "opcode_3": (ws_frame(b"x", opcode=3), 1002), "opcode_11": (ws_frame(b"", opcode=11), 1002),
    "fragmented_ping": (ws_frame(b"x", opcode=9, fin=False), 1002), "fragmented_close": (ws_frame(b"\3\xe8", opcode=CLOSE, fin=False), 1002),
    "ping_of_126": (ws_frame(b"x" * 126, opcode=9), 1002),
    "continuation_of_nothing": (ws_frame(b"x", opcode=CONTINUATION), 1002),
    "message_in_a_message": (ws_frame(b"", fin=False) + ws_frame(b"x"), 1002),
    "close_1005": (ws_frame(struct.pack(">H", 1005), opcode=CLOSE), 1002), "close_1006": (ws_frame(struct.pack(">H", 1006), opcode=CLOSE), 1002),
    "close_999": (ws_frame(struct.pack(">H", 999), opcode=CLOSE), 1002), "close_of_1_byte": (ws_frame(b"\3", opcode=CLOSE), 1002),
    "text": (ws_frame(b"hello", opcode=TEXT), 1003),
    "length_of_16_mib": (ws_frame(b"x", length=(16 << 20) + 1), 1009),
    "length_of_63_bits": (ws_frame(b"x", length=(1 << 63) - 1), 1009), "length_of_2_to_the_63": (ws_frame(b"", length=1 << 63), 1002),
}


@pytest.mark.parametrize("row", BAD_WS)
def test_D21_a_websocket_frame_that_may_not_be_ends_it_with_its_code(new, row):
    c = in_websocket(new)
    c.raw_send(BAD_WS[row][0])
    assert c.ws_end() == BAD_WS[row][1]


@pytest.mark.parametrize("code", [b"", struct.pack(">H", 1000), struct.pack(">H", 1001) + b"bye", struct.pack(">H", 3000),
                                  struct.pack(">H", 1000) + b"\xff\xfe"],
                         ids=["none", "normal", "going_away", "registered", "text_that_is_no_utf8"])
def test_D21_a_close_comes_back_and_ends_it(new, code):
    """Text that is not UTF-8 is not looked at: nobody reads it, and the connection ends in any case."""
    c = in_websocket(new)
    c.raw_send(ws_frame(code, opcode=CLOSE))
    assert c.ws_end() == (int.from_bytes(code[:2], "big") if code else 1005)


def test_D21_boundaries_of_messages_mean_nothing(new, derp):
    c = in_websocket(new)
    whole = frame(SEND, derp.key.public + b"one") + frame(SEND, derp.key.public + b"two")
    c.raw_send(ws_frame(whole))
    whole += frame(PING, b"12345678")
    for at in range(len(whole)):
        c.raw_send(ws_frame(whole[at:at + 1], opcode=CONTINUATION if at % 3 else 2, fin=at % 3 == 2 or at == len(whole) - 1))
        if at % 10 == 0:
            c.raw_send(ws_frame(b"between", opcode=9))
    assert [derp.packet()[1] for _ in range(4)] == [b"one", b"two"] * 2
    assert c.read_a(PONG) == b"12345678"  # before the next Ping: one answer waits
    assert c.is_alive() and set(c.pongs) == {b"between"}


def test_D21_bad_derp_inside_websocket_ends_it(new):
    c = in_websocket(new)
    c.frame(WATCH_CONNS)
    assert c.ws_end() is not None or c.closed


def test_D22_another_version_of_websocket_is_told_ours(new):
    for version in ("8", "12", "14", "", "13, 8"):
        fields = [f if "Version" not in f else f"Sec-WebSocket-Version: {version}" for f in WEBSOCKET]
        c = new(enter=False)
        first, said = c.ask(fields)
        assert first.split()[1] == "400" and said["sec-websocket-version"] == "13"
        assert c.ended()


@pytest.mark.parametrize("key", ["", "AAAA", "!" * 24, "A" * 22, "A" * 24, "QUFBQUFBQUFBQUFBQUFBQUE="], ids=str)
def test_D22_a_websocket_key_that_is_not_16_bytes_is_400(new, key):
    fields = [f if "Key" not in f else f"Sec-WebSocket-Key: {key}" for f in WEBSOCKET]
    assert new(enter=False).ask(fields)[0].split()[1] == "400"


def test_D22_a_protocol_that_only_contains_the_letters_is_ended_by_1008(new):
    c = new(enter=False)
    first, said = c.ask([f if "Protocol" not in f else "Sec-WebSocket-Protocol: xderp" for f in WEBSOCKET])
    assert first.split()[1] == "101" and "sec-websocket-protocol" not in said
    assert c.ws_end() == 1008


# -- silence: a relay with deadlines that a test can wait for

HALVES = {"head": frame(SEND)[:3], "key": frame(SEND, bytes(10), 132), "packet": frame(SEND, bytes(50), 132), "unknown": frame(0x7f, b"x", 2)}


@pytest.mark.parametrize("websocket", [False, True], ids=["raw", "websocket"])
def test_D16_half_a_frame_has_a_deadline_and_the_time_between_frames_has_none(world, websocket):
    with open(f"{world.tmp}/frame.yaml", "w", encoding="ascii") as f:
        f.write("limits:\n  frame: 1s\nderp:\n  allow: any\n")
    relay = world.relay(args=["--config", f"{world.tmp}/frame.yaml"])
    ends = {row: Client(relay.port, websocket=websocket) for row in ["idle", *HALVES]}
    world.cleanups += [c.close for c in ends.values()]
    began = time.monotonic()
    for row, half in HALVES.items():
        ends[row].send(half)
    for row in HALVES:
        assert ends[row].ended(), row
        assert 0.9 < time.monotonic() - began < 10
    assert ends["idle"].is_alive()


def test_D16_a_handshake_has_a_deadline_at_each_step(world):
    with open(f"{world.tmp}/register.yaml", "w", encoding="ascii") as f:
        f.write("limits:\n  register: 1s\nderp:\n  allow: any\n")
    relay = world.relay(args=["--config", f"{world.tmp}/register.yaml"])
    silent = {row: Client(relay.port, enter=False) for row in ("nothing", "half_a_request", "no_client_info", "half_a_client_info")}
    world.cleanups += [c.close for c in silent.values()]
    silent["half_a_request"].send(request("Upgrade: DERP")[:-2])
    for row in ("no_client_info", "half_a_client_info"):
        silent[row].ask()
        silent[row].greeting()
    silent["half_a_client_info"].send(frame(CLIENT_INFO, silent["half_a_client_info"].box())[:60])
    began = time.monotonic()
    for row, c in silent.items():
        assert not c.take(1), row
        assert time.monotonic() - began < 10
