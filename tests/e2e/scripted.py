"""A peer that says exactly the HTTP/2 bytes it is told to, over real TLS; its twin, a relay, is in scripted_relay.py."""
import contextlib
import re
import socket
import ssl
import struct
import types
import zlib

import hpack

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, \
    REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(10)
ENHANCE_YOUR_CALM = 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TUNNEL = "/tunn.v1.TunnelService/EstablishTunnel"


def request_fields(path=TUNNEL, *more, method="POST", content_type="application/grpc"):
    fields = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "localhost"), ("te", "trailers")]
    return fields + ([("content-type", content_type)] if content_type else []) + list(more)


def message(payload, flag=0):
    return bytes([flag]) + struct.pack(">I", len(payload)) + payload


def field(number, value):
    """A length-delimited protobuf field."""
    length, out = len(value), b""
    while length > 127:
        out, length = out + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + out + bytes([length]) + value


def register(token, tunnel_id=b"peer", peers=(b"other",), more=b"", role=b""):
    relay = b"".join(field(3, p) for p in peers) + role
    return message(field(1, field(1, tunnel_id) + field(3, token.encode()) + field(9, relay) + more))


def token_with(secret, change):
    """The same token with another part, its checksum right."""
    kid, middle, _ = re.fullmatch(r"tunn_(\w+?)_(\w+)_(\w{8})", secret).groups()
    body = "tunn_%s_%s" % change(kid, middle)
    return "%s_%08x" % (body, zlib.crc32(body.encode()))


def varied(text):
    return ("a" if text[0] != "a" else "b") + text[1:]


class Wire:
    """Frames of HTTP/2 over a socket, on either side."""

    def __init__(self, s):
        self.s = s
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.settimeout(15)
        self.encoder, self.decoder, self.buffer, self.closed = hpack.Encoder(), hpack.Decoder(), b"", False
        self.held = None

    def send(self, data):
        try:
            self.s.sendall(data)
        except (OSError, ssl.SSLError):
            self.closed = True

    def frame(self, kind, flags=0, stream=0, payload=b""):
        data = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
        if self.held is None:
            self.send(data)
        else:
            self.held += data

    @contextlib.contextmanager
    def at_once(self):
        """The frames of the block go out in one write."""
        self.held = b""
        yield
        held, self.held = self.held, None
        self.send(held)

    def headers(self, stream, fields, flags=END_HEADERS):
        self.frame(HEADERS, flags, stream, self.encoder.encode(fields))

    def take(self, n):
        while len(self.buffer) < n:
            try:
                data = self.s.recv(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                self.closed = True
                return None
            self.buffer += data
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def read(self):
        """The next frame, or None once the connection has ended. SETTINGS and PING are answered."""
        head = self.take(9)
        payload = head and self.take(int.from_bytes(head[:3], "big"))
        if payload is None or head is None:
            return None
        f = types.SimpleNamespace(type=head[3], flags=head[4], stream=int.from_bytes(head[5:9], "big"), payload=payload)
        f.list = self.decoder.decode(payload) if f.type == HEADERS else None
        f.fields = f.list and dict(f.list)
        if f.type == PING and not f.flags & ACK:
            self.frame(PING, ACK, 0, payload)
        return f

    def read_until(self, wanted):
        while (f := self.read()) is not None:
            if wanted(f):
                return f
        raise AssertionError("the connection ended before the frame that was expected")

    def goaway(self):
        """The code of the GOAWAY that ends the connection; then the connection does end."""
        code = int.from_bytes(self.read_until(lambda f: f.type == GOAWAY).payload[4:8], "big")
        while self.read():
            pass
        return code

    def rst(self, stream=1):
        return int.from_bytes(self.read_until(lambda f: f.type == RST_STREAM and f.stream == stream).payload, "big")

    def answer(self, stream=1):
        """All header fields of the answer, trailers included."""
        fields = {}
        while True:
            f = self.read_until(lambda f: f.type == HEADERS and f.stream == stream)
            fields |= f.fields
            if f.flags & END_STREAM:
                return fields

    def is_alive(self):
        self.frame(PING, 0, 0, b"alive???")
        return self.read_until(lambda f: f.type == PING and f.flags & ACK and f.payload == b"alive???") is not None

    def ended(self):
        while self.read():
            pass
        return True

    def close(self):
        self.s.close()


class Peer(Wire):
    def __init__(self, port, greet=True, alpn=("h2",), source="127.0.0.1"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(list(alpn))
        super().__init__(context.wrap_socket(socket.create_connection(("127.0.0.1", port), 15, (source, 0))))
        if greet:
            self.send(PREFACE)
            self.frame(SETTINGS)
            self.read_until(lambda f: f.type == SETTINGS and not f.flags & ACK)
            self.frame(SETTINGS, ACK)

    def call(self, stream=1, path=TUNNEL, *more, **kw):
        self.headers(stream, request_fields(path, *more, **kw))


def settings_of(port):
    """What a relay says in its first SETTINGS frame, by identifier (RFC 9113 section 6.5.2)."""
    p = Peer(port, greet=False)
    p.send(PREFACE)
    p.frame(SETTINGS)
    said = p.read_until(lambda f: f.type == SETTINGS and not f.flags & ACK).payload
    p.close()
    return {int.from_bytes(said[i:i + 2], "big"): int.from_bytes(said[i + 2:i + 6], "big") for i in range(0, len(said), 6)}
