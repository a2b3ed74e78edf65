import os
import shutil

import pytest

from derp_fixtures import silent_ends  # noqa: F401
from fixtures import lasting, manager, relay, transports, world  # noqa: F401
from harness import TUNN


def pytest_collection_modifyitems(items):
    """Namespaces and WireGuard need root and /dev/net/tun; in CI their absence is a failure."""
    able = os.geteuid() == 0 and os.path.exists("/dev/net/tun") and shutil.which("wireguard-go")
    for item in items:
        if item.get_closest_marker("root") and not able and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason="needs root, /dev/net/tun and wireguard-go"))


def pytest_configure(config):
    config.addinivalue_line("markers", "root: needs root, network namespaces and /dev/net/tun")
    assert os.path.exists(TUNN), f"{TUNN} is missing: make all"
