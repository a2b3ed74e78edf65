"""Out of memory at start: the program says so and ends, or it does not need what it was refused."""
import os
import re
import selectors
import shutil
import signal
import subprocess

import pytest

from harness import BUILD, TUNN, free_port

PRELOAD = os.path.join(BUILD, "nomem", "preload.so")
RELAY = [TUNN, "relay", str(free_port()), "--listen", "127.0.0.1", "--id", "a", "--peer", "b",
         "--relay", "https://127.0.0.1:1", "--pin", "sha256:" + "0" * 64]
SERVER = [TUNN, "server", "--listen", "127.0.0.1:0"]
# a start makes so many allocations at most: about 1000 for a relay's end, 5600 and 10200 for a server
STARTS = {"relay": (RELAY, 1100), "open": ([*SERVER, "--open"], 5700), "accounts": (SERVER, 10300)}

pytestmark = pytest.mark.skipif(any(s in BUILD for s in ("asan", "tsan")),
                                reason="a sanitizer's allocator cannot be preloaded over")


def start(words, n, times):
    """The exit code (None: it was up and was stopped) and what was said on standard error."""
    env = dict(os.environ, LD_PRELOAD=PRELOAD, INJECT_AT=str(n), INJECT_TIMES=str(times))
    p = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    heard = b""
    with selectors.DefaultSelector() as wait:
        wait.register(p.stdout, selectors.EVENT_READ)
        while not heard.endswith(b"\n") and wait.select(60):
            some = os.read(p.stdout.fileno(), 4096)
            heard += some
            if not some:
                break
    if heard:
        p.send_signal(signal.SIGTERM)
    _, said = p.communicate(timeout=60)
    return None if heard and p.returncode == 0 else p.returncode, said.decode()


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("lasting", [False, True])
def test_F33_a_start_without_memory_says_so(kind, lasting, tmp_path):
    words, n_allocations = STARTS[kind]
    for n in [*range(1, 12), *range(12, n_allocations, n_allocations // 25)]:
        state = tmp_path / str(n)
        code, said = start([*words, *(["--state", str(state)] if kind != "relay" else [])], n,
                           1 << 62 if lasting else 1)
        assert code in (None, 1, 2), (n, code, said)
        if code:
            assert said.strip().splitlines()[-1].startswith("tunn"), (n, said)
        shutil.rmtree(state, ignore_errors=True)


def test_a_start_without_a_thread_leaves_nothing_half_started(tmp_path):
    """Of the accounts, of the admin listener, of each of two workers."""
    words = [*SERVER, "--state", str(tmp_path / "state"), "--workers", "2", "--admin", "127.0.0.1:0"]
    for n in range(1, 5):
        p = subprocess.run(words, env=dict(os.environ, LD_PRELOAD=PRELOAD, THREAD_AT=str(n)), capture_output=True, text=True, check=False,
                           timeout=60)
        assert p.returncode == 1, (n, p.stderr)
        assert re.search(r"^tunn server: cannot start (a thread|the accounts thread)", p.stderr.splitlines()[-1]), (n, p.stderr)
        assert "on both ends run" not in p.stdout
    assert start(words, 1 << 60, 1)[0] is None  # and the fifth is no thread of a start
