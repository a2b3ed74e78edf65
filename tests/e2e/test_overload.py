"""More is sent than a slow link takes: what goes, what stays, and that it is counted. How long it takes: tests/bench/links.py."""
import os
import select
import struct
import time
import types

import pytest
from harness import RELAY_IP, Net, socket_in

pytestmark = pytest.mark.root
HANDSHAKES = {1: 148, 2: 92, 3: 64}  # type and length of a WireGuard initiation, response, cookie
SLOW = ("--rate-mbit", "5", "--delay-ms", "10", "--buffer-kb", "60")


@pytest.fixture(params=["the_relay", "the_sender"])
def path(world, request):
    """From a to b; the one in front of the slow link has to queue."""
    net = Net(world, ["a", "b"], f"{os.getpid() % 100000}o", slow={"b" if request.param == "the_relay" else "a": SLOW})
    relay, url = world.relay(":443", ns=net.ns["r"]), f"https://{RELAY_IP}"
    receiver = world.end(relay, 5000, "b", "a", "--forward", url=url, ns=net.ns["b"])
    sender = world.end(relay, 5001, "a", "b", "--listen", url=url, ns=net.ns["a"])
    receiver.wait_for("a is up")
    sender.wait_for("b is up")
    return types.SimpleNamespace(programs={"the_sender": sender, "the_relay": relay, "receiver": receiver}, queues=request.param,
                                 out=socket_in(world, net.ns["a"], "127.0.0.1"), into=socket_in(world, net.ns["b"], "127.0.0.1", 5000))


def datagram(n):
    """Every thirtieth looks like a handshake; all carry their number."""
    kind = n // 30 % 3 + 1 if n % 30 == 29 else 4
    return (bytes([kind, 0, 0, 0]) + struct.pack("!I", n)).ljust(HANDSHAKES.get(kind, 1200), b"x")


def number(data):
    return struct.unpack("!I", data[4:8])[0]


def dropped(path):
    """Who has dropped how many, and why."""
    return {who: {k: n for k, n in p.counters().items() if n and (k.startswith("drop_") or k == "udp_overflows_total")}
            for who, p in path.programs.items()}


def send(path, numbers):
    for n in numbers:
        path.out.sendto(datagram(n), ("127.0.0.1", 5001))


def rest(path, sent, got):
    """What is still to come, until there is an account of each that was sent."""
    end = time.monotonic() + 20
    while len(got) + sum(sum(why.values()) for why in dropped(path).values()) < sent:
        assert time.monotonic() < end, (sent, len(got), dropped(path))
        while select.select([path.into], [], [], 0.05)[0]:
            got.append(path.into.recv(2000))
    assert len(got) + sum(sum(why.values()) for why in dropped(path).values()) == sent
    assert got == [datagram(number(d)) for d in got]  # whole
    data = [number(d) for d in got if d[0] == 4]
    assert data == sorted(set(data))  # in order, none twice
    return got


def test_of_three_times_as_much_all_handshakes_get_through_and_every_drop_is_counted(path):
    sent, got = 0, []
    while sent < 5000:  # three for each that arrives
        send(path, range(sent, sent := sent + (3 if got else 100)))
        got.append(path.into.recv(2000))
    rest(path, sent, got)
    assert len(got) < sent / 2
    handshakes = {number(d) for d in got if d[0] != 4}
    assert handshakes == {n for n in range(sent) if datagram(n)[0] != 4}
    overtook = [n for i, n in enumerate(map(number, got)) if n in handshakes and min(map(number, got[i:])) < n]
    assert len(overtook) > len(handshakes) / 2
    why = dropped(path)
    assert set(why.pop(path.queues)) == {"drop_stale"} and not any(why.values())


def test_of_a_burst_the_oldest_data_goes(path):
    sent = 3000
    send(path, range(sent))
    got = rest(path, sent, [])
    # If the newest went, the first 512 would fill the queue and little else would arrive. How new the last is that arrives is the
    # slow link's to say: what has waited for 25 to 100 ms when it takes more goes too.
    assert max(number(d) for d in got if d[0] == 4) >= 2 * 512
    assert sum(why.get("drop_queue_full", 0) for why in dropped(path).values())
