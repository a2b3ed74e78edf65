"""What every end-to-end test gets, here and in tests/interop."""
import itertools
import os
import socket
from collections import namedtuple

import pytest

from harness import World, ask, free_tcp_port
from scripted import Peer


@pytest.fixture
def world(tmp_path):
    w = World(tmp_path)
    yield w
    w.close()


MATRIX = [("grpc", "grpc"), ("grpc", "derp"), ("derp", "derp")]


@pytest.fixture(params=MATRIX, ids="-".join)
def transports(request, world):
    """The first end that a test starts, the second, and so on in turn."""
    world.transports = itertools.cycle(request.param)
    return request.param


@pytest.fixture
def relay(world):
    return world.relay()


@pytest.fixture
def lasting(world):
    """A relay that may be started again where it was: nobody is given its port meanwhile."""
    return world.relay(listen=f"127.0.0.1:{free_tcp_port()}")


@pytest.fixture
def manager(world):
    """The receiving side of $NOTIFY_SOCKET."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(f"{world.tmp}/notify")
    s.settimeout(20)
    world.cleanups.append(s.close)
    yield s


# One relay for all rows of a module, with a pair of ends that must not notice. A module takes these three by name:
# from fixtures import peer, standing, undisturbed as relay
# and may have a function relay_words(folder) that gives further words of its command line.

Standing = namedtuple("Standing", "world relay pair socket")


@pytest.fixture(scope="module")
def standing(request, tmp_path_factory):
    world = World(tmp_path_factory.mktemp("standing"))
    relay = world.relay(args=getattr(request.module, "relay_words", lambda folder: [])(world.tmp))
    with open(relay.token) as f:
        relay.secret = f.read().strip()
    yield Standing(world, relay, world.pair(relay), world.socket())
    world.close()


@pytest.fixture
def undisturbed(standing):
    yield standing.relay
    ask(standing.socket, standing.pair.address, os.urandom(100))
    assert "reconnecting" not in standing.pair.laptop.text() + standing.pair.home.text()


@pytest.fixture
def peer(relay):
    p = Peer(relay.port)
    yield p
    p.close()
