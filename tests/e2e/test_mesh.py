"""Relays of one mesh: who is at one of them is reached from all that watch it."""
import os
import signal
import time

import pytest

from derp_fixtures import who_stays
from harness import TUNN, free_tcp_port
from scripted_derp import (DISCONNECTED, FORWARD, NOT_HERE, PEER_GONE, PEER_PRESENT, RECV, WATCH_CONNS, Client, NodeKey, Server, disco)
from scripted_relay import certificate

MESH, OTHER = "6d657368" * 8, "07" * 32


class Mesh:
    """Relays with one certificate, so that each trusts the others."""

    def __init__(self, world):
        self.world, self.certificate, self.n = world, certificate(world.tmp), 0
        self.key_file(MESH)

    def key_file(self, text):
        path = f"{self.world.tmp}/mesh-{text[:8]}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
            f.write(text + "\n")
        return path

    def relay(self, port, with_, *args, key=MESH, trusts=True, allow="any", env=None):
        """with_: ports, or whole names."""
        c = self.certificate
        words = ["--cert", c.cert, "--key", c.key, "--derp.allow", allow, "--mesh-key-file", self.key_file(key)]
        words += ["--mesh-ca", c.cert] if trusts and with_ else []
        words += [w for at in with_ for w in ("--mesh-with", at if isinstance(at, str) else f"127.0.0.1:{at}")]
        self.n += 1
        return self.world.relay(listen=f"127.0.0.1:{port}", name=f"state-{port or self.n}", args=(*words, *args), env=env)

    def of(self, n, *args):
        """Each with all, itself among them as one configuration for all would have it."""
        ports = [free_tcp_port() for _ in range(n)]
        relays = [self.relay(p, ports, *args) for p in ports]
        for r in relays:
            r.wait_for(f"mesh: 127.0.0.1:{r.port} is this relay itself")
            for p in ports:
                if p != r.port:
                    r.wait_for(f"mesh: link up to 127.0.0.1:{p}")
        return relays

    def mate(self, **kw):
        return Server(self.world, self.certificate, **kw)


@pytest.fixture
def mesh(world):
    return Mesh(world)


@pytest.fixture
def new(world):
    """Clients that the test does not have to close."""
    def make(relay, key=None, mesh_key=None):
        c = Client(relay.port, key=key, info={"version": 2, "CanAckPings": True, **({"meshKey": mesh_key} if mesh_key else {})})
        assert c.info, "it was not admitted"
        world.cleanups.append(c.close)
        return c
    return make


def knows(relay, n, *clients):
    """The relay knows that many keys that are only elsewhere. Its first worker counts them; that of a client has heard
    of it when it has answered."""
    end = time.monotonic() + 20
    while (was := relay.counters()["derp_clients_remote"]) != n:
        assert time.monotonic() < end, f"derp_clients_remote is {was}"
    assert all(c.is_alive() for c in clients)


def crosses(a, b, packet):
    a.send_to(b.key, packet)
    assert b.packet() == (a.key.public, packet)


# -- packets

@pytest.mark.parametrize("workers", ["1", "4"])
def test_packets_cross_both_ways_in_order_with_their_source(mesh, new, workers):
    left, right = mesh.of(2, "--workers", workers)
    ends = [new(left) for _ in range(3)], [new(right) for _ in range(3)]
    knows(left, 3, *ends[0])
    knows(right, 3, *ends[1])
    for a in ends[0]:
        for b in ends[1]:
            for size in (0, 1, 62, 1400, 65536):
                crosses(a, b, os.urandom(size))
                crosses(b, a, os.urandom(size))
    a, b = ends[0][0], ends[1][0]
    for n in range(30):
        a.send_to(b.key, bytes([n]) * 1000)
    assert [b.packet()[1][0] for _ in range(30)] == list(range(30))
    assert left.counters()["derp_packets_forwarded_out_total"] == right.counters()["derp_packets_forwarded_in_total"] == 75
    assert left.counters()["mesh_links_up"] == right.counters()["mesh_links_up"] == 1


def test_who_leaves_the_other_relay_is_gone_here(mesh, new):
    left, right = mesh.of(2)
    a, b, silent = new(left), new(right), new(left)
    knows(left, 1, a)
    knows(right, 2, b)
    crosses(b, a, b"hello")
    b.close()
    assert a.read_a(PEER_GONE) == b.key.public + bytes([DISCONNECTED])
    knows(left, 0, a)
    a.send_to(b.key, disco())
    assert a.read_a(PEER_GONE) == b.key.public + bytes([NOT_HERE])
    assert silent.is_alive() and not silent.saw(PEER_GONE)


def test_who_is_here_too_is_reached_here(mesh, new):
    left, right = mesh.of(2)
    there = new(right)
    knows(left, 1)
    here, a = new(left, key=there.key), new(left)
    crosses(a, here, b"one")
    assert there.is_alive() and not there.saw(RECV)
    here.close()
    left.wait_for(r"end left id=nodekey:\S+ .*packets_out=1")
    assert a.is_alive()
    crosses(a, there, b"two")
    assert a.is_alive() and not a.saw(PEER_GONE)


def test_of_two_relays_that_have_a_key_the_first_is_asked_and_then_the_other(mesh, new):
    left, middle, right = mesh.of(3)
    first = new(middle)
    knows(left, 1)
    second, a = new(right, key=first.key), new(left)
    left.wait_for_counter("derp_multiforwarder_created_total", 1)
    crosses(a, first, b"one")
    assert second.is_alive() and not second.saw(RECV)
    first.close()
    middle.wait_for("end left id=nodekey:.* packets_out=1")
    while not second.saw(RECV):  # until it has heard that the first has left
        a.send_to(first.key, b"two")
        assert second.is_alive()
    assert left.counters()["derp_clients_remote"] == 1


def test_what_was_forwarded_is_never_forwarded_again(mesh, new):
    left, right = mesh.of(2)
    mate, there = new(left, mesh_key=MESH), new(right)
    knows(left, 1)
    mate.frame(FORWARD, NodeKey().public + there.key.public + disco())
    assert mate.read_a(PEER_GONE) == there.key.public + bytes([NOT_HERE])
    assert there.is_alive() and not there.saw(RECV)


# -- links

def test_a_relay_that_was_killed_is_found_again(mesh, new):
    left, right = mesh.of(2)
    a, b = new(left), new(right)
    knows(left, 1, a)
    knows(right, 1, b)
    crosses(b, a, b"hello")
    at = left.count()
    right.p.send_signal(signal.SIGKILL)
    left.wait_for(f"mesh: link lost to 127.0.0.1:{right.port} after .* with 1 clients there reason=", after=at)
    assert a.read_a(PEER_GONE) == b.key.public + bytes([DISCONNECTED])
    assert left.counters()["mesh_links_up"] == left.counters()["derp_clients_remote"] == 0
    left.wait_for(f"mesh: no link to 127.0.0.1:{right.port} reason=network: .*Connection refused", after=at)
    again = mesh.relay(right.port, [left.port, right.port])
    left.wait_for(f"mesh: link up to 127.0.0.1:{right.port}", after=at)
    again.wait_for(f"mesh: link up to 127.0.0.1:{left.port}")
    b = new(again, key=b.key)
    knows(left, 1, a)
    knows(again, 1, b)
    crosses(a, b, b"once more")
    crosses(b, a, b"and back")


def test_a_link_that_was_cut_is_made_anew(mesh, world, new):
    port = free_tcp_port()
    box = world.middlebox(port)
    right = mesh.relay(port, [])
    left = mesh.relay(0, [box.port])
    left.wait_for("mesh: link up")
    a, b = new(left), new(right)
    knows(left, 1)
    at = left.count()
    box.finish_all()
    left.wait_for("mesh: link lost .* reason=", after=at)
    left.wait_for("mesh: link up", after=at)
    knows(left, 1, a)
    crosses(a, b, b"again")


def test_a_relay_is_named_and_dialled_elsewhere_under_the_filter(mesh, new):
    right = mesh.relay(0, [])
    left = mesh.relay(0, [f"127.0.0.1:{right.port}/localhost"])  # a name is looked up on a thread
    left.wait_for(f"mesh: link up to 127.0.0.1:{right.port}")
    wrong = mesh.relay(0, [f"relay.test:{right.port}/127.0.0.1"])
    wrong.wait_for(f"mesh: no link to relay.test:{right.port} reason=untrusted")
    a, b = new(left), new(right)
    knows(left, 1, a)
    crosses(a, b, b"hello")


def test_a_certificate_that_nobody_vouches_for_makes_no_link(mesh):
    right = mesh.relay(0, [])
    left = mesh.relay(0, [right.port], trusts=False)
    left.wait_for(f"mesh: no link to 127.0.0.1:{right.port} reason=untrusted: .*not trusted: .*--mesh-ca FILE")
    trusting = mesh.relay(0, [right.port], trusts=False, env={**os.environ, "SSL_CERT_FILE": mesh.certificate.cert})
    trusting.wait_for("mesh: link up")


@pytest.mark.parametrize("allow", ["any", "none"])
def test_another_mesh_key_is_said_and_shows_nobody(mesh, new, allow):
    right = mesh.relay(0, [], key=OTHER, allow=allow)
    if allow == "any":
        new(right)
    left = mesh.relay(0, [right.port])
    text = left.wait_for(f"mesh: no link to 127.0.0.1:{right.port} .*another mesh key").string
    assert MESH not in text and OTHER not in text
    assert left.counters()["derp_clients_remote"] == left.counters()["mesh_links_up"] == 0


def test_it_drains_with_links_up(mesh, new):
    left, right = mesh.of(2, "--workers", "1")
    a, b, tunnel = new(left), new(right), who_stays(left)
    knows(left, 1, a)
    knows(right, 1, b)
    left.p.terminate()
    left.wait_for("draining")
    crosses(b, a, b"still here")  # its link to right went with nothing lost
    tunnel.close()
    assert a.ended()
    assert left.exit_code() == 0
    assert b.is_alive()
    right.wait_for(f"mesh: link lost to 127.0.0.1:{left.port}")


def test_a_relay_without_ends_stops_at_once_though_a_link_is_up(mesh):
    right = mesh.relay(0, [])
    left = mesh.relay(0, [right.port], "--drain", "8s")
    left.wait_for("mesh: link up")
    start = time.monotonic()
    left.p.terminate()
    assert left.exit_code() == 0
    assert time.monotonic() - start < 6
    right.wait_for("end left")


# -- a mate that says what it likes

@pytest.fixture
def scripted(mesh):
    """A relay of ours, and the mate it watches, at the mate's side."""
    server = mesh.mate()
    relay = mesh.relay(0, [server.port])
    mate = server.accept().admit()
    assert mate.read_a(WATCH_CONNS) == b""
    mate.server, mate.relay = server, relay
    return mate


def present(mate, key, flags=1):
    mate.frame(PEER_PRESENT, key + bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + bytes([0, 80, flags]))


def test_it_shows_its_own_key_and_the_mesh_key(mesh, new):
    server = mesh.mate()
    relay = mesh.relay(0, [server.port])
    caller = server.accept()
    caller.request()
    caller.switch()
    caller.greet()
    info = caller.meet()
    assert info["meshKey"] == MESH and info["version"] == 2
    assert caller.client_key == new(relay).relay_key


def test_the_link_is_up_when_somebody_is_there(scripted, new):
    key = NodeKey()
    assert scripted.relay.counters()["mesh_links_up"] == 0
    present(scripted, key.public)
    scripted.relay.wait_for("mesh: link up")
    a = new(scripted.relay)
    a.send_to(key, b"hello")
    assert scripted.read_a(FORWARD) == a.key.public + key.public + b"hello"


def test_no_key_of_a_tunnel_none_and_not_our_own_is_behind_another_relay(scripted, new):
    a = new(scripted.relay)
    tunnel = bytearray(NodeKey().public)
    tunnel[31] |= 0x80
    for key in (bytes(tunnel), bytes(32), a.relay_key):
        present(scripted, key)
    good = NodeKey()
    present(scripted, good.public, flags=2)  # a relay as well, as in the original
    knows(scripted.relay, 1, a)
    for key in (bytes(tunnel), bytes(32), a.relay_key):
        a.send_to(key, b"nobody")
    a.send_to(good, b"somebody")
    assert scripted.read_a(FORWARD)[64:] == b"somebody"


def test_a_key_that_is_not_there_after_all_is_forgotten(scripted, new):
    key, other = NodeKey(), NodeKey()
    present(scripted, key.public)
    present(scripted, key.public)  # its second connection
    present(scripted, other.public)
    knows(scripted.relay, 2)
    a = new(scripted.relay)
    a.send_to(key, disco())
    scripted.read_a(FORWARD)
    scripted.frame(PEER_GONE, key.public + bytes([NOT_HERE]))
    scripted.frame(PEER_GONE, NodeKey().public)  # of one it never told
    knows(scripted.relay, 1, a)
    a.send_to(key, disco())
    assert a.read_a(PEER_GONE) == key.public + bytes([NOT_HERE])
    a.send_to(other, b"still there")
    assert scripted.read_a(FORWARD)[64:] == b"still there"


def test_nothing_it_sends_to_us_as_to_an_end_goes_further(scripted, new):
    key = NodeKey()
    present(scripted, key.public)
    knows(scripted.relay, 1)
    a = new(scripted.relay)
    scripted.frame(RECV, key.public + b"to the relay itself")
    a.send_to(key, b"mark")
    assert scripted.read_a(FORWARD)[64:] == b"mark"
    assert a.is_alive() and not a.saw(RECV)


@pytest.mark.parametrize("bad", [b"\x05\x00\x00\x00\x08" + bytes(8), b"\x05\xff\xff\xff\xff"], ids=["too_short", "too_long"])
def test_a_mate_that_breaks_the_protocol_loses_its_ends_not_us(scripted, new, bad):
    key = NodeKey()
    present(scripted, key.public)
    knows(scripted.relay, 1)
    scripted.send(bad)
    scripted.relay.wait_for("mesh: link lost .* reason=(protocol|too_big): a frame")
    knows(scripted.relay, 0)
    again = scripted.server.accept().admit()
    assert again.read_a(WATCH_CONNS) == b"" and new(scripted.relay).is_alive()


def test_a_mate_that_reads_nothing_is_left_and_stops_nobody(scripted, new):
    key = NodeKey()
    present(scripted, key.public)
    knows(scripted.relay, 1)
    a, b = new(scripted.relay), new(scripted.relay)
    start = time.monotonic()
    while "mesh: link lost" not in scripted.relay.text():
        for _ in range(20):
            a.send_to(key, bytes(60000))
        crosses(a, b, b"meanwhile")
        assert time.monotonic() - start < 15
    scripted.relay.wait_for("mesh: link lost .* reason=stalled")
    assert time.monotonic() - start > 4


def test_a_mate_that_is_found_to_be_ourselves_is_not_asked_again(mesh, new):
    port = free_tcp_port()
    relay = mesh.relay(port, [port])
    relay.wait_for("is this relay itself")
    relay.wait_for("end left")
    a = new(relay)
    crosses(a, a, b"to myself")
    counters = relay.counters()
    assert (counters["derp_accepts_total"], counters["derp_watchers"], counters["mesh_links_up"]) == (2, 0, 0)


# -- what is written

@pytest.mark.parametrize("words, said", [
    (["--mesh-with", "relay.test"], "--mesh-key-file"),
    (["--mesh-ca", "FILE"], "--mesh-with"),
    (["--mesh-with", "relay.test:99999"], "HOST"),
    (["--mesh-with", "relay.test/a/b"], "HOST"),
    (["--mesh-with", "relay.test/"], "HOST"),
    (["--mesh-with", "relay.test/a:443"], "HOST"),
    (["--mesh-with", "a,b"], "HOST"),
], ids=["no_key", "ca_alone", "port", "two_dial_hosts", "empty_dial_host", "dial_host_with_port", "a_list"])
def test_a_mesh_that_cannot_be_is_refused(world, words, said):
    p = world.program([TUNN, "server", "--state", f"{world.tmp}/state", *words])
    assert p.exit_code() == 2
    assert said in p.text()


def test_a_file_of_authorities_that_is_not_there_is_named(world, mesh):
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s", "--mesh-key-file", mesh.key_file(MESH),
                       "--mesh-with", "relay.test", "--mesh-ca", f"{world.tmp}/none.pem"])
    assert p.exit_code() == 2
    assert f"{world.tmp}/none.pem" in p.text()
