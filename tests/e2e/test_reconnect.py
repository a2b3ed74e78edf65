"""The tunnel comes back: relay restarts, cut and black-holed connections, sleep."""
import os
import signal
import time

import pytest
from harness import answered, ask, endpoint, free_port

pytestmark = pytest.mark.usefixtures("transports")


def restart(world, relay, sig):
    relay.p.send_signal(sig)
    relay.exit_code(12)
    return world.relay(listen=f"127.0.0.1:{relay.port}")


def laptop_behind_middlebox(world, relay):
    box, echo = world.middlebox(relay.port), world.echo()
    world.end(relay, echo.port, "home", "laptop", "--forward").wait_for("connected")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen", url=f"https://127.0.0.1:{box.port}")
    laptop.wait_for("home is up")
    return box, laptop, endpoint(laptop)


def test_F01_relay_killed_and_back(world, lasting):
    pair, s = world.pair(lasting), world.socket()
    ask(s, pair.address, b"before")
    restart(world, lasting, signal.SIGKILL)
    assert ask(s, pair.address, b"after", 20) < 15
    assert len(pair.echo.senders) == 1, "the local source port must stay, or WireGuard roams"


def test_F02_relay_stopped_in_order_tells_its_ends_and_exits_in_time(world, lasting):
    pair, s = world.pair(lasting), world.socket()
    ask(s, pair.address, b"before")
    start = time.monotonic()
    restart(world, lasting, signal.SIGTERM)
    assert lasting.p.returncode == 0
    assert time.monotonic() - start < 12
    ask(s, pair.address, b"after", 20)


def test_F06_black_hole_is_noticed_within_the_heartbeat(world, relay):
    box, laptop, address = laptop_behind_middlebox(world, relay)
    s = world.socket()
    ask(s, address, b"before")
    box.black_hole()
    at = laptop.count()
    s.sendto(b"into the hole", address)
    laptop.wait_for("reconnecting", 45, after=at)
    box.pass_new()
    ask(s, address, b"after", 20)


def test_F08_reset_connection_is_back_at_once(world, relay):
    box, laptop, address = laptop_behind_middlebox(world, relay)
    s = world.socket()
    ask(s, address, b"before")
    box.reset_all()
    ask(s, address, b"after", 10)


def test_F38_after_a_sleep_the_dead_connection_is_replaced_at_once(world, relay):
    box, laptop, address = laptop_behind_middlebox(world, relay)
    s = world.socket()
    ask(s, address, b"before")
    box.black_hole()
    laptop.p.send_signal(signal.SIGSTOP)
    assert not answered(s, b"", 8)  # the length of the sleep is the point
    box.pass_new()
    laptop.p.send_signal(signal.SIGCONT)
    assert ask(s, address, b"awake", 15) < 12  # a heartbeat alone would need up to 25 s


def test_stale_datagrams_are_not_replayed_after_an_outage(world, lasting):
    pair, s = world.pair(lasting), world.socket()
    ask(s, pair.address, b"before")
    lasting.p.send_signal(signal.SIGKILL)
    lasting.exit_code()
    pair.laptop.wait_for("reconnecting")
    seen = pair.echo.n
    for _ in range(100):
        s.sendto(os.urandom(100), pair.address)
    assert not answered(s, b"", 1)
    world.relay(listen=f"127.0.0.1:{lasting.port}")
    ask(s, pair.address, b"after", 20)
    assert pair.echo.n - seen < 40, "datagrams of the outage were kept"


def test_once_ends_with_4_when_nobody_answers(world, relay):
    port = free_port()
    end = world.end(relay, free_port(), "a", "b", "--once", url=f"https://127.0.0.1:{port}")
    assert end.exit_code() == 4
    assert f"127.0.0.1:{port}" in end.text()
