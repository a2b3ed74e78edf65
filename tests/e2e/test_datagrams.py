"""Integrity, mutual peering, roles: one relay, ends on loopback."""
import os
import random
import select
import signal
import socket
import time

import pytest
from harness import TUNN, answered, ask, endpoint, free_port

pytestmark = pytest.mark.usefixtures("transports")


def test_U01_U02_datagrams_of_every_size_come_back_whole(world, relay):
    pair, s = world.pair(relay), world.socket()
    for size in (0, 1, 100, 1420, 9000, 65507):
        ask(s, pair.address, os.urandom(size))


def dropped(relay, pair):
    return sum(n for p in (relay, pair.home, pair.laptop) for k, n in p.counters().items() if k.startswith("drop_") or k == "udp_overflows_total")


def test_order_is_kept_and_nothing_doubled_or_damaged(world, relay):
    pair, s = world.pair(relay), world.socket()
    ask(s, pair.address, b"start")
    sizes = [random.randrange(8, 3000) for _ in range(3000)]
    datagrams = [n.to_bytes(8, "big") + bytes([n % 251]) * (size - 8) for n, size in enumerate(sizes)]
    got, before, end = [], dropped(relay, pair), time.monotonic() + 60

    def take(sent, under_way):
        """Until no more are under way. None is lost in silence: on a machine that has no time some are too old, and counted."""
        lost = 0
        while sent - len(got) - lost > under_way:
            assert time.monotonic() < end, f"of {sent} {len(got)} came and {lost} were dropped"
            if select.select([s], [], [], 1)[0]:
                got.append(s.recv(70000))
            else:
                lost = dropped(relay, pair) - before

    for n, d in enumerate(datagrams, 1):
        s.sendto(d, pair.address)
        take(n, 100)
    take(len(datagrams), 0)
    got = [d for d in got if d != b"start"]
    numbers = [int.from_bytes(d[:8], "big") for d in got]
    assert numbers == sorted(set(numbers)) and got == [datagrams[n] for n in numbers]
    assert not answered(s, b"", 0.3)


def test_one_sided_declaration_delivers_nothing_and_says_why(world, relay):
    echo, s = world.echo(), world.socket()
    home = world.end(relay, echo.port, "home", "somebody-else", "--forward")
    home.wait_for("connected as home")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen")
    address = endpoint(laptop)
    laptop.wait_for(r"home.*(has not declared|--peer laptop)")
    for _ in range(50):
        s.sendto(b"knock", address)
    assert not answered(s, b"knock", 1)
    assert echo.n == 0
    assert relay.counters()["drop_not_mutual"] == 50


def test_flows_without_restart_once_it_becomes_mutual(world, relay):
    echo, s = world.echo(), world.socket()
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen")
    address = endpoint(laptop)
    laptop.wait_for("home is not there")
    home = world.end(relay, echo.port, "home", "laptop", "--forward")
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    ask(s, address, b"hello")


def test_one_way_end_sends_and_gets_nothing_back(world, relay):
    echo, s = world.echo(), world.socket()
    world.end(relay, echo.port, "home", "laptop", "--forward").wait_for("connected")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen", "--one-way")
    address = endpoint(laptop)
    laptop.wait_for("home is up")
    for _ in range(20):
        s.sendto(b"one way", address)
    assert not answered(s, b"one way", 1)
    assert echo.n == 20
    assert relay.counters()["drop_one_way"] == 20


def test_three_peers_of_one_end_each_get_their_own_answers(world, relay):
    echo = world.echo()
    home = world.end(relay, echo.port, "home", ["a", "b", "c"], "--forward")
    home.wait_for("connected")
    for name in "abc":
        end = world.end(relay, free_port(), name, "home", "--listen")
        address = endpoint(end)
        end.wait_for("home is up")
        ask(world.socket(), address, f"from {name}".encode())
    assert len(echo.senders) == 3


def test_listening_end_gives_each_peer_its_own_address(world, relay):
    port, echoes = free_port(), {}
    gateway = world.end(relay, port, "gw", ["a", "b"], "--listen")
    gateway.wait_for("connected")
    for name in "ab":
        echoes[name] = world.echo()
        world.end(relay, echoes[name].port, name, "gw", "--forward").wait_for("gw is up")
    s = world.socket()
    ask(s, ("127.0.0.1", port), b"to a")
    ask(s, ("127.0.0.2", port), b"to b")
    assert (echoes["a"].n >= 1, echoes["b"].n >= 1) == (True, True)


def test_U03_two_local_programs_are_two_flows(world, relay):
    pair = world.pair(relay)
    one, two = world.socket(), world.socket()
    ask(one, pair.address, b"one")
    ask(two, pair.address, b"two")
    ask(one, pair.address, b"one again")
    assert len(pair.echo.senders) == 2


def test_same_words_on_both_ends_find_their_roles(world, relay):
    echo = world.echo()
    home = world.end(relay, echo.port, "home", "laptop")
    home.wait_for(f"ListenPort = {echo.port}")
    laptop = world.end(relay, free_port(), "laptop", "home")
    address = endpoint(laptop)
    home.wait_for("laptop is up")
    ask(world.socket(), address, b"roles")


def test_same_role_on_both_ends_is_told_with_the_way_out(world, relay):
    a = world.end(relay, free_port(), "a", "b", "--listen")
    b = world.end(relay, free_port(), "b", "a", "--listen")
    for end in (a, b):
        end.wait_for("both ends listen.*--forward")


def test_U05_refused_local_port_is_counted_and_does_not_stop_the_tunnel(world, relay):
    port = free_port()  # nobody listens there: ICMP port unreachable
    home = world.end(relay, port, "home", "laptop", "--forward")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen")
    address = endpoint(laptop)
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    s = world.socket()
    for _ in range(10):
        s.sendto(b"nobody", address)
        answered(s, b"", 0.05)
    late = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    late.bind(("127.0.0.1", port))
    late.settimeout(5)
    s.sendto(b"now somebody", address)
    while late.recv(100) != b"now somebody":
        pass
    late.close()
    assert home.counters()["udp_errors_total"] > 0


def test_U04_a_program_that_restarts_is_answered_from_its_first_datagram_on(world, relay):
    pair, before, after = world.pair(relay), world.socket(), world.socket()
    ask(before, pair.address, b"before")
    after.sendto(b"after", pair.address)  # once
    assert answered(after, b"after", 10)


def test_U06_a_storm_of_local_programs_leaves_the_tunnel_working(world, relay):
    """More than the 4096 flows of a peer, each a socket of its own on both sides."""
    pair, s = world.pair(relay), world.socket()
    for _ in range(5000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"one of many", pair.address)
    ask(s, pair.address, b"still here", 20)
    assert len(os.listdir(f"/proc/{pair.home.p.pid}/fd")) < 4096 + 100


def test_U07_what_only_looks_like_wireguard_is_carried(world, relay):
    pair, s = world.pair(relay), world.socket()
    for kind, sizes in {1: (147, 149), 2: (91, 93), 3: (63, 65), 4: (31,), 255: (148,)}.items():
        for size in sizes:
            ask(s, pair.address, bytes([kind, 0, 0, 0]) + os.urandom(size - 4))


def test_U09_forwarding_to_an_end_that_listens_here_is_refused(world, relay):
    port = free_port()
    world.end(relay, port, "laptop", "home", "--listen").wait_for("connected")
    for how in (["--forward"], ["--forward", "localhost"], []):
        end = world.end(relay, port, "home", "laptop", *how)
        assert end.exit_code() == 2
        assert f"another tunn listens on 127.0.0.1:{port}" in end.text()


@pytest.mark.parametrize("host", ["224.0.0.1", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1", "127.255.255.255", "0.0.0.0"])
def test_U10_forwarding_to_many_machines_is_refused(world, relay, host):
    end = world.end(relay, 51820, "home", "laptop", "--forward", host)
    assert end.exit_code() == 2
    assert "multicast, broadcast" in end.text()


def test_U12_a_burst_is_carried_or_counted(world, relay):
    pair, s = world.pair(relay), world.socket()
    ask(s, pair.address, b"start")
    before = pair.laptop.counters()
    pair.laptop.p.send_signal(signal.SIGSTOP)  # nobody reads: the kernel's buffer fills
    for _ in range(10000):
        s.sendto(bytes(4000), pair.address)
    pair.laptop.p.send_signal(signal.SIGCONT)
    ask(s, pair.address, b"after", 20)
    end = time.monotonic() + 20
    while True:
        now = pair.laptop.counters()
        arrived = now["packets_in_total"] - before["packets_in_total"]
        lost = now["udp_overflows_total"] - before["udp_overflows_total"]
        if arrived + lost >= 10001:
            break
        assert time.monotonic() < end, (arrived, lost)
        ask(s, pair.address, b"more")
    assert lost > 0 and arrived > 100


@pytest.mark.parametrize("option", ["--help"])
def test_help_of_every_command_ends_with_zero(world, option):
    for command in ("relay", "server", "account", "token"):
        p = world.program([TUNN, command, option])
        assert p.exit_code() == 0
        assert f"usage: tunn {command}" in p.text()
