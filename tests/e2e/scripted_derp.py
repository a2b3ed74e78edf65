"""DERP, byte by byte, over real TLS: a client that says what it is told to, and a server that does and remembers all it heard."""
import base64
import json
import os
import socket
import ssl
import struct
import types

import nacl.bindings
import nacl.exceptions
import nacl.public
import nacl.signing

SERVER_KEY, CLIENT_INFO, SERVER_INFO, SEND, RECV, KEEP_ALIVE, NOTE_PREFERRED, PEER_GONE, PEER_PRESENT, FORWARD = range(1, 11)
WATCH_CONNS, CLOSE_PEER, PING, PONG, HEALTH, RESTARTING = range(0x10, 0x16)
TUNN = 0x74
MAGIC = b"DERP\xf0\x9f\x94\x91"
DISCO = b"TS\xf0\x9f\x92\xac"
DISCONNECTED, NOT_HERE = 0, 1
ALIVE = b"alive???"
BINARY, TEXT, CONTINUATION, CLOSE = 2, 1, 0, 8  # opcodes of WebSocket


class NodeKey:
    """A Curve25519 key as nodes have them."""

    def __init__(self, secret=None):
        self.secret = bytearray(secret or os.urandom(32))
        self.secret[0] &= 248
        self.secret[31] = self.secret[31] & 127 | 64
        self.box = nacl.public.PrivateKey(bytes(self.secret))
        self.public = bytes(self.box.public_key)
        self.hex = self.public.hex()
        self.text = "nodekey:" + self.hex

    def seal(self, public, text):
        return bytes(nacl.public.Box(self.box, nacl.public.PublicKey(public)).encrypt(text))

    def open(self, public, sealed):
        return nacl.public.Box(self.box, nacl.public.PublicKey(public)).decrypt(sealed)


def frame(kind, payload=b"", length=None):
    return bytes([kind]) + struct.pack(">I", len(payload) if length is None else length) + payload


def disco(size=62):
    """A packet that looks as if it searched for a path."""
    return DISCO + os.urandom(size - len(DISCO))


def request(*fields, path="/derp", method="GET", host="127.0.0.1", version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


UPGRADE = ("Upgrade: DERP", "Connection: Upgrade")
FAST = (*UPGRADE, "Derp-Fast-Start: 1")
WEBSOCKET = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: derp",
             "Sec-WebSocket-Key: " + base64.b64encode(bytes(range(16))).decode())


def ws_frame(payload, opcode=BINARY, fin=True, rsv=0, masked=True, length=None):
    """One frame of RFC 6455 5.2; `length` in place of the true one, in its 64 bit form."""
    n = len(payload)
    bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length is not None:
        head += bytes([bit | 127]) + struct.pack(">Q", length)
    elif n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    whole = int.from_bytes((mask * (n // 4 + 1))[:n], "big") ^ int.from_bytes(payload, "big")
    return head + mask + whole.to_bytes(n, "big")


class Stream:
    """Bytes and frames over a socket, on either side."""

    def __init__(self, s, seconds=15):
        self.s, self.buffer, self.closed, self.heard = s, b"", False, b""
        s.settimeout(seconds)

    def send(self, data):
        """Whether all of it went."""
        try:
            self.s.sendall(data)
        except (OSError, ssl.SSLError):
            self.closed = True
        return not self.closed

    def more(self):
        """Waits for bytes. False: the connection has ended."""
        try:
            data = self.s.recv(65536)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            data = b""
        self.closed = self.closed or not data
        self.heard += data
        self.arrived(data)
        return bool(data)

    def arrived(self, data):
        self.buffer += data

    def comes(self, seconds):
        """Whether anything is there to be read by then."""
        before = self.s.gettimeout()
        self.s.settimeout(seconds)
        try:
            return bool(self.buffer) or self.more()
        except (TimeoutError, ssl.SSLWantReadError):  # the latter: seconds was 0
            return False
        finally:
            self.s.settimeout(before)

    def take(self, n):
        """That many bytes, or None once the connection has ended."""
        while len(self.buffer) < n:
            if not self.more():
                return None
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def take_line(self, end=b"\r\n\r\n"):
        while end not in self.buffer:
            if not self.more():
                return None
        out, self.buffer = self.buffer.split(end, 1)
        return out

    def head(self):
        """First line and fields of the next HTTP head, names in lower case."""
        text = self.take_line()
        assert text is not None, "the connection ended before an HTTP head"
        first, *lines = text.decode().split("\r\n")
        return first, {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}

    def frame(self, kind, payload=b"", length=None):
        return self.send(frame(kind, payload, length))

    def read(self):
        """The next frame, or None once the connection has ended."""
        head = self.take(5)
        payload = head and self.take(int.from_bytes(head[1:], "big"))
        return None if payload is None or head is None else types.SimpleNamespace(type=head[0], payload=payload)

    def read_until(self, wanted):
        while (f := self.read()) is not None:
            if wanted(f):
                return f
        raise AssertionError("the connection ended before the frame that was expected")

    def read_a(self, kind):
        return self.read_until(lambda f: f.type == kind).payload

    def ended(self):
        """The connection ends, and nothing but frames without a packet came before."""
        while (f := self.read()) is not None:
            assert f.type not in (RECV, SERVER_INFO), f"a frame of type {f.type} before the end"
        return True

    def drop(self):
        """Ends without any farewell."""
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.s.close()


def secure(port, alpn=(), source="127.0.0.1", receive_buffer=None, ip="127.0.0.1"):
    """TLS to a relay that is not asked who it is, as little as may be."""
    raw = socket.socket()
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.settimeout(15)
    raw.bind((source, 0))
    raw.connect((ip, port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context.wrap_socket(raw)


class Client(Stream):
    """A native DERP end. With `enter` it is admitted, or finds in .info that it is not; else each step is a call."""

    def __init__(self, port, key=None, enter=True, fields=UPGRADE, websocket=False, relay_key=None, info=None, **tls):
        super().__init__(secure(port, **tls))
        self.key, self.relay_key, self.info, self.seen = key or NodeKey(), relay_key, None, []
        self.in_ws, self.raw, self.ws_code, self.pongs = False, b"", None, []
        if enter:
            self.ask(WEBSOCKET if websocket else fields)
            self.greeting()
            self.introduce(info)
            self.admitted()

    # -- handshake

    def ask(self, fields=UPGRADE, more=b"", **kw):
        """The request, and the head of its answer unless there will be none."""
        self.send(request(*fields, **kw) + more)
        if "Derp-Fast-Start: 1" in fields:
            return None
        answer = self.head()
        if answer[1].get("upgrade") == "websocket":
            self.in_ws, self.raw, self.buffer = True, self.buffer, b""
            self.arrived(b"")
        return answer

    def greeting(self):
        f = self.read()
        assert f and (f.type, f.payload[:8]) == (SERVER_KEY, MAGIC)
        self.relay_key, self.marked = f.payload[8:40], f.payload[40:] == b"tunn1"

    def box(self, info=None):
        """The payload of ClientInfo; info is an object, or the text itself."""
        info = {"version": 2, "CanAckPings": True} if info is None else info
        text = info if isinstance(info, bytes) else json.dumps(info).encode()
        return self.key.public + self.key.seal(self.relay_key, text)

    def introduce(self, info=None):
        return self.frame(CLIENT_INFO, self.box(info))

    def admitted(self):
        """What ServerInfo says; None: we are not, and the connection has ended."""
        f = self.read()
        if f:
            assert f.type == SERVER_INFO
            self.info = json.loads(self.key.open(self.relay_key, f.payload))
        return self.info

    # -- packets

    def send_to(self, key, packet):
        return self.frame(SEND, (key if isinstance(key, bytes) else key.public) + packet)

    def packet(self):
        """Source and bytes of the next one."""
        payload = self.read_a(RECV)
        return payload[:32], payload[32:]

    def is_alive(self, mark=ALIVE):
        """Everything said so far has been read; what came meanwhile is in .seen."""
        self.seen = []
        self.frame(PING, mark)
        while (f := self.read()) is not None:
            if f.type == PONG and f.payload == mark:
                return True
            self.seen.append(f)
        return False

    def saw(self, kind):
        return [f.payload for f in self.seen if f.type == kind]

    # -- WebSocket

    def send(self, data):
        """Inside WebSocket in as many messages as it takes; bytes that are no frames of ours: raw_send()."""
        return super().send(ws_frame(data) if self.in_ws else data)

    def raw_send(self, data):
        return super().send(data)

    def arrived(self, data):
        if not self.in_ws:
            self.buffer += data
            return
        self.raw += data
        while self.one_message():
            pass

    def one_message(self):
        raw = self.raw
        if len(raw) < 2:
            return False
        assert not raw[1] & 0x80, "a server's frames are not masked"
        n, at = raw[1] & 127, 2
        if n >= 126:
            at, n = (4, int.from_bytes(raw[2:4], "big")) if n == 126 else (10, int.from_bytes(raw[2:10], "big"))
        if len(raw) < at + n:
            return False
        opcode, payload, self.raw = raw[0] & 15, raw[at:at + n], raw[at + n:]
        if opcode == CLOSE:
            self.ws_code = int.from_bytes(payload[:2], "big") if payload else 1005
        elif opcode == 10:
            self.pongs.append(payload)
        else:
            assert raw[0] == 0x80 | BINARY and n <= 32768, "binary messages that browsers take"
            self.buffer += payload
        return True

    def ws_end(self):
        """The code the connection ends with."""
        while self.more():
            pass
        return self.ws_code


# -- a server

def der(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    size = bytes([n]) if n < 128 else bytes([0x80 | (n.bit_length() + 7) // 8]) + n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag]) + size + body


def meta_certificate(public, cut=False):
    """The certificate that carries a DERP server's key (derp.md 1.2.1), in PEM."""
    signer = nacl.signing.SigningKey.generate()
    ed25519 = der(0x30, der(6, bytes([0x2b, 0x65, 0x70])))
    cn = ("derpkey" + public.hex()).encode()[:-1 if cut else None]
    name = der(0x30, der(0x31, der(0x30, der(6, b"\x55\x04\x03"), der(0x13, cn))))
    constraints = der(0xa3, der(0x30, der(0x30, der(6, b"\x55\x1d\x13"), der(1, b"\xff"), der(4, b"\x30\x00"))))
    body = der(0x30, der(0xa0, der(2, b"\2")), der(2, b"\2"), ed25519, name, der(0x30, der(0x17, b"200101000000Z"), der(0x17, b"491231000000Z")),
               name, der(0x30, ed25519, der(3, b"\0", bytes(signer.verify_key))), constraints)
    whole = der(0x30, body, ed25519, der(3, b"\0", signer.sign(body).signature))
    return "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(whole).decode() + "-----END CERTIFICATE-----\n"


class Caller(Stream):
    """One connection of a client, at the server's side. What it says is in .heard, what it says in its box in .told."""

    def __init__(self, s, key):
        super().__init__(s)
        self.key, self.client_key, self.told, self.asked = key, None, None, None

    def request(self):
        self.asked = self.head()
        return self.asked

    def switch(self):
        """What a good server answers; nothing to who starts fast."""
        if self.asked[1].get("derp-fast-start") != "1":
            self.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n"
                      b"Derp-Public-Key: " + self.key.hex.encode() + b"\r\n\r\n")

    def greet(self, more=b""):
        self.frame(SERVER_KEY, MAGIC + self.key.public + more)

    def meet(self):
        """ClientInfo."""
        f = self.read()
        assert f and f.type == CLIENT_INFO, f
        self.client_key = f.payload[:32]
        self.told = self.key.open(self.client_key, f.payload[32:])
        return json.loads(self.told)

    def inform(self, info=None):
        self.frame(SERVER_INFO, self.key.seal(self.client_key, json.dumps(info or {"version": 2}).encode()))

    def admit(self, more=b"", info=None):
        """All of it, as a good server does."""
        self.request()
        self.switch()
        self.greet(more)
        self.meet()
        self.inform(info)
        return self

    def everything(self):
        """All that it has said, also what was sealed."""
        return self.heard + (self.told or b"")


class Server:
    """fast: its certificates carry its key, so that clients start without waiting."""

    def __init__(self, world, certificate, key=None, ip="127.0.0.1", port=0, fast=False):
        self.key, self.open, self.pin = key or NodeKey(), [], certificate.pin
        chain = f"{world.tmp}/derp-chain-{self.key.hex[:8]}.pem"
        with open(certificate.cert, encoding="ascii") as f, open(chain, "w", encoding="ascii") as out:
            out.write(f.read() + (meta_certificate(self.key.public) if fast else ""))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, certificate.key)
        self.listener = socket.create_server((ip, port))
        self.listener.settimeout(25)
        self.port = self.listener.getsockname()[1]
        self.url = f"https://{ip}:{self.port}"
        world.cleanups.append(self.close)

    def accept(self):
        raw, _ = self.listener.accept()
        raw.settimeout(15)
        self.open.append(raw)
        s = self.context.wrap_socket(raw, server_side=True)
        self.open.append(s)
        return Caller(s, self.key)

    def close(self):
        for s in [self.listener, *self.open]:
            s.close()
