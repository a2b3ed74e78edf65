"""The relay speaks to nobody but its registered ends, whatever addresses they write into their messages (T20, T21)."""
import contextlib
import ctypes
import os
import re
import select
import socket
import struct
import time

import pytest
from harness import World, sh
from scripted import DATA, HEADERS, TUNNEL, WINDOW_UPDATE, Peer, field, message, register, request_fields

ADDRESSES = [
    "169.254.169.254", "169.254.169.254:80", "http://169.254.169.254/latest/meta-data/", "127.0.0.1", "127.0.0.1:22", "127.1",
    "127.255.255.254", "0.0.0.0", "0", "10.0.0.1", "10.9.1.1:53", "172.16.0.1", "192.168.0.1", "192.168.1.1:443", "100.64.0.1",
    "198.18.0.1", "224.0.0.1", "239.255.255.250:1900", "255.255.255.255", "240.0.0.1", "8.8.8.8:53", "2130706433", "0x7f000001",
    "0177.0.0.1", "127.0.0.1.", "::1", "[::1]:22", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "[::ffff:169.254.169.254]",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "2001:0:7f00:1::", "fe80::1", "fe80::1%lo",
    "fec0::1", "fc00::1", "ff02::1", "ff05::2", "localhost", "localhost:22", "metadata.google.internal", "udp://127.0.0.1:53",
]
NAME = re.compile(rb"[a-z0-9][a-z0-9-]{0,62}")


@contextlib.contextmanager
def inside(ns):
    """Sockets made here are of that namespace."""
    libc, here = ctypes.CDLL(None, use_errno=True), os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{ns}", os.O_RDONLY)
    try:
        assert libc.setns(there, 0x40000000) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        libc.setns(here, 0x40000000)
        os.close(here)
        os.close(there)


class Watched:
    """A relay alone in a namespace, with a counter of what it sends and a trace of how."""

    def __init__(self, world):
        self.ns, self.world = "tegress", world
        sh("ip", "netns", "add", self.ns)
        world.cleanups.append(lambda: sh("ip", "netns", "del", self.ns, check=False))
        sh("ip", "link", "set", "lo", "up", ns=self.ns)
        for address in ("169.254.169.254/32", "10.0.0.1/32", "192.168.0.1/32", "8.8.8.8/32"):
            sh("ip", "addr", "add", address, "dev", "lo", ns=self.ns)  # they would answer
        for table in ("iptables", "ip6tables"):
            for port in ("--sport", "--dport"):
                sh(table, "-A", "OUTPUT", "-p", "tcp", port, "443", "-j", "ACCEPT", ns=self.ns)
            sh(table, "-A", "OUTPUT", ns=self.ns)  # counts the rest
        self.relay = world.relay(listen="0.0.0.0:443", ns=self.ns)
        with open(self.relay.token) as f:
            self.token = f.read().strip()
        # `ip netns exec` becomes the relay, so this is its process.
        self.trace = f"{world.tmp}/trace"
        strace = world.program(["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg,socket", "-o", self.trace,
                                "-p", str(self.relay.p.pid)])
        end = time.monotonic() + 20
        while "TracerPid:\t0" in self.read(f"/proc/{self.relay.p.pid}/status"):
            assert time.monotonic() < end and strace.p.poll() is None, strace.text()
            select.select([], [], [], 0.02)

    @staticmethod
    def read(path):
        with open(path) as f:
            return f.read()

    def peer(self):
        with inside(self.ns):
            return Peer(443)

    def others(self):
        """Packets that left and are of no tunnel."""
        last = [sh(table, "-nvxL", "OUTPUT", ns=self.ns).splitlines()[-1] for table in ("iptables", "ip6tables")]
        return sum(int(line.split()[0]) for line in last)

    def calls(self):
        return self.read(self.trace).splitlines()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("egress"))
    try:
        yield Watched(world)
    finally:
        world.close()


def went_elsewhere(watched):
    """Calls of the relay that name a destination, or make a socket that could have one."""
    return [c for c in watched.calls() if re.search(r"connect\(|socket\(|send\w*\(.*sa_family", c)]


def accepted(peer, data, *more, stream=1):
    """Whether the tunnel was admitted."""
    peer.headers(stream, request_fields(TUNNEL, *more))
    peer.frame(DATA, 0, stream, data)
    while True:
        f = peer.read_until(lambda f: f.stream == stream and f.type in (HEADERS, DATA))
        if f.type == DATA:
            return True
        if "grpc-status" in f.fields:
            assert f.fields["grpc-status"] == "3", f.fields
            return False


@pytest.mark.root
def test_T21_the_watch_sees_what_leaves(watched):
    """The control: a datagram from this namespace is counted."""
    before = watched.others()
    with inside(watched.ns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("169.254.169.254", 80))
    assert watched.others() > before


@pytest.mark.root
@pytest.mark.parametrize("address", ADDRESSES)
def test_T21_an_address_in_a_registration_is_refused_or_only_a_name(watched, address):
    text = address.encode()
    is_name = bool(NAME.fullmatch(text))
    places = {"id": dict(tunnel_id=text), "peer": dict(peers=(text,)), "account": dict(peers=(text + b"/home",)),
              "name": dict(peers=(b"main/" + text,)), "key": dict(peers=(b"nodekey:" + text,))}
    me = b"end-%d" % ADDRESSES.index(address)  # an id of its own for each stream: they would take it from each other
    before = watched.others(), len(went_elsewhere(watched))
    peer = watched.peer()
    for n, (place, fields) in enumerate(places.items()):
        assert accepted(peer, register(watched.token, **dict(tunnel_id=me + b"-%d" % n) | fields), stream=2 * n + 1) == (is_name and place != "key"), place
    more = field(11, text[:16].ljust(16, b"0")) + field(2, text) + field(12, text)  # no names: never looked at
    fields = ("x-forwarded-for", address), ("forwarded", f'for="{address}"')
    assert accepted(peer, register(watched.token, me, more=more), *fields, stream=11)
    peer.close()
    assert (watched.others(), len(went_elsewhere(watched))) == before


def udp(number_and_text, data=b"payload"):
    return message(field(11, b"".join(field(n, t) for n, t in number_and_text) + field(3, data)))


@pytest.mark.root
def test_T21_an_address_in_a_datagram_or_other_message_is_never_used(watched):
    before = watched.others(), len(went_elsewhere(watched))
    a, b = watched.peer(), watched.peer()
    assert accepted(a, register(watched.token, b"a", (b"b",)))
    assert accepted(b, register(watched.token, b"b", (b"a",)))
    b.decoder.header_table_size = 4096
    for n, address in enumerate(ADDRESSES):
        text = address.encode()
        a.frame(DATA, 0, 1, udp([(2, text)]))  # as destination: not declared
        a.frame(DATA, 0, 1, udp([(2, b"b"), (1, text), (4, text)], b"serial %d" % n))  # as source, twice
        a.frame(DATA, 0, 1, udp([(2, b"b"), (6, text), (15, text)], text))  # unknown fields, payload
    wanted, got, buffer = {b"serial %d" % n for n in range(len(ADDRESSES))}, set(), b""
    while wanted - got:
        buffer += b.read_until(lambda f: f.type == DATA).payload
        while len(buffer) >= 5 and len(buffer) >= 5 + struct.unpack(">I", buffer[1:5])[0]:
            size = 5 + struct.unpack(">I", buffer[1:5])[0]
            body, buffer = buffer[5:size], buffer[size:]
            assert b"serial" not in body or not any(t.encode() in body for t in ADDRESSES if len(t) > 3), body
            got |= set(re.findall(rb"serial \d+", body))
    assert watched.relay.counters()["drop_not_declared"] >= len(ADDRESSES)
    for n, address in enumerate(ADDRESSES):  # messages that only a relay sends end the stream
        text = address.encode()
        peer = watched.peer()
        assert accepted(peer, register(watched.token, b"c-%d" % n))
        peer.frame(DATA, 0, 1, message([field(13, field(1, field(2, text))), field(9, field(1, text)), field(12, field(1, text))][n % 3]))
        assert peer.read_until(lambda f: "grpc-status" in (f.fields or ())).fields["grpc-status"] == "9"
        peer.close()
    a.close()
    b.close()
    assert (watched.others(), len(went_elsewhere(watched))) == before


@pytest.mark.root
def test_T20_the_relay_has_no_socket_for_datagrams_and_answers_none(watched):
    before = watched.others(), watched.relay.counters()["tls_bytes_out_total"]
    assert not [line for line in sh("ss", "-Hlnpuwx", "-A", "inet,udp,raw", ns=watched.ns).splitlines()
                if not line.startswith("tcp") and "/control.sock" not in line]  # that is for its operator, and no datagrams
    with inside(watched.ns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), ("127.0.0.1", 443))  # a STUN query
        assert not select.select([s], [], [], 0.5)[0] or pytest.raises(ConnectionError, s.recv, 100)
    assert watched.relay.counters()["tls_bytes_out_total"] == before[1]


@pytest.mark.root
def test_T20_what_goes_out_is_never_more_than_what_came_in(watched):
    a, b = watched.peer(), watched.peer()
    assert accepted(a, register(watched.token, b"a", (b"b", b"absent", b"deaf")))
    assert accepted(b, register(watched.token, b"b", (b"a",)))
    for stream in (0, 1):
        b.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 20))
    deaf = watched.peer()
    assert accepted(deaf, register(watched.token, b"deaf", (b"b",)))
    for destination, factor in ((b"b", 1), (b"absent", 0), (b"deaf", 0), (b"unknown", 0)):
        before = watched.relay.counters()
        for _ in range(400):
            a.frame(DATA, 0, 1, udp([(2, destination)], bytes(500)))
        dropped = "drop_" + {b"absent": "no_route", b"deaf": "not_mutual", b"unknown": "not_declared"}.get(destination, "none")
        end = time.monotonic() + 20
        while True:
            c = watched.relay.counters()
            done = c["packets_out_total"] - before["packets_out_total"] + c[dropped] - before[dropped]
            if done >= 400:
                break
            assert time.monotonic() < end, (destination, dict(c))
        if factor:  # all of it is on its way when the last has arrived; a slow machine makes some too old
            size, end = 0, time.monotonic() + 20
            b.s.settimeout(0.5)
            while size < 500 * (400 - (c := watched.relay.counters())["drop_stale"] + before["drop_stale"]):
                assert time.monotonic() < end, size
                with contextlib.suppress(TimeoutError):
                    size += len(b.read_until(lambda f: f.type == DATA).payload)
        grown = {k: c[k] - before[k] for k in ("packets_out_total", "bytes_out_total", "tls_bytes_in_total", "tls_bytes_out_total")}
        assert grown["packets_out_total"] == 400 * factor and grown["bytes_out_total"] == 400 * 500 * factor
        assert grown["tls_bytes_out_total"] <= grown["tls_bytes_in_total"] * (1 if factor else 0.1), (destination, grown)
    for p in (a, b, deaf):
        p.close()
