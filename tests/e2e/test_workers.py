"""Several workers are one relay: whoever comes to one reaches whoever came to another, and all hear what one hears."""
import os
import signal
import socket

import pytest
from harness import TUNN, ask, endpoint, free_port
from scripted import settings_of

WORKERS = 4


def threads(program):
    return len(os.listdir(f"/proc/{program.p.pid}/task"))


@pytest.fixture
def relay(world):
    return world.relay(args=["--workers", str(WORKERS)])


def pair_across(world, relay):
    echo = world.echo()
    home = world.end_at(relay, 0, echo.port, "home", "laptop", "--forward")
    laptop = world.end_at(relay, WORKERS - 1, free_port(), "laptop", "home", "--listen")
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    return home, laptop


def test_there_is_one_worker_for_each_cpu_unless_another_number_is_given(world):
    one = world.relay(name="one", args=["--workers", "1"])
    three = world.relay(name="three", args=["--workers", "3"])
    default = world.relay(name="default")
    assert threads(three) - threads(one) == 2
    assert threads(default) - threads(one) == len(os.sched_getaffinity(0)) - 1


@pytest.mark.parametrize("n", ["0", "65", "-1", "two"])
def test_C03_a_number_of_workers_outside_the_bounds_is_refused(world, n):
    p = world.program([TUNN, "server", "--workers", n])
    assert p.exit_code() == 2
    assert "--workers must be a number from 1 to 64" in p.text()


def test_datagrams_pass_from_worker_to_worker(world, relay):
    _, laptop = pair_across(world, relay)
    s = world.socket()
    for i in range(50):
        ask(s, endpoint(laptop), os.urandom(1 + i * 28))
    assert relay.counters()["packets_forwarded_total"] >= 100


def test_an_end_that_leaves_is_missed_at_another_worker_and_found_again(world, relay):
    home, laptop = pair_across(world, relay)
    at = laptop.count()
    home.stop()
    laptop.wait_for("home (is gone|is not there|left)", after=at)
    at = laptop.count()
    world.end_at(relay, 1, world.echo().port, "home", "laptop", "--forward")
    laptop.wait_for("home is up", after=at)
    ask(world.socket(), endpoint(laptop), b"again")


def test_an_id_that_comes_to_another_worker_supersedes_the_older(world, relay):
    for n in range(40):  # until the second comes to another; each time a new id, for one that is taken often is fought over
        me = f"a{n}"
        first = world.end_at(relay, 0, free_port(), me, "b", "--listen")
        at = relay.count()
        second = world.end(relay, free_port(), me, "b", "--listen")
        if int(relay.wait_for(rf"end joined id={me} .* worker=(\d+)", after=at).group(1)) != 0:
            break
    assert first.exit_code() != 0
    assert "superseded" in first.text()
    assert second.p.poll() is None


def test_a_drain_ends_the_ends_of_all_workers(world, relay):
    home, laptop = pair_across(world, relay)
    relay.p.send_signal(signal.SIGTERM)
    assert relay.exit_code() == 0
    for end in (home, laptop):
        end.wait_for("reconnecting|relay is stopping|draining")


def test_a_second_relay_on_the_port_is_refused(world, relay):
    p = world.program([TUNN, "server", "--listen", f"127.0.0.1:{relay.port}", "--state", f"{world.tmp}/second"])
    assert p.exit_code() == 1
    assert "is another server running there?" in p.text()


def test_limits_of_newcomers_count_all_workers_together(world):
    with open(f"{world.tmp}/few.yaml", "w") as f:
        f.write("limits:\n  newcomers-per-network: 8\n")
    relay = world.relay(args=["--workers", str(WORKERS), "--config", f"{world.tmp}/few.yaml"])
    held = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(8)]
    relay.wait_for_counter("connections_accepted_total", 8)
    with socket.create_connection(("127.0.0.1", relay.port)) as one_too_many:
        one_too_many.settimeout(20)
        with pytest.raises(ConnectionResetError):
            one_too_many.recv(1)
    for s in held:
        s.close()


def test_a_reload_reaches_all_workers(world):
    path = f"{world.tmp}/streams.yaml"
    with open(path, "w") as f:
        f.write("limits:\n  streams: 3\n")
    relay = world.relay(args=["--workers", str(WORKERS), "--config", path])
    with open(path, "w") as f:
        f.write("limits:\n  streams: 4\n")
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded")
    in_a_row = 0
    for _ in range(2000):  # the news travels by mail; then every worker says it
        in_a_row = in_a_row + 1 if settings_of(relay.port)[3] == 4 else 0
        if in_a_row == 20 * WORKERS:
            return
    raise AssertionError("some worker has the old limits")
