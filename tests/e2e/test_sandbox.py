"""What the processes may do once they run: system calls, user, capabilities, memory that others may see."""
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness import BUILD, TUNN, ask, endpoint, free_port

FILTERED = os.path.basename(BUILD) not in ("asan", "tsan", "fuzz")
IS_ROOT = os.geteuid() == 0


def status(program):
    with open(f"/proc/{program.p.pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def test_T39_every_thread_is_under_the_filter_and_traffic_passes(world, relay):
    pair = world.pair(relay)
    ask(world.socket(), pair.address, b"hello")
    for p in (relay, pair.home, pair.laptop):
        for task in os.listdir(f"/proc/{p.p.pid}/task"):
            with open(f"/proc/{p.p.pid}/task/{task}/status") as f:
                text = f.read()
            assert f"\nSeccomp:\t{2 if FILTERED else 0}\n" in text
            assert "\nNoNewPrivs:\t1\n" in text


def test_seccomp_off_is_said_and_a_mode_nobody_knows_is_refused(world):
    relay = world.relay(args=("--seccomp", "off"))
    relay.wait_for("--seccomp off")
    assert status(relay)["Seccomp"] == "0"
    bad = world.program([TUNN, "server", "--seccomp", "on", "--state", f"{world.tmp}/other"])
    assert bad.exit_code() == 2
    assert "kill, log or off" in bad.text()
