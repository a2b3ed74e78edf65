"""A relay that says exactly the HTTP/2 bytes it is told to, over real TLS: the server twin of scripted.py."""
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import time
import types
import zlib

from harness import TUNN, free_port
from scripted import (ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, Wire, field, message)

GRPC = [(":status", "200"), ("content-type", "application/grpc")]
TOKEN = "_".join(["tunn", "Scripted", "SecretThatNobodyMaySee000000000000000000001", ""])
TOKEN = TOKEN[:-1] + f"_{zlib.crc32(TOKEN[:-1].encode()):08x}"


def varint(number, value):
    out, value = bytes([number << 3]), value & (1 << 64) - 1
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def registered(account=b"main", tunnel_id=b"me", more=b""):
    return message(field(2, varint(1, 1) + field(4, account) + varint(5, 1) + field(8, tunnel_id) + more))


def udp(data, sender=b"peer", flow=0):
    return message(field(11, field(1, sender) + field(3, data) + (varint(5, flow) if flow else b"")))


def peer_status(state, peer=b"peer", text=b""):
    return message(field(12, field(1, peer) + varint(2, state) + (field(3, text) if text else b"")))


def draining(within_ms, target=b""):
    return message(field(13, field(1, varint(1, within_ms) + field(2, target))))


def quota(percent, resets_unix_s):
    return message(field(13, field(2, varint(1, percent) + varint(2, resets_unix_s))))


def certificate(folder):
    """A self-signed certificate: paths of it and its key, and its pin."""
    cert, key = f"{folder}/scripted-cert.pem", f"{folder}/scripted-key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=scripted", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    public = subprocess.run(["openssl", "x509", "-in", cert, "-pubkey", "-noout"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True, capture_output=True).stdout
    return types.SimpleNamespace(cert=cert, key=key, pin="sha256:" + hashlib.sha256(der).hexdigest())


class Caller(Wire):
    """One connection of a client, at the relay's side."""

    def __init__(self, s, settings=b"", greet=True):
        super().__init__(s)
        if greet:
            assert self.take(len(PREFACE)) == PREFACE
            self.frame(SETTINGS, 0, 0, settings)
            self.read_until(lambda f: f.type == SETTINGS and not f.flags & ACK)
            self.frame(SETTINGS, ACK)

    def request(self):
        """The HEADERS of the request; its first message is .first."""
        f = self.read_until(lambda f: f.type == HEADERS)
        f.first = self.read_until(lambda f: f.type == DATA).payload
        return f

    def data(self, payload, flags=0, stream=1):
        """Whatever the length, in frames of 16 KiB."""
        while len(payload) > 16384:
            self.frame(DATA, 0, stream, payload[:16384])
            payload = payload[16384:]
        self.frame(DATA, flags, stream, payload)

    def admit(self, **kw):
        """Answers the registration as a good relay does."""
        self.request()
        self.headers(1, GRPC)
        self.data(registered(**kw))
        return self

    def finish(self, status, text=""):
        self.headers(1, [("grpc-status", str(status)), ("grpc-message", text)], END_HEADERS | END_STREAM)

    def only(self, *fields):
        """Trailers-Only, or any answer without a body."""
        self.request()
        self.headers(1, list(fields), END_HEADERS | END_STREAM)


class Relay:
    def __init__(self, world, ip="127.0.0.1", port=0):
        self.world, self.token, shown = world, f"{world.tmp}/scripted-token", certificate(world.tmp)
        self.pin = shown.pin
        with open(os.open(self.token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(TOKEN)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(shown.cert, shown.key)
        self.context.set_alpn_protocols(["h2"])
        self.listener = socket.create_server((ip, port))
        self.listener.settimeout(25)
        self.port = self.listener.getsockname()[1]
        self.url, self.open = f"https://{ip}:{self.port}", []
        world.cleanups.append(self.close)

    def accept_tcp(self):
        s, _ = self.listener.accept()
        self.open.append(s)
        return s

    def accept(self, **kw):
        """The next connection, greeted."""
        s = self.context.wrap_socket(self.accept_tcp(), server_side=True)
        self.open.append(s)
        return Caller(s, **kw)

    def settle(self, seconds):
        """Connections until then are let go; how many there were."""
        n, end = 0, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.listener.settimeout(left)
            try:
                self.listener.accept()[0].close()
                n += 1
            except TimeoutError:
                break
        self.listener.settimeout(25)
        return n

    def end(self, *args, port=None, mode="--listen", url=None, within=(), **kw):
        return self.world.program([*within, TUNN, "relay", str(port or free_port()), "--id", "me", "--peer", "peer", "--relay",
                                   url or self.url, "--pin", self.pin, "--token-file", self.token, "--transport", "grpc", mode, *args], **kw)

    def close(self):
        for s in [self.listener, *self.open]:
            s.close()


def settings(**values):
    """header_table_size, enable_push, max_concurrent_streams, ... in the numbers of RFC 9113."""
    names = ["header_table_size", "enable_push", "max_concurrent_streams", "initial_window_size", "max_frame_size",
             "max_header_list_size"]
    return b"".join(struct.pack(">HI", names.index(k) + 1, v) for k, v in values.items())
