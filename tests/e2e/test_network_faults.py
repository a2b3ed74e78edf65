"""Faults of the network and of names (F07, F16, F19, F20 of the fault catalogue) with their bounds, in namespaces."""
import os
import shutil
import struct
import time
import types

import pytest
from harness import RELAY_IP, Net, answered, ask, endpoint, sh
from scripted import GOAWAY, NO_ERROR
from scripted_relay import Relay, udp

pytestmark = pytest.mark.root
NAME = "relay.test"


@pytest.fixture
def net(world):
    """A relay in r; home and an echo program in a; the laptop and a program in b, each behind its own veth."""
    net = Net(world, ["a", "b"], f"{os.getpid() % 100000}f")
    net.hosts = f"/etc/netns/{net.ns['b']}"
    os.makedirs(net.hosts)
    world.cleanups.append(lambda: shutil.rmtree(net.hosts, ignore_errors=True))
    for name in ("hosts", "resolv.conf"):  # `ip netns exec` lays them over those of /etc
        open(f"{net.hosts}/{name}", "w", encoding="ascii").close()
    with open(f"{net.hosts}/resolv.conf", "w", encoding="ascii") as f:
        f.write("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")  # where nobody answers
    end = time.monotonic() + 10
    while any("tentative" in sh("ip", "-6", "addr", "show", ns=ns) for ns in net.ns.values()):
        assert time.monotonic() < end, "addresses are still being checked"
        time.sleep(0.05)  # each that is done is a change of the network, which ends look into
    return net


def name_is(net, *addresses):
    with open(f"{net.hosts}/hosts", "w", encoding="ascii") as f:
        f.writelines(f"{a} {NAME}\n" for a in addresses)


ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 5000)); print('ready', flush=True)
while True:
    data, who = s.recvfrom(70000); s.sendto(data, who)
"""
ASK = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.1); print('ready', flush=True)
n = 0
while True:
    n += 1; s.sendto(str(n).encode(), ('127.0.0.1', int(sys.argv[1]))); end = time.monotonic() + 0.1
    while time.monotonic() < end:
        try:
            print('got', int(s.recv(100)), flush=True)
        except OSError:
            pass
"""


@pytest.fixture
def tunnel(world, net):
    """Two ends in their namespaces, and a program that asks ten times a second."""
    relay = world.relay(":443", ns=net.ns["r"])
    world.program(["/usr/bin/python3", "-c", ECHO], ns=net.ns["a"]).wait_for("ready")
    world.end(relay, 5000, "home", "laptop", "--forward", url=f"https://{RELAY_IP}", ns=net.ns["a"]).wait_for("connected")
    name_is(net, RELAY_IP)
    laptop = world.end(relay, 51820, "laptop", "home", "--listen", url=f"https://{NAME}", ns=net.ns["b"])
    laptop.wait_for("home is up")
    asks = world.program(["/usr/bin/python3", "-c", ASK, "51820"], ns=net.ns["b"])
    asks.wait_for("got")
    return types.SimpleNamespace(relay=relay, laptop=laptop, asks=asks)


def restart(world, net, relay):
    relay.stop()
    return world.relay(":443", ns=net.ns["r"])


def back_within(tunnel, seconds):
    at, start = tunnel.asks.count(), time.monotonic()
    tunnel.asks.wait_for("got", seconds + 10, after=at)
    assert time.monotonic() - start < seconds


@pytest.mark.parametrize("way", ["to_the_relay", "from_the_relay"])
def test_F07_a_one_way_black_hole_is_noticed_in_25_s(net, tunnel, way):
    """Where packets arrive: what their sender drops itself is no black hole to its kernel."""
    at, start = tunnel.laptop.count(), time.monotonic()
    ns, rule = ("r", ("-i", "tob", "--dport")) if way == "to_the_relay" else ("b", ("-i", "up0", "--sport"))
    rule = ("INPUT", *rule[:2], "-p", "tcp", rule[2], "443", "-j", "DROP")
    sh("iptables", "-A", *rule, ns=net.ns[ns])
    tunnel.laptop.wait_for("reconnecting", 40, after=at)
    assert time.monotonic() - start < 28  # the catalogue's 25 s, and how long this machine may take
    sh("iptables", "-D", *rule, ns=net.ns[ns])
    back_within(tunnel, 20)


def test_F19_without_names_the_address_that_was_good_is_used(world, net, tunnel):
    name_is(net)
    restart(world, net, tunnel.relay)
    back_within(tunnel, 20)


def test_F19_beside_a_stale_address_the_one_that_was_good_is_used(world, net, tunnel):
    name_is(net, "10.9.2.99")  # nobody is there
    restart(world, net, tunnel.relay)
    back_within(tunnel, 20)


def test_F19_a_stale_address_with_another_server_behind_it_does_not_keep_us(world, net, tunnel):
    sh("ip", "addr", "add", "10.99.0.2/32", "dev", "lo", ns=net.ns["r"])
    relay = restart(world, net, tunnel.relay)
    back_within(tunnel, 20)
    relay.stop()
    name_is(net, "10.99.0.2")
    world.relay("10.99.0.2:443", name="stranger", ns=net.ns["r"])
    world.relay(f"{RELAY_IP}:443", ns=net.ns["r"])
    tunnel.laptop.wait_for("not the pinned one")
    back_within(tunnel, 20)


def test_F20_a_black_hole_of_ipv6_costs_a_third_of_a_second(world, net):
    relay = world.relay(":443", ns=net.ns["r"])
    sh("ip", "addr", "add", "fd00:9::2/64", "dev", "up0", "nodad", ns=net.ns["b"])
    sh("ip", "route", "add", "default", "via", "fd00:9::1", "dev", "up0", ns=net.ns["b"])
    sh("ip", "addr", "add", "fd00:9::1/64", "dev", "tob", "nodad", ns=net.ns["r"])
    sh("ip6tables", "-A", "INPUT", "-i", "tob", "-p", "tcp", "-j", "DROP", ns=net.ns["r"])
    took = {}
    for addresses in ((RELAY_IP,), ("fd00:99::1", RELAY_IP)):
        name_is(net, *addresses)
        start = time.monotonic()
        end = world.end(relay, 51820, "laptop", "home", "--listen", url=f"https://{NAME}", ns=net.ns["b"])
        end.wait_for("connected")
        took[len(addresses)] = time.monotonic() - start
        end.stop()
    assert took[2] > 0.25, "the other family is tried after 250 ms"
    assert took[2] - took[1] < 1.5


def fake_and_program(world, **kw):
    fake, s = Relay(world), world.socket()
    return fake, s, fake.end(port=s.getsockname()[1], mode="--forward", **kw)


def test_F16_a_lifetime_that_is_announced_costs_less_than_a_second(world):
    fake, s, _ = fake_and_program(world)
    c = fake.accept().admit()
    c.frame(GOAWAY, 0, 0, struct.pack(">II", 1, NO_ERROR))
    c.data(udp(b"still served"))
    assert answered(s, b"still served", 10)
    assert c.ended()  # the client leaves when it wants to
    left = time.monotonic()
    fake.accept().admit().data(udp(b"served again"))
    assert answered(s, b"served again", 10)
    assert time.monotonic() - left < 1


def test_F16_a_lifetime_that_ends_abruptly_costs_less_than_3_s(world, relay):
    box, echo, s = world.middlebox(relay.port), world.echo(), world.socket()
    world.end(relay, echo.port, "home", "laptop", "--forward").wait_for("connected")
    laptop = world.end(relay, 51821, "laptop", "home", "--listen", url=f"https://127.0.0.1:{box.port}")
    laptop.wait_for("home is up")
    ask(s, endpoint(laptop), b"before")
    box.finish_all()
    assert ask(s, endpoint(laptop), b"after", 20) < 3
