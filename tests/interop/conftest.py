import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
from fixtures import relay, world  # noqa: E402,F401
from harness import BUILD, World  # noqa: E402

WIDE = """limits:
  header-list: 64KiB
  streams: 1000
  queued-frames: 2000
  streams-rate: 100000
  streams-burst: 100000
  control-rate: 100000
  control-burst: 100000
  health-connections: 1000
"""


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """`tunn server` with grpc.testing.TestService; its limits are the usual ones."""
    w = World(tmp_path_factory.mktemp("service"))
    yield w.relay(binary=f"{BUILD}/interop/tunn")
    w.close()


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """The same for a client that wants more than an end does."""
    tmp = tmp_path_factory.mktemp("wide")
    (tmp / "wide.yaml").write_text(WIDE)
    w = World(tmp)
    yield w.relay(binary=f"{BUILD}/interop/tunn", args=["--config", f"{tmp}/wide.yaml"])
    w.close()
