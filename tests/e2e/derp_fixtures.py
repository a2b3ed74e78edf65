"""Relays that are DERP servers, and native ends that come to them, for the tests of both. A module takes `derp` by name."""
import os
import threading
import time
import types

import pytest
from harness import World
from scripted_derp import UPGRADE, WATCH_CONNS, Client, NodeKey

SECRET = os.urandom(32).hex()  # of the mesh


def write(path, text, mode=0o600):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)
    return str(path)


@pytest.fixture
def derp(world):
    """Starts relays, and brings ends to them that are closed before the relay stops."""
    def start(text="derp:\n  allow: any\n", workers=None, mesh=False, args=(), name="state", **kw):
        words = ["--config", write(f"{world.tmp}/{name}.yaml", text), *args]
        words += ["--workers", str(workers)] if workers else []
        words += ["--mesh-key-file", write(f"{world.tmp}/mesh.key", SECRET)] if mesh else []
        relay = world.relay(args=words, name=name, **kw)
        relay.config = f"{world.tmp}/{name}.yaml"
        return relay

    def enter(relay, **kw):
        end = Client(relay.port, **kw)
        world.cleanups.append(end.close)
        return end

    def enter_at(relay, worker, **kw):
        """The kernel chooses the worker: the end comes again until it is that one."""
        kw.setdefault("key", NodeKey())
        for _ in range(200):
            at = relay.count()
            end = enter(relay, **kw)
            joined = rf"end joined id=nodekey:{kw['key'].hex[:8]}\. .* worker=(\d+)"
            if int(relay.wait_for(joined, after=at).group(1)) == worker:
                return end
            end.close()
            relay.wait_for(rf"end left id=nodekey:{kw['key'].hex[:8]}\. ", after=at)
        raise AssertionError(f"never came to worker {worker}")

    def watch(relay, **kw):
        end = enter(relay, info={"version": 2, "meshKey": SECRET}, **kw)
        end.frame(WATCH_CONNS)
        return end
    return types.SimpleNamespace(start=start, enter=enter, enter_at=enter_at, watch=watch)


def until(program, counter, wanted, seconds=20):
    wanted = wanted if callable(wanted) else lambda n, v=wanted: n == v
    end = time.monotonic() + seconds
    while not wanted(n := program.counters()[counter]):
        assert time.monotonic() < end, f"{counter} is {n}"
        time.sleep(0.02)


def exchange(a, b, packet=b"there"):
    """Both reach each other."""
    a.send_to(b.key, packet)
    assert b.packet() == (a.key.public, packet)
    b.send_to(a.key, packet[::-1])
    assert a.packet() == (b.key.public, packet[::-1])


def refused(relay, **kw):
    """An end that is not admitted: its connection ends without a word."""
    c = Client(relay.port, **kw)
    assert c.info is None and c.closed
    c.close()
    return True


def who_stays(relay):
    """A tunnel that does not leave although it is told to."""
    with open(relay.token, encoding="ascii") as f:
        secret = f.read().strip()
    c = Client(relay.port, enter=False)
    c.ask((*UPGRADE, "Tunn-Version: 1"))
    c.greeting()
    c.introduce({"version": 2, "CanAckPings": True, "tunnId": "stays", "tunnPeers": ["b"], "tunnToken": secret, "tunnInstance": os.urandom(16).hex()})
    assert c.admitted()["tunnId"] == "stays"
    return c


@pytest.fixture(scope="session")
def silent_ends(tmp_path_factory):
    """Ends that say nothing while other tests run: what each hears first, and when."""
    world = World(tmp_path_factory.mktemp("waiting"))
    relay = world.relay(args=["--derp.allow", "any"])
    ends = [Client(relay.port, websocket=n == 3) for n in range(4)]

    def listen(end):
        end.began, end.all = time.monotonic(), []
        end.s.settimeout(75)
        while not end.all and (f := end.read()):
            end.all.append((f.type, f.payload, time.monotonic() - end.began))
    for e in ends:
        e.listener = threading.Thread(target=listen, args=(e,), daemon=True)
        e.listener.start()
    yield ends
    for e in ends:
        e.close()
    world.close()
