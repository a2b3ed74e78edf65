"""Bad gRPC and protobuf input (rows G and P of the bad-input table), byte by byte, over real TLS."""
import struct

import pytest
from fixtures import peer, standing, undisturbed as relay  # noqa: F401
from scripted import (CANCEL, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, RST_STREAM, TUNNEL, WINDOW_UPDATE, Peer, field, message, register,
                      request_fields)

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL, \
    UNAUTHENTICATED = "0", "3", "4", "8", "9", "12", "13", "16"
CHECK = "/grpc.health.v1.Health/Check"


def after(peer, data, flags=0):
    """The status of a tunnel that says these bytes."""
    peer.call()
    peer.frame(DATA, flags, 1, data)
    status = peer.answer()["grpc-status"]
    assert peer.is_alive()
    return status


# -- requests

@pytest.mark.parametrize("content_type", ["", "application/json", "application/grpc-web+proto", "application/grpcx", "text/html"])
def test_G01_other_content_types_are_415(peer, content_type):
    peer.call(content_type=content_type)
    assert peer.answer()[":status"] == "415"
    assert peer.is_alive()


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "post"])
def test_G02_other_methods_are_405(peer, method):
    peer.call(method=method)
    answer = peer.answer()
    assert (answer[":status"], answer["grpc-status"]) == ("405", INTERNAL)


@pytest.mark.parametrize("path", ["/", "//s/m", "/s", TUNNEL + "/", TUNNEL + "?x", TUNNEL.lower(), TUNNEL.replace("T", "%54"),
                                  "/" + "x" * 7000, "/tunn.v1.TunnelService/Other", "/other.v1.Service/EstablishTunnel"])
def test_G03_G04_other_paths_are_unimplemented(peer, path):
    peer.call(1, path)
    answer = peer.answer()
    assert (answer[":status"], answer["grpc-status"]) == ("200", UNIMPLEMENTED)
    assert len(answer["grpc-message"]) < 3 * 300
    assert peer.is_alive()


def test_G03_a_path_without_slash_costs_the_stream(peer):
    peer.call(1, TUNNEL[1:])
    peer.rst()
    assert peer.is_alive()


@pytest.mark.parametrize("timeout", ["1", "S", "123456789S", "-1S", "1s", "1.5S", "x", "1 S"])
def test_G05_malformed_timeouts_are_400(peer, timeout):
    peer.call(1, TUNNEL, ("grpc-timeout", timeout))
    answer = peer.answer()
    assert (answer[":status"], answer["grpc-status"]) == ("400", INTERNAL)


def test_G05_two_timeouts_are_400(peer):
    peer.call(1, TUNNEL, ("grpc-timeout", "1S"), ("grpc-timeout", "2S"))
    assert peer.answer()[":status"] == "400"


def test_G05_no_time_left_is_deadline_exceeded(peer):
    peer.call(1, TUNNEL, ("grpc-timeout", "0S"))
    assert peer.answer()["grpc-status"] == DEADLINE_EXCEEDED


def test_G05_the_longest_timeout_works(relay, peer):
    peer.call(1, TUNNEL, ("grpc-timeout", "99999999H"))
    peer.frame(DATA, 0, 1, register(relay.secret, b"longest"))
    assert registered(peer)


def registered(peer, stream=1):
    f = peer.read_until(lambda f: f.stream == stream and (f.type == DATA or f.fields and "grpc-status" in f.fields))
    return f.type == DATA and f.payload[5] == 0x12


# -- framing

@pytest.mark.parametrize("flag", [2, 255])
def test_G06_unknown_flags_are_internal(peer, flag):
    assert after(peer, message(b"", flag)) == INTERNAL


def test_G07_compressed_messages(peer):
    peer.call(1, TUNNEL, ("grpc-encoding", "gzip"))
    peer.frame(DATA, 0, 1, message(b"x", 1))
    answer = peer.answer()
    assert (answer["grpc-status"], answer["grpc-accept-encoding"]) == (UNIMPLEMENTED, "identity")
    for stream, more in ((3, []), (5, [("grpc-encoding", "identity")])):
        peer.call(stream, TUNNEL, *more)
        peer.frame(DATA, 0, stream, message(b"x", 1))
        assert peer.answer(stream)["grpc-status"] == INTERNAL


@pytest.mark.parametrize("length", [0xFFFFFFFF, 66561])
def test_G08_too_long_is_told_from_the_prefix(peer, length):
    assert after(peer, b"\0" + struct.pack(">I", length)) == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("data", [b"\0\0\0", message(b"hello")[:-1]], ids=["in_the_prefix", "in_the_payload"])
def test_G09_end_of_stream_within_a_message_is_internal(peer, data):
    assert after(peer, data, END_STREAM) == INTERNAL


def test_G10_a_registration_in_frames_of_one_byte(relay, peer):
    peer.call()
    for byte in register(relay.secret, b"bytewise"):
        peer.frame(DATA, 0, 1, bytes([byte]))
    assert registered(peer)


def test_G12_health_check_without_or_with_two_messages(peer):
    peer.headers(1, request_fields(CHECK), END_HEADERS | END_STREAM)
    assert peer.answer(1)["grpc-status"] == UNIMPLEMENTED
    peer.call(3, CHECK)
    peer.frame(DATA, END_STREAM, 3, message(b"") * 2)
    assert peer.answer(3)["grpc-status"] == UNIMPLEMENTED


def test_G13_messages_after_our_trailers_are_ignored(peer):
    assert after(peer, message(b"", 2)) == INTERNAL
    peer.frame(DATA, 0, 1, message(b"late"))
    assert peer.is_alive()


def test_G15_an_encoding_that_no_message_uses_works(relay, peer):
    peer.call(1, TUNNEL, ("grpc-encoding", "br"))
    peer.frame(DATA, 0, 1, register(relay.secret, b"brotli"))
    assert registered(peer)


@pytest.mark.parametrize("values", [["Basic dTpw"], [""], ["Bearer"], ["Bearer a", "Bearer b"], ["Bearer\ttunn_x"], ["Bearer " + "x" * 4000]],
                         ids=["basic", "empty", "no_token", "two", "tab", "long"])
def test_G16_malformed_authorization_is_unauthenticated(peer, values):
    peer.call(1, TUNNEL, *(("authorization", v) for v in values))
    peer.frame(DATA, 0, 1, register("", b"auth"))
    answer = peer.answer()
    assert answer["grpc-status"] == UNAUTHENTICATED
    assert "xxxx" not in answer["grpc-message"]


def test_G16_the_scheme_is_case_insensitive(relay, peer):
    peer.call(1, TUNNEL, ("authorization", f"bEARER {relay.secret}"))
    peer.frame(DATA, 0, 1, register("", b"lower"))
    assert registered(peer)


def test_G18_cancelled_at_every_point_leaves_nothing(relay, peer):
    before = relay.counters()["sessions_open"]
    data = register(relay.secret, b"cancelled")
    for i, cut in enumerate([0, 3, 5, len(data) // 2, len(data)]):
        peer.call(2 * i + 1)
        peer.frame(DATA, 0, 2 * i + 1, data[:cut])
        peer.frame(RST_STREAM, 0, 2 * i + 1, struct.pack(">I", CANCEL))
    assert peer.is_alive()  # once: a PING each would be too many, where nothing was answered before the cancel
    peer.call(11)
    peer.frame(DATA, 0, 11, register(relay.secret, b"after"))
    assert registered(peer, 11)
    assert relay.counters()["sessions_open"] == before + 1


def test_G19_a_deadline_that_passes_resets_the_stream(relay, peer):
    peer.call(1, TUNNEL, ("grpc-timeout", "300m"))
    peer.frame(DATA, 0, 1, register(relay.secret, b"deadline"))
    assert registered(peer)
    assert peer.rst() == CANCEL
    assert peer.is_alive()


# -- protobuf

BROKEN = {
    "P02_truncated_varint": b"\x0a",
    "P02_varint_of_11_bytes": b"\x0a\x0d\x50" + b"\x80" * 11 + b"\x01",
    "P02_wire_type_6": b"\x0a\x02\x0e\x00",
    "P02_field_0": b"\x0a\x02\x02\x00",
    "P03_longer_than_the_message": b"\x0a\x7f\x0a",
    "P05_wrong_wire_type": b"\x0a\x02\x08\x05",
}


@pytest.mark.parametrize("row", BROKEN)
def test_messages_that_are_no_protobuf_are_internal(peer, row):
    assert after(peer, message(BROKEN[row])) == INTERNAL


REFUSED = {
    "P01_no_peer": dict(peers=()),
    "P08_id_with_nul": dict(tunnel_id=b"a\0b"),
    "P08_id_of_64": dict(tunnel_id=b"a" * 64),
    "P08_id_outside_its_grammar": dict(tunnel_id=b"A_b"),
    "P08_peer_with_two_slashes": dict(peers=(b"a/b/c",)),
    "P08_peer_without_account": dict(peers=(b"/a",)),
    "P08_key_of_31_bytes": dict(peers=(b"nodekey:" + b"a" * 62,)),
    "P09_invalid_utf8": dict(tunnel_id=b"\xc3\x28"),
    "P09_right_to_left": dict(tunnel_id="a\u202eb".encode()),
    "P09_name_of_10_kB": dict(tunnel_id=b"a" * 10000),
    "P07_role_out_of_range": dict(role=b"\x20\x07"),
    "instance_of_5_bytes": dict(more=field(11, b"short")),
}


@pytest.mark.parametrize("row", REFUSED)
def test_fields_outside_their_grammar_are_invalid_argument(relay, peer, row):
    assert after(peer, register(relay.secret, **REFUSED[row])) == INVALID_ARGUMENT


def test_P04_unknown_fields(relay, peer):
    peer.call()
    peer.frame(DATA, 0, 1, register(relay.secret, b"future", more=b"\x98\x06\x01" * 10))
    assert registered(peer)
    peer.call(3)
    for i in range(0, 64000, 16000):
        peer.frame(DATA, 0, 3, (message(b"\x0a" + b"\xfc\xf3\x03" + b"\x98\x06\x01" * 21332))[i:i + 16000])
    peer.frame(DATA, 0, 3, (message(b"\x0a" + b"\xfc\xf3\x03" + b"\x98\x06\x01" * 21332))[64000:])
    assert peer.answer(3)["grpc-status"] == RESOURCE_EXHAUSTED


def test_P06_the_last_of_a_oneof_counts(relay, peer):
    peer.call()
    once = register(relay.secret, b"last")[5:]
    peer.frame(DATA, 0, 1, message(b"\x2a\x00" + once))  # health_check first, register_client last
    assert peer.answer()["grpc-status"] == FAILED_PRECONDITION  # nothing but registration is looked at before it


@pytest.mark.parametrize("first", [message(b"\x5a\x00"), message(b"\x2a\x00"), message(b"\x12\x00"), message(b"")],
                         ids=["datagram", "health", "answer", "nothing"])
def test_P13_anything_before_registration_is_failed_precondition(peer, first):
    assert after(peer, first) == FAILED_PRECONDITION


@pytest.mark.parametrize("second", ["register", "answer"])
def test_P13_registering_twice_or_playing_the_relay_ends_the_stream(relay, peer, second):
    peer.call()
    peer.frame(DATA, 0, 1, register(relay.secret, b"twice"))
    assert registered(peer)
    peer.frame(DATA, 0, 1, register(relay.secret, b"twice") if second == "register" else message(b"\x12\x00"))
    assert peer.answer()["grpc-status"] == FAILED_PRECONDITION
    assert peer.is_alive()


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


MINUS_ONE = varint((1 << 64) - 1)  # as an int32 of -1 is written: ten bytes


def datagram(data, more=b""):
    return message(field(11, field(2, b"other") + field(3, data) + more))


def test_P10_a_negative_number_where_none_can_be_is_refused(relay, peer):
    assert after(peer, register(relay.secret, b"negative", more=b"\x50" + MINUS_ONE)) == INVALID_ARGUMENT  # version
    peer.call(3)
    peer.frame(DATA, 0, 3, register(relay.secret, b"negative"))
    assert registered(peer, 3)
    peer.frame(DATA, 0, 3, datagram(b"x", b"\x28" + MINUS_ONE))  # flow
    assert peer.answer(3)["grpc-status"] == INVALID_ARGUMENT
    assert peer.is_alive()


def test_P11_datagrams_up_to_65507_bytes_pass_and_no_longer_ones(relay, peer):
    peer.call(1)
    peer.frame(DATA, 0, 1, register(relay.secret, b"sender", (b"receiver",)))
    assert registered(peer, 1)
    end = Peer(relay.port)
    end.call(1)
    end.frame(DATA, 0, 1, register(relay.secret, b"receiver", (b"sender",)))
    assert registered(end, 1)
    for stream in (0, 1):
        end.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 20))
    before = relay.counters()
    for size in (0, 65508, 65507):
        data = message(field(11, field(2, b"receiver") + field(3, bytes(size))))
        for i in range(0, len(data), 16000):
            peer.frame(DATA, 0, 1, data[i:i + 16000])
    got = b""
    while len(got) < 65507:
        got += end.read_until(lambda f: f.type == DATA).payload
    now = relay.counters()
    assert now["packets_out_total"] - before["packets_out_total"] == 2
    assert now["drop_too_big"] - before["drop_too_big"] == 1
    assert peer.is_alive()
    end.close()


def test_P12_unknown_fields_nested_a_thousand_times_are_skipped(relay, peer):
    nested = b""
    while len(nested) < 60000 and nested.count(b"\x9a\x06") < 1000:
        nested = b"\x9a\x06" + varint(len(nested)) + nested
    data = register(relay.secret, b"nested", more=nested)
    peer.call()
    peer.frame(DATA, 0, 1, data)
    assert registered(peer)


@pytest.mark.parametrize("version", [0, 1, 2, 999, 0xFFFFFFFF])
def test_P14_any_version_is_served_as_ours(relay, peer, version):
    """Stock clients say none, later ones more: both are spoken to in version 1 (product.md 5 goes before the table)."""
    peer.call()
    peer.frame(DATA, 0, 1, register(relay.secret, b"v%d" % version, more=b"\x50" + varint(version)))
    answer = peer.read_until(lambda f: f.type == DATA).payload
    assert b"\x28\x01" in answer  # version = 1
    assert peer.is_alive()


def test_an_end_that_does_not_read_the_answers_it_asks_for_is_ended(relay, peer):
    peer.call(1)
    peer.frame(DATA, 0, 1, register(relay.secret, b"deaf", (b"other",)))
    assert registered(peer, 1)
    for _ in range(500):  # its window of 64 KiB stays shut
        peer.frame(DATA, 0, 1, message(field(5, b"\x08\x4d")) * 100)
    assert peer.rst(1) == ENHANCE_YOUR_CALM
    assert peer.is_alive()


def test_the_same_peer_again_after_an_undeclared_one_is_nobody(relay, peer):
    peer.call(1)
    peer.frame(DATA, 0, 1, register(relay.secret, b"sender2", (b"receiver2",)))
    assert registered(peer, 1)
    before = relay.counters()
    for to in (field(2, b"receiver2"), field(2, b"stranger"), b""):
        peer.frame(DATA, 0, 1, message(field(11, to + field(3, b"data"))))
    assert peer.is_alive()
    now = relay.counters()
    assert now["drop_not_declared"] - before["drop_not_declared"] == 2
    assert now["drop_no_route"] - before["drop_no_route"] == 1
