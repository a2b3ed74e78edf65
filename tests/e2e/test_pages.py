"""Plain HTTP for those who are no ends, over HTTP/2 and HTTP/1.1 (derp.md 1.3, 1.10, 1.14)."""
import email.utils
import http.client
import socket
import ssl
import time

import pytest

from scripted import DATA, END_HEADERS, END_STREAM, HEADERS, Peer, request_fields

BROWSER = {"strict-transport-security": "max-age=63072000; includeSubDomains", "x-frame-options": "DENY",
           "x-content-type-options": "nosniff"}
TEXT = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}
PROBE = {"access-control-allow-origin": "*", "content-length": "0"}
HOME = b"<h1>DERP</h1>"


@pytest.fixture
def peer(relay):
    p = Peer(relay.port)
    yield p
    p.close()


def ask(peer, stream, path, method="GET", *more):
    """Header fields and body of the answer, whatever method asked for them."""
    peer.headers(stream, request_fields(path, *more, method=method, content_type=None), END_HEADERS | END_STREAM)
    f = peer.read_until(lambda f: f.type == HEADERS and f.stream == stream)
    fields, body = f.fields, b""
    while not f.flags & END_STREAM:
        f = peer.read_until(lambda f: f.type in (DATA, HEADERS) and f.stream == stream)
        body += f.payload if f.type == DATA else b""
    return fields, body


ROUTES = pytest.mark.parametrize("method,path,status,wanted,body", [
    ("GET", "/", "200", BROWSER | {"content-type": "text/html; charset=utf-8"}, HOME),
    ("POST", "/", "200", BROWSER, HOME),
    ("GET", "/nobody/knows?this", "200", BROWSER, HOME),
    ("GET", "/derp/", "200", BROWSER, HOME),
    ("GET", "/robots.txt", "200", BROWSER | {"content-type": "text/plain; charset=utf-8"},
     b"User-agent: *\nDisallow: /\n"),
    ("GET", "/derp", "426", TEXT, b"DERP requires connection upgrade\n"),
    ("GET", "/derp/probe", "200", PROBE, b""),
    ("HEAD", "/derp/probe", "200", PROBE, b""),
    ("GET", "/derp/latency-check", "200", PROBE, b""),
    ("POST", "/derp/latency-check", "405", TEXT | {"allow": "GET, HEAD"}, b"bogus probe method\n"),
    ("GET", "/bootstrap-dns?q=a.test", "200", BROWSER | {"content-type": "application/json", "content-length": "0"}, b""),
    ("PUT", "/generate_204?t=1", "204",
     {"cache-control": "no-cache, no-store, must-revalidate, no-transform, max-age=0"}, b""),
])


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def is_now(date):
    return abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 10


@ROUTES
def test_a_route_answers_as_derper_does(peer, method, path, status, wanted, body):
    fields, got = ask(peer, 1, path, method)
    assert fields[":status"] == status and "grpc-status" not in fields and "connection" not in fields
    assert wanted.items() <= fields.items() and is_now(fields["date"])
    assert got.find(body) >= 0 if body is HOME else got == body
    assert peer.is_alive()


def test_the_challenge_of_a_portal_probe_comes_back(peer):
    fields, _ = ask(peer, 1, "/generate_204", "GET", ("x-tailscale-challenge", "ts_192.0.2.7"))
    assert fields["x-tailscale-response"] == "response ts_192.0.2.7" and "content-length" not in fields
    for stream, bad in ((3, "a b"), (5, "a" * 65), (7, "<x>"), (9, "")):
        fields, _ = ask(peer, stream, "/generate_204", "GET", ("x-tailscale-challenge", bad))
        assert "x-tailscale-response" not in fields


def test_a_page_asked_for_by_head_is_measured_and_not_sent(peer):
    length = ask(peer, 1, "/")[0]["content-length"]
    fields, body = ask(peer, 3, "/", "HEAD")
    assert fields[":status"] == "200" and fields["content-length"] == length and body == b""


def test_connect_is_refused(peer):
    peer.headers(1, [(":method", "CONNECT"), (":authority", "a.tailscale.com:443")], END_HEADERS | END_STREAM)
    assert peer.read_until(lambda f: f.type == HEADERS and f.stream == 1).fields[":status"] == "403"


def test_a_call_that_is_grpc_stays_one_on_any_path(peer):
    peer.call(1, "/", method="POST")
    assert peer.answer(1)["grpc-status"] == "12"
    peer.call(3, "/robots.txt", method="GET")
    assert peer.answer(3)[":status"] == "405"


@ROUTES
def test_a_route_answers_over_http1_and_the_connection_goes_on(relay, method, path, status, wanted, body):
    c = http.client.HTTPSConnection("127.0.0.1", relay.port, timeout=10, context=trusting())
    for n in range(2):
        c.request(method, path, body=b"skipped" if method == "POST" else None)
        if n == 0:
            first = c.sock
        r = c.getresponse()
        fields, got = {k.lower(): v for k, v in r.getheaders()}, r.read()
        assert str(r.status) == status and wanted.items() <= fields.items() and is_now(fields["date"])
        assert got.find(body) >= 0 if body is HOME else got == body
        if path.startswith("/bootstrap-dns"):
            assert fields["connection"] == "close"
            break
        assert c.sock is first and "connection" not in fields
    c.close()


def test_a_websocket_is_opened_pinged_and_closed(relay):
    """What a browser says, with the key of RFC 6455; one read may hold all of it."""
    with trusting().wrap_socket(socket.create_connection(("127.0.0.1", relay.port), 10)) as s:
        s.sendall(b"GET /derp HTTP/1.1\r\nHost: a\r\nOrigin: https://x.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  b"Sec-WebSocket-Protocol: derp\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        got = b""
        while b"DERP" not in got.partition(b"\r\n\r\n")[2]:  # the magic in ServerKey
            got += s.recv(4096)
        head, _, message = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ") and b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert b"Sec-WebSocket-Protocol: derp" in head and b"Extensions" not in head
        assert message[:2] == bytes([0x82, 45]) and message[2:7] == b"\x01\0\0\0\x28"
        s.sendall(b"\x89\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe8")
        rest = message[47:]
        while data := s.recv(4096):
            rest += data
        assert rest == b"\x8a\x02hi\x88\x02\x03\xe8"
