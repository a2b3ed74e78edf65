"""STUN as Tailscale's software asks it (derp.md 4.4): who asks in the one exact form is told its address, nobody else anything."""
import binascii
import contextlib
import ipaddress
import os
import re
import signal
import socket
import struct
import subprocess
import threading

import pytest
from harness import RELAY_IP, TUNN, Net, sh, socket_in
from test_floods import Watch
from fixtures import Standing

COOKIE, STUN_PORT = 0x2112A442, 3478
TAILNODE = (0x8022, b"tailnode")
DEFAULT = {k: v for k, v in os.environ.items() if k != "TUNN_STUN"}  # of the environment that the harness made


def attribute(kind, value):
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def request(txid, *attributes, kind=1):
    """A binding request with a FINGERPRINT behind these attributes."""
    body = b"".join(attribute(*a) for a in attributes or [TAILNODE])
    head = struct.pack(">HHI", kind, len(body) + 8, COOKIE) + txid
    return head + body + attribute(0x8028, struct.pack(">I", binascii.crc32(head + body) ^ 0x5354554E))


def expected(txid, address):
    """The whole answer, byte for byte."""
    ip, port = ipaddress.ip_address(address[0]), address[1]
    mask = struct.pack(">I", COOKIE) + txid
    value = struct.pack(">BBH", 0, 1 if ip.version == 4 else 2, port ^ COOKIE >> 16) + bytes(a ^ b for a, b in zip(ip.packed, mask))
    return struct.pack(">HHI", 0x0101, 4 + len(value), COOKIE) + txid + attribute(0x0020, value)


def asker(world, to, bound=""):
    """A connected socket: the kernel gives it only what comes from the address asked."""
    s = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)
    world.cleanups.append(s.close)
    s.settimeout(10)
    if bound:
        s.bind((bound, 0))
    s.connect(to)
    return s


def assert_answered(s, seen=None, txid=None):
    txid = txid or os.urandom(12)
    s.send(request(txid))
    assert s.recv(2000) == expected(txid, seen or s.getsockname())


def stun_relay(world, *where, **kw):
    """A relay with .stun: the ports of --stun, in order."""
    relay = world.relay(args=[w for address in where for w in ("--stun", address)], **kw)
    relay.stun = [int(m) for m in re.findall(r"answering STUN on \S*:(\d+)", relay.text())]
    assert len(relay.stun) == len(where), relay.text()
    return relay


@pytest.fixture
def relay(world):
    return stun_relay(world, ":0")


def test_the_answer_is_exact_over_both_families(world, relay):
    """All through one socket, which the kernel tells of IPv4 in IPv6 addresses."""
    for ip in ("127.0.0.1", "::1"):
        assert_answered(asker(world, (ip, relay.stun[0])))
    c = relay.counters()
    assert (c["stun_success_total"], c["stun_ipv4_total"], c["stun_ipv6_total"]) == (2, 1, 1)


def test_who_asks_by_a_mapped_address_is_told_its_ipv4(world, relay):
    s = asker(world, ("::ffff:127.0.0.1", relay.stun[0]))
    assert_answered(s, ("127.0.0.1", s.getsockname()[1]))
    assert relay.counters()["stun_ipv4_total"] == 1


@pytest.mark.parametrize("where", [":0", "0.0.0.0:0"])
def test_the_answer_comes_from_the_address_that_was_asked(world, where):
    relay = stun_relay(world, where)
    for ip in ("127.0.0.2", "127.0.0.1", "127.1.2.3"):
        assert_answered(asker(world, (ip, relay.stun[0]), bound="127.0.0.9"))


def test_several_addresses_and_only_those(world):
    relay = stun_relay(world, "127.0.0.1:0", "[::1]:0", "127.0.0.2:0")
    for ip, port in zip(("127.0.0.1", "::1", "127.0.0.2"), relay.stun):
        assert_answered(asker(world, (ip, port)))
    s = asker(world, ("127.0.0.3", relay.stun[0]))
    s.send(request(bytes(12)))
    with pytest.raises(ConnectionRefusedError):
        s.recv(2000)


def wrong_requests():
    good = request(bytes(range(12)))
    yield from (good[:n] for n in range(len(good)))
    yield from (bytes(n) for n in (1, 19, 20, 1400, 60000))
    yield good + bytes(4)
    yield good + good
    yield request(bytes(12), (0x8022, b"tailnodE"))
    yield request(bytes(12), (0x0006, b"user"))
    yield request(bytes(12), kind=0x0101)
    yield good[:-1] + bytes([good[-1] ^ 1])
    yield expected(bytes(12), ("192.0.2.1", 1))
    yield struct.pack(">HHI", 1, 0, COOKIE) + bytes(12)  # of RFC 5389 alone: others ask so
    yield b"\x16\x03\x01\x02\x00\x01" + bytes(200)


def test_T20_what_is_not_exactly_a_request_stays_unanswered_and_is_counted(world, relay):
    wrong = list(wrong_requests())
    for ip in ("127.0.0.1", "::1"):
        s = asker(world, (ip, relay.stun[0]))
        for i in range(0, len(wrong), 8):
            for w in wrong[i:i + 8]:
                s.send(w)
            assert_answered(s)  # they are behind us, and the first answer is this one
    c = relay.counters()
    assert c["stun_not_stun_total"] == 2 * len(wrong)
    assert c["stun_success_total"] == 2 * -(-len(wrong) // 8)
    assert c["stun_write_errors_total"] == c["stun_read_errors_total"] == 0


def test_a_request_as_long_as_a_datagram_can_be_is_right(world, relay):
    s = asker(world, ("127.0.0.1", relay.stun[0]))
    txid = os.urandom(12)
    s.send(request(txid, TAILNODE, (0x0006, bytes(60000))))
    assert s.recv(2000) == expected(txid, s.getsockname())


def test_an_answer_that_the_kernel_refuses_is_counted_and_not_the_end(world, relay):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) if os.geteuid() == 0 else pytest.skip("needs root")
    world.cleanups.append(raw.close)
    body = request(bytes(12))
    raw.sendto(struct.pack(">HHHH", 0, relay.stun[0], 8 + len(body), 0) + body, ("127.0.0.1", 0))  # from port 0
    relay.wait_for_counter("stun_write_errors_total", 1)
    assert_answered(asker(world, ("127.0.0.1", relay.stun[0])))


# -- where

def start_fails(world, *args):
    r = subprocess.run([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/fails", *args], capture_output=True,
                       text=True, timeout=20, check=False)
    return r.returncode, r.stderr


def test_a_port_in_use_that_was_asked_for_ends_the_start(world):
    port = world.socket().getsockname()[1]
    code, said = start_fails(world, "--stun", f"127.0.0.1:{port}")
    assert code == 1 and f"cannot answer STUN on 127.0.0.1:{port}: Address already in use" in said
    code, said = start_fails(world, "--stun", "192.0.2.1:3478")
    assert code == 1 and "cannot answer STUN on 192.0.2.1:3478: Cannot assign" in said


@pytest.fixture
def net(world, request):
    return Net(world, [], f"s{abs(hash(request.node.name)) % 9999}")


def udp_sockets(ns):
    return sorted(line.split()[3] for line in sh("ss", "-Hlnu", ns=ns).splitlines())


@pytest.mark.root
def test_a_fresh_server_answers_on_3478_where_it_listens(world, net):
    relay = world.relay(f"{RELAY_IP}:0", ns=net.ns["r"], env=DEFAULT)
    assert udp_sockets(net.ns["r"]) == [f"{RELAY_IP}:3478"] and "STUN" not in relay.text()
    s = socket_in(world, net.ns["r"], RELAY_IP)
    s.connect((RELAY_IP, STUN_PORT))
    assert_answered(s)


@pytest.mark.root
@pytest.mark.parametrize("listen,sockets", [
    (["127.0.0.1:444", "[::1]:0"], ["127.0.0.1:3478", "[::1]:3478"]),
    (["127.0.0.1:444", "127.0.0.2:444"], ["127.0.0.1:3478", "127.0.0.2:3478"]),
    (["127.0.0.1:444", "0.0.0.0:445", "[::]:0"], ["0.0.0.0:3478", "[::]:3478"]),
    (["127.0.0.1:444", "[::1]:444", ":0", ":445"], ["*:3478"])])
def test_one_socket_answers_for_all_listeners_of_an_address(world, net, listen, sockets):
    relay = world.relay("127.0.0.1:0", ns=net.ns["r"], env=DEFAULT, args=[w for a in listen for w in ("--listen", a)])
    assert udp_sockets(net.ns["r"]) == sockets and "STUN" not in relay.text()


@pytest.mark.root
def test_a_port_in_use_that_nobody_asked_for_costs_a_warning(world, net):
    world.relay(ns=net.ns["r"], env=DEFAULT)
    other = world.relay(name="other", ns=net.ns["r"], env=DEFAULT)
    said = [line for line in other.lines if "STUN" in line]
    assert len(said) == 1 and "level=warn" in said[0] and "127.0.0.1:3478: Address already in use" in said[0]
    assert "--stun ADDR:PORT" in said[0] and "--stun off" in said[0]
    third = world.relay(name="third", ns=net.ns["r"], env=DEFAULT, args=["--stun", "off"])
    assert "STUN" not in third.text()


def test_off_is_off(world):
    relay = world.relay(args=["--stun", "off"])
    sockets = set()
    for fd in os.listdir(f"/proc/{relay.p.pid}/fd"):
        with contextlib.suppress(OSError):
            sockets.update(re.findall(r"socket:\[(\d+)\]", os.readlink(f"/proc/{relay.p.pid}/fd/{fd}")))
    for table in ("udp", "udp6"):
        with open(f"/proc/{relay.p.pid}/net/{table}") as f:
            assert not sockets & {line.split()[9] for line in f.readlines()[1:]}


def test_a_relay_that_leaves_answers_no_more(world, relay):
    world.pair(relay)  # somebody to wait for
    relay.p.send_signal(signal.SIGTERM)
    relay.wait_for("draining")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", relay.stun[0]))


def test_a_reload_leaves_it(world, relay):
    s = asker(world, ("127.0.0.1", relay.stun[0]))
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded certificate")
    assert_answered(s)


# -- beside datagrams

def flood(port, datagrams, n):
    """That many from each of two sockets, as fast as they go."""
    def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for i in range(n):
                s.sendto(datagrams[i % len(datagrams)], ("127.0.0.1", port))
    threads = [threading.Thread(target=run) for _ in range(2)]
    for t in threads:
        t.start()
    return threads


@pytest.mark.parametrize("kind", ["garbage", "requests", "near"])
def test_a_flood_disturbs_no_datagram(world, relay, kind):
    datagrams = {"garbage": [os.urandom(n) for n in (20, 100, 1200)], "requests": [request(os.urandom(12)) for _ in range(8)],
                 "near": [request(bytes(12), (0x8022, b"tailnodE"), *[(0x0006, b"")] * 300)]}[kind]
    pair, s = world.pair(relay), world.socket()
    watch = Watch(Standing(world, relay, pair, s))
    for t in flood(relay.stun[0], datagrams, 100_000):
        t.join()
    watch.check()
    s = asker(world, ("127.0.0.1", relay.stun[0]))
    s.settimeout(0.2)
    for again in range(50):  # the small buffer may be full of the flood still: clients ask again, too
        with contextlib.suppress(TimeoutError):
            assert_answered(s, txid=b"after flood!")
            break
    assert again < 49
    assert relay.counters()["stun_success_total" if kind == "requests" else "stun_not_stun_total"] > 1000
