"""What every end-to-end test gets, here and in tests/interop."""
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
