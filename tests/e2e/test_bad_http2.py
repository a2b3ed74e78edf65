"""Bad TLS and HTTP/2 input (rows H of the bad-input table): the stated end, and nobody else is disturbed."""
import os
import socket
import ssl
import struct
import time

import pytest
from fixtures import peer, standing, undisturbed as relay  # noqa: F401
from scripted import (ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
                      FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS, INTERNAL_ERROR, NO_ERROR, PADDED, PING, PREFACE,
                      PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, TUNNEL,
                      WINDOW_UPDATE, Peer, request_fields)


def tls(relay, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    for name, value in options.items():
        setattr(context, name, value)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", relay.port)))


# -- before there are frames

def test_H01_plain_http_is_let_go(relay):
    with socket.create_connection(("127.0.0.1", relay.port)) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        s.settimeout(15)
        while s.recv(1000):
            pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_H02_old_tls_is_refused(relay):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls(relay, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=version)


def test_H03_any_server_name_is_served(relay):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name in (None, "unknown.example", "a." * 120 + "x"):
        context.wrap_socket(socket.create_connection(("127.0.0.1", relay.port)), server_hostname=name).close()


def client_hello(name):
    """A ClientHello whose server name is these bytes: no TLS library would write them."""
    out = ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="placeholder.example").do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read()
    extension = lambda n: struct.pack(">HHHBH", 0, len(n) + 5, len(n) + 3, 0, len(n)) + n  # RFC 6066 3
    old = extension(b"placeholder.example")
    assert hello.count(old) == 1
    head, tail = hello.split(old)
    at = 5 + 4 + 2 + 32  # record, handshake, version, random; then session id, suites, compression
    for size in (1, 2, 1):
        at += size + int.from_bytes(head[at:at + size], "big")
    body = head[9:at] + struct.pack(">H", len(head) - at - 2 + len(extension(name)) + len(tail)) + head[at + 2:] \
        + extension(name) + tail
    handshake = bytes([1]) + struct.pack(">I", len(body))[1:] + body
    return hello[:3] + struct.pack(">H", len(handshake)) + handshake


@pytest.mark.parametrize("name", [b"a\0b.example", b"\0", b"n" * 300, b"", b"\xff\xfe", b"placeholder.example"],
                         ids=["nul", "only_nul", "300_bytes", "empty", "no_utf8", "good"])
def test_H03_odd_server_names_get_an_answer_or_an_alert(relay, name):
    with socket.create_connection(("127.0.0.1", relay.port)) as s:
        s.settimeout(15)
        s.sendall(client_hello(name))
        kind = s.recv(1)
        assert kind in (b"\x15", b"\x16")  # alert, handshake
        assert kind == b"\x16" or name != b"placeholder.example"


def test_H04_only_unknown_protocols_are_an_alert(relay):
    for alpn in (["spdy/3"], ["h2c"], [f"p{i}" for i in range(255)]):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Peer(relay.port, greet=False, alpn=alpn)
    assert Peer(relay.port, greet=False, alpn=["http/1.1", "h2"]).s.selected_alpn_protocol() == "h2"


def test_H05_http1_after_agreeing_on_h2_ends_the_connection(relay):
    p = Peer(relay.port, greet=False)
    p.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert p.ended()


@pytest.mark.parametrize("alpn", [(), ["http/1.1"]], ids=["none", "http1"])
@pytest.mark.parametrize("data, status", [(PREFACE + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]), 505),
                                          (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200)], ids=["h2", "http1"])
def test_H05_without_an_agreement_on_h2_only_http1_is_spoken(relay, alpn, data, status):
    p = Peer(relay.port, greet=False, alpn=alpn)
    p.send(data)
    assert p.ended() and p.buffer.startswith(b"%d " % status)


def test_H06_bad_preface_ends_the_connection(relay):
    p = Peer(relay.port, greet=False)
    p.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    assert p.ended()


def test_H08_first_frame_that_is_no_settings(relay):
    p = Peer(relay.port, greet=False)
    p.send(PREFACE)
    p.frame(PING, 0, 0, b"12345678")
    assert p.goaway() == PROTOCOL_ERROR


# -- frames: kind, flags, stream, payload, and the code of the GOAWAY

CONNECTION_ERRORS = {
    "H09_settings_of_7_bytes": ((SETTINGS, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    "H09_settings_ack_with_payload": ((SETTINGS, ACK, 0, b"123456"), FRAME_SIZE_ERROR),
    "H09_settings_on_a_stream": ((SETTINGS, 0, 3, b""), PROTOCOL_ERROR),
    "H09_settings_with_33_entries": ((SETTINGS, 0, 0, struct.pack(">HI", 4, 65535) * 33), ENHANCE_YOUR_CALM),
    "H10_enable_push_2": ((SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), PROTOCOL_ERROR),
    "H10_window_beyond_31_bits": ((SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), FLOW_CONTROL_ERROR),
    "H10_max_frame_size_too_small": ((SETTINGS, 0, 0, struct.pack(">HI", 5, 16383)), PROTOCOL_ERROR),
    "H11_frame_beyond_16384": ((PING, 0, 0, b"x" * 16385), FRAME_SIZE_ERROR),
    "H12_data_on_stream_0": ((DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "H12_headers_on_stream_0": ((HEADERS, END_HEADERS, 0, b"\x82"), PROTOCOL_ERROR),
    "H12_even_stream": ((HEADERS, END_HEADERS, 2, b"\x3f\xe1\x07\x82"), PROTOCOL_ERROR),
    "H13_data_on_idle_stream": ((DATA, 0, 5, b"x"), PROTOCOL_ERROR),
    "H14_padding_longer_than_payload": ((HEADERS, END_HEADERS | PADDED, 1, b"\x05\x82"), PROTOCOL_ERROR),
    "H15_window_update_0_on_connection": ((WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "H15_window_overflow_on_connection": ((WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), FLOW_CONTROL_ERROR),
    "H17_continuation_without_headers": ((CONTINUATION, END_HEADERS, 1, b"\x82"), PROTOCOL_ERROR),
    "H18_hpack_index_0": ((HEADERS, END_HEADERS, 1, b"\x3f\xe1\x07\x80"), COMPRESSION_ERROR),
    "H18_hpack_index_too_large": ((HEADERS, END_HEADERS, 1, b"\x3f\xe1\x07\xff\xff\x7f"), COMPRESSION_ERROR),
    "H18_hpack_bad_huffman": ((HEADERS, END_HEADERS, 1, b"\x3f\xe1\x07\x00\x81\x00\x01a"), COMPRESSION_ERROR),
    "H18_hpack_table_beyond_limit": ((HEADERS, END_HEADERS, 1, b"\x3f\xe1\x7f\x82"), COMPRESSION_ERROR),
    "H18_hpack_endless_integer": ((HEADERS, END_HEADERS, 1, b"\x3f\xe1\x07\xff" + b"\x80" * 20 + b"\x01"), COMPRESSION_ERROR),
    "H22_push_promise_from_client": ((PUSH_PROMISE, END_HEADERS, 1, bytes([0, 0, 0, 2, 0x82])), PROTOCOL_ERROR),
    "H23_priority_of_4_bytes": ((PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    "H23_priority_on_itself": ((PRIORITY, 0, 1, b"\0\0\0\1\5"), PROTOCOL_ERROR),
    "H24_ping_of_7_bytes": ((PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    "H24_ping_on_a_stream": ((PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "H26_rst_on_idle_stream": ((RST_STREAM, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "H26_rst_of_3_bytes": ((RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize("row", CONNECTION_ERRORS)
def test_frames_that_end_the_connection(peer, row):
    frame, code = CONNECTION_ERRORS[row]
    peer.frame(*frame)
    assert peer.goaway() == code


def test_H13_data_after_end_stream(peer):
    with peer.at_once():  # before the answer has closed the stream from our side too
        peer.headers(1, request_fields(), END_HEADERS | END_STREAM)
        peer.frame(DATA, 0, 1, b"late")
    assert peer.goaway() == STREAM_CLOSED


def test_H15_window_overflow_on_a_stream_costs_the_stream(peer):
    peer.call()
    peer.frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff")
    assert peer.rst() == FLOW_CONTROL_ERROR
    assert peer.is_alive()


def test_H17_other_frame_inside_a_header_block(peer):
    peer.headers(1, request_fields(), 0)
    peer.frame(PING, 0, 0, b"12345678")
    assert peer.goaway() == PROTOCOL_ERROR


def test_H17_T07_too_many_continuations(peer):
    peer.headers(1, request_fields(), 0)
    for _ in range(20):
        peer.frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")
    assert peer.ended()


@pytest.mark.parametrize("more", [[("x-long", "v" * 8193)], [("x-huge", "v" * 15000)], [(f"x{i}", "v") for i in range(300)]],
                         ids=["8193_bytes", "15000_bytes", "300_fields"])
def test_H19_oversized_header_list_costs_the_stream(peer, more):
    peer.call(1, TUNNEL, *more)
    peer.rst()
    peer.call(3)
    assert peer.is_alive()


MALFORMED = {
    "H20_pseudo_after_regular": [(":method", "POST"), (":scheme", "https"), ("te", "trailers"), (":path", TUNNEL)],
    "H20_two_paths": request_fields() + [],
    "H20_no_scheme": [(":method", "POST"), (":path", TUNNEL)],
    "H20_unknown_pseudo": [(":method", "POST"), (":scheme", "https"), (":path", TUNNEL), (":colour", "red")],
    "H20_upper_case_name": request_fields(TUNNEL, ("X-Upper", "v")),
    "H20_connection_header": request_fields(TUNNEL, ("connection", "close")),
    "H20_te_gzip": [f if f[0] != "te" else ("te", "gzip") for f in request_fields()],
    "H20_value_with_newline": request_fields(TUNNEL, ("x", "a\r\nb")),
    "H20_value_with_nul": request_fields(TUNNEL, ("x", "a\0b")),
    "H22_protocol_without_our_setting": [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                                         (":path", "/x"), (":authority", "y")],
    "G17_two_authorities": request_fields() + [],
}
MALFORMED["H20_two_paths"].insert(3, (":path", "/other"))
MALFORMED["G17_two_authorities"].insert(4, (":authority", "other"))


@pytest.mark.parametrize("row", MALFORMED)
def test_malformed_requests_cost_their_stream(peer, row):
    peer.headers(1, MALFORMED[row])
    assert peer.rst() in (PROTOCOL_ERROR, INTERNAL_ERROR)
    assert peer.is_alive()


def test_H21_content_length_that_does_not_fit(peer):
    peer.headers(1, request_fields(TUNNEL, ("content-length", "5")))
    peer.frame(DATA, END_STREAM, 1, b"123456789")
    assert peer.rst() == PROTOCOL_ERROR
    assert peer.is_alive()


def test_H25_no_new_stream_after_the_peers_goaway(peer):
    peer.call()
    peer.frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR))
    peer.frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))
    assert peer.ended()


def test_H27_a_few_unknown_frames_are_ignored(peer):
    for _ in range(10):
        peer.frame(0xFA, 0xFF, 0, b"whatever")
    assert peer.is_alive()


def test_H28_trailers_without_end_stream(peer):
    peer.call()
    peer.headers(1, [("x-late", "1")])
    assert peer.rst() == PROTOCOL_ERROR
    assert peer.is_alive()


def test_H29_more_streams_than_announced(peer):
    for i in range(101):
        peer.call(2 * i + 1)
    assert peer.goaway() == PROTOCOL_ERROR  # SETTINGS were acknowledged


def test_H30_the_last_stream_id_is_served_and_a_new_connection_asked_for(peer):
    peer.call(0x7FFFFFFF, "/unknown")
    goaway = peer.read_until(lambda f: f.type == GOAWAY).payload
    assert int.from_bytes(goaway[:4], "big") == 0x7FFFFFFF and int.from_bytes(goaway[4:8], "big") == NO_ERROR
    assert peer.answer(0x7FFFFFFF)["grpc-status"] == "12"


def test_H31_a_tls_end_without_close_notify_in_a_frame_leaves_nothing(relay):
    before, at = relay.counters()["connections_open"], relay.count()
    for _ in range(10):
        p = Peer(relay.port)
        p.send(bytes([0, 0, 50, DATA, 0, 0, 0, 0, 1]) + b"half")
        p.s.unwrap = None
        os.close(p.s.detach())  # FIN, no close_notify
    end = time.monotonic() + 10
    while relay.counters()["connections_open"] != before:
        assert time.monotonic() < end, "connections stay open"
        time.sleep(0.05)
    assert not [line for line in relay.lines[at:] if "level=warn" in line or "level=error" in line]


def test_H31_a_reset_in_the_middle_of_a_header_leaves_nothing(relay):
    before = relay.counters()["connections_open"]
    for _ in range(10):
        p = Peer(relay.port)
        p.send(bytes([0, 0, 50, HEADERS, END_HEADERS, 0, 0, 0, 1]) + b"\x3f\xe1")
        p.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        p.close()
    end = time.monotonic() + 10
    while relay.counters()["connections_open"] != before:
        assert time.monotonic() < end, "connections stay open"
        time.sleep(0.05)


# -- floods: what is answered and what is not

FLOODS = {
    "T06_pings": (PING, 0, 0, b"12345678"),
    "T06_settings": (SETTINGS, 0, 0, b""),
    "H23_priority": (PRIORITY, 0, 1, bytes(4) + b"\x05"),
    "H24_unsolicited_ping_acks": (PING, ACK, 0, b"12345678"),
    "H27_unknown_frames": (0xFA, 0, 0, b"x"),
    "G11_empty_data": (DATA, 0, 1, b""),
    "window_updates": (WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
}


@pytest.mark.parametrize("row", FLOODS)
def test_floods_end_with_enhance_your_calm(peer, row):
    peer.call()
    for _ in range(40):
        if not peer.closed:
            kind, flags, stream, payload = FLOODS[row]
            head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
            peer.send((head + payload) * 100)
    assert peer.goaway() == ENHANCE_YOUR_CALM


def test_T04_rapid_reset_ends_with_enhance_your_calm(peer):
    with peer.at_once():
        for i in range(250):
            peer.call(2 * i + 1)
            peer.frame(RST_STREAM, 0, 2 * i + 1, struct.pack(">I", CANCEL))
    assert peer.goaway() == ENHANCE_YOUR_CALM


def test_T05_provoked_resets_end_with_enhance_your_calm(peer):
    with peer.at_once():
        for i in range(80):
            peer.call(2 * i + 1)
            peer.frame(WINDOW_UPDATE, 0, 2 * i + 1, b"\x7f\xff\xff\xff")
    assert peer.goaway() == ENHANCE_YOUR_CALM
