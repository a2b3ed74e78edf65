"""The main job: real WireGuard between networks that let out nothing but tcp/443."""
import os
import signal

import pytest
from harness import RELAY_IP, Net, move, pings, sh, wg_key, wireguard, wireguard_pair

pytestmark = pytest.mark.root
MATRIX = pytest.mark.usefixtures("transports")  # the others are of the network, whatever is said on it
URL = f"https://{RELAY_IP}"


def tag(n):
    return f"{os.getpid() % 100000}{n}"


def two_networks(world, n):
    net = Net(world, ["a", "b"], tag(n))
    for name in "ab":
        net.firewall(name)
    relay = world.relay(":443", ns=net.ns["r"])
    return net, relay


def handshake(net):
    return sh("wg", "show", net.wg("b"), "latest-handshakes", ns=net.ns["b"]).split()[1]


@MATRIX
def test_G1_wireguard_passes_and_stops_and_resumes_with_the_relay(world):
    net, relay = two_networks(world, 1)
    assert pings(net.ns["b"], "10.9.1.2", 2, 2) == 0, "the firewall must block the direct way"
    wireguard_pair(world, net, relay)
    assert pings(net.ns["b"], "10.8.0.1", 5) >= 4
    move(world, net.ns["b"], net.ns["a"], "10.8.0.1", 100)
    before = handshake(net)
    relay.p.send_signal(signal.SIGKILL)
    relay.exit_code()
    assert pings(net.ns["b"], "10.8.0.1", 3, 3) == 0
    world.relay(":443", ns=net.ns["r"])
    assert pings(net.ns["b"], "10.8.0.1", 60, 20) >= 20
    assert handshake(net) == before, "the WireGuard session must survive"


@pytest.mark.parametrize("n,args", enumerate([[], ["--fwmark", "51820"], ["--bind-device", "up0"]], 5))
def test_G1_full_tunnel_does_not_swallow_the_tunnels_own_connection(world, n, args):
    net, relay = two_networks(world, n)
    pair = wireguard_pair(world, net, relay, *args, allowed_b=None)
    conf = f"{world.tmp}/{net.wg('b')}.conf"
    with open(os.open(conf, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write(f"[Interface]\nPrivateKey = {pair.b.private}\nAddress = 10.8.0.2/24\nMTU = 1420\n"
                f"[Peer]\nPublicKey = {pair.a.public}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 127.0.0.1:51820\n")
    world.cleanups.append(lambda: sh("wg-quick", "down", conf, ns=net.ns["b"], check=False))
    sh("env", "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go", "wg-quick", "up", conf, ns=net.ns["b"])
    if not args:  # the end notices by itself and says what to add
        pair.laptop.wait_for("bind-device|fwmark", 20)
    assert pings(net.ns["b"], "10.8.0.1", 50, 20) >= 20
    move(world, net.ns["b"], net.ns["a"], "10.8.0.1", 5)
    if args:
        assert "reconnecting" not in pair.laptop.text(), "what was asked for keeps the first connection"


@MATRIX
def test_G3_three_wireguard_sessions_at_one_end(world):
    net = Net(world, ["h", "x", "y", "z"], tag(3))
    relay = world.relay(":443", ns=net.ns["r"])
    keys = {n: wg_key() for n in "hxyz"}
    peers = "".join(f"[Peer]\nPublicKey={keys[n].public}\nAllowedIPs=10.8.0.{i}/32\n" for i, n in enumerate("xyz", 2))
    wireguard(world, net.ns["h"], net.wg("h"), "10.8.0.1/24",
              f"[Interface]\nPrivateKey={keys['h'].private}\nListenPort=51820\n{peers}")
    world.end(relay, 51820, "home", ["x", "y", "z"], url=URL, ns=net.ns["h"]).wait_for("connected")
    for i, n in enumerate("xyz", 2):
        end = world.end(relay, 51820, n, "home", url=URL, ns=net.ns[n])
        end.wait_for("home is up")
        wireguard(world, net.ns[n], net.wg(n), f"10.8.0.{i}/24",
                  f"[Interface]\nPrivateKey={keys[n].private}\n[Peer]\nPublicKey={keys['h'].public}\nAllowedIPs=10.8.0.0/24\nEndpoint=127.0.0.1:51820\n")
    for n in "xyz":
        assert pings(net.ns[n], "10.8.0.1", 5) >= 4


def test_G6_F09_new_address_of_a_client_resumes_the_session(world):
    net, relay = two_networks(world, 4)
    wireguard_pair(world, net, relay)
    assert pings(net.ns["b"], "10.8.0.1", 5) >= 4
    before = handshake(net)
    sh("ip", "addr", "add", "10.9.2.7/24", "dev", "up0", ns=net.ns["b"])
    sh("ip", "addr", "del", "10.9.2.2/24", "dev", "up0", ns=net.ns["b"])
    sh("ip", "addr", "replace", "10.9.2.7/24", "dev", "up0", ns=net.ns["b"])
    sh("ip", "route", "replace", "default", "via", "10.9.2.1", ns=net.ns["b"])
    assert pings(net.ns["b"], "10.8.0.1", 60, 20) >= 25
    assert handshake(net) == before


def test_F06_black_hole_with_data_in_flight_is_left_behind(world):
    net, relay = two_networks(world, 8)
    pair = wireguard_pair(world, net, relay)
    assert pings(net.ns["b"], "10.8.0.1", 5) >= 4
    at = pair.laptop.count()
    for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
        sh("iptables", "-I", chain, "1", way, "up0", "-j", "DROP", ns=net.ns["b"])
    world.program(["ping", "-i", "0.2", "-w", "40", "10.8.0.1"], ns=net.ns["b"])
    pair.laptop.wait_for("reconnecting", 30, after=at)  # 15 s: TCP_USER_TIMEOUT
    for chain in ("INPUT", "OUTPUT"):
        sh("iptables", "-D", chain, "1", ns=net.ns["b"])
    pair.laptop.wait_for("connected again", 30, after=at)
    assert pings(net.ns["b"], "10.8.0.1", 20, 20) >= 10  # maybe after a handshake: WireGuard too waits for 15 s
