"""`tunn relay --transport derp` through a real derper, and through ours as if it were one; WireGuard on top."""
import os
import subprocess
import types

import pytest
from derp_servers import PORT, PROGRAMS, Server
from harness import RELAY_IP, TUNN, Net, ask, endpoint, free_port, move, pings, wg_key, wireguard
from test_derp import KINDS, authority, derp_world, pytestmark, server  # noqa: F401

SIZES = (1, 61, 62, 1200, 1400, 4096, 9000)


def node_key(world, name):
    """A new key, in a file; and what a peer is told of it."""
    path = f"{world.tmp}/{name}.key"
    subprocess.run([TUNN, "key", "new", "--out", path], check=True)
    public = subprocess.run([TUNN, "key", "pub", "--key-file", path], check=True, capture_output=True, text=True).stdout.strip()
    assert public.startswith("nodekey:")
    return types.SimpleNamespace(file=path, peer=public)


def end(world, server, port, key, peer, *args, ns=None):  # noqa: F811
    return world.program([TUNN, "relay", str(port), "--transport", "derp", "--relay", f"https://{server.at}", "--pin", f"sha256-raw:{server.pin}",
                          "--key-file", key.file, "--peer", peer, *args], ns=ns)


@pytest.fixture
def pair(world, server):  # noqa: F811
    home, laptop = node_key(world, "home"), node_key(world, "laptop")
    echo = world.echo()
    ends = types.SimpleNamespace(home=end(world, server, echo.port, home, laptop.peer, "--forward"),
                                 laptop=end(world, server, free_port(), laptop, home.peer, "--listen"))
    for e in (ends.home, ends.laptop):
        e.wait_for("connected")
    ends.address = endpoint(ends.laptop)
    return ends


def test_datagrams_of_every_size_come_back(world, server, pair):  # noqa: F811
    s = world.socket()
    for n in SIZES:
        ask(s, pair.address, os.urandom(n))


def test_the_ends_come_back_to_a_server_that_was_started_again(world, authority, kind_alone):  # noqa: F811
    first = Server(kind_alone, world, authority)
    home, laptop = node_key(world, "home"), node_key(world, "laptop")
    echo, s = world.echo(), world.socket()
    e = end(world, first, echo.port, home, laptop.peer, "--forward")
    there = end(world, first, free_port(), laptop, home.peer, "--listen")
    ask(s, endpoint(there), b"before", 20)
    first.program.stop()
    Server(kind_alone, world, authority, again=first)
    ask(s, endpoint(there), b"after", 40)
    assert e.p.poll() is None and there.p.poll() is None


@pytest.fixture(params=KINDS)
def kind_alone(request):
    return request.param


def test_who_is_no_peer_does_not_reach_the_program(world, server, pair):  # noqa: F811
    s = world.socket()
    ask(s, pair.address, b"first")
    stranger, home = node_key(world, "stranger"), subprocess.run(
        [TUNN, "key", "pub", "--key-file", f"{world.tmp}/home.key"], check=True, capture_output=True, text=True).stdout.strip()
    other = end(world, server, free_port(), stranger, home, "--listen")
    address = endpoint(other)
    with pytest.raises(AssertionError, match="no echo"):
        ask(s, address, b"let me in", 2)
    ask(s, pair.address, b"last")


def test_tailscales_client_and_an_end_exchange_datagrams(world, server):  # noqa: F811
    key, echo = node_key(world, "end"), world.echo()
    peer = subprocess.Popen([f"{PROGRAMS}/derpcheck", "-server", server.describe(), "-peer", key.peer, "an_end_echoes"], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    world.cleanups.append(peer.kill)
    theirs = peer.stdout.readline().strip()
    e = end(world, server, echo.port, key, theirs, "--forward")
    out, err = peer.communicate(timeout=60)
    assert '"ok":true' in out, out + err + e.text()


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and WireGuard need root")
def test_wireguard_passes(world, authority, kind_alone):  # noqa: F811
    """From two networks that let out nothing but TCP to the server's port."""
    net = Net(world, ["a", "b"], f"{os.getpid() % 100000}{kind_alone[0]}")
    for name in "ab":
        net.firewall(name, PORT)
    server = Server(kind_alone, world, authority, host=RELAY_IP, ns=net.ns["r"])  # noqa: F811
    a, b, wg_a, wg_b = node_key(world, "a"), node_key(world, "b"), wg_key(), wg_key()
    wireguard(world, net.ns["a"], net.wg("a"), "10.8.0.1/24",
              f"[Interface]\nPrivateKey={wg_a.private}\nListenPort=51820\n[Peer]\nPublicKey={wg_b.public}\nAllowedIPs=10.8.0.2/32\n")
    home = end(world, server, 51820, a, b.peer, "--forward", ns=net.ns["a"])
    laptop = end(world, server, 51820, b, a.peer, "--listen", ns=net.ns["b"])
    for e in (home, laptop):
        e.wait_for("connected")
    wireguard(world, net.ns["b"], net.wg("b"), "10.8.0.2/24",
              f"[Interface]\nPrivateKey={wg_b.private}\n[Peer]\nPublicKey={wg_a.public}\nAllowedIPs=10.8.0.1/32\nEndpoint=127.0.0.1:51820\n")
    assert pings(net.ns["b"], "10.8.0.1", 10) >= 9
    move(world, net.ns["b"], net.ns["a"], "10.8.0.1", 20)
    move(world, net.ns["a"], net.ns["b"], "10.8.0.2", 20)
