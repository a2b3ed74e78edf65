"""Connections that nobody uses sleep, and nobody notices."""
import signal
import time

from harness import ask


def until_asleep(relay, n):
    """All connections of the relay, of which each has two parts that sleep."""
    end = time.monotonic() + 30
    while relay.counters()["dens_asleep"] != 2 * n:
        assert time.monotonic() < end, dict(relay.counters())
        time.sleep(0.1)


def test_datagrams_pass_through_connections_that_slept(world, relay):
    pair, s = world.pair(relay), world.socket()
    for n in range(3):
        until_asleep(relay, 2)
        ask(s, pair.address, f"good morning {n}".encode())
    c = relay.counters()
    assert c["registrations_total"] == c["connections_open"] == 2


def test_who_sleeps_is_told_that_the_relay_goes(world, relay):
    pair = world.pair(relay)
    until_asleep(relay, 2)
    relay.p.send_signal(signal.SIGTERM)
    for end in (pair.home, pair.laptop):
        end.wait_for("reconnecting")
    assert relay.exit_code() == 0


def test_an_end_that_leaves_while_the_relay_sleeps_is_gone(world, relay):
    pair = world.pair(relay)
    until_asleep(relay, 2)
    pair.home.p.send_signal(signal.SIGKILL)
    pair.laptop.wait_for("home left")
    assert relay.counters()["sessions_open"] == 1
    until_asleep(relay, 1)
