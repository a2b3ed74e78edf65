"""What every end-to-end test gets, here and in tests/interop."""
import socket

import pytest

from harness import World


@pytest.fixture
def world(tmp_path):
    w = World(tmp_path)
    yield w
    w.close()


@pytest.fixture
def relay(world):
    return world.relay()


@pytest.fixture
def manager(world):
    """The receiving side of $NOTIFY_SOCKET."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(f"{world.tmp}/notify")
    s.settimeout(20)
    world.cleanups.append(s.close)
    yield s
