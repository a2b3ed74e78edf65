"""What accounts have used, when the disk is full and when a month begins (H1, F25)."""
import calendar
import os
import subprocess
import time

import pytest
from harness import SANITIZED, TUNN, free_port
from hosting import Hosted, trickle
from test_machine import FAKETIME, IS_ROOT, Clock


def handed_on(relay, moved, before=0):
    """By the relay, which is what counts."""
    n = relay.counters()["bytes_out_total"] - before
    assert moved.came <= n <= moved.sent
    return n


def bytes_of(used):
    return used["sent_bytes"], used["received_bytes"]


# -- the disk

@pytest.fixture
def small_disk(world):
    """A program that runs tunn where a disk of 4 MB is, a command that fills that, and its path."""
    small = f"{world.tmp}/small"
    os.mkdir(small)
    holder = world.program(["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o size=4m small {small} && echo mounted && read -r never"],
                           interactive=True)
    holder.wait_for("mounted")
    binary = f"{world.tmp}/tunn-inside"
    with open(binary, "w") as f:
        f.write(f'#!/bin/sh\nexec nsenter -t {holder.p.pid} -m -r {TUNN} "$@"\n')
    os.chmod(binary, 0o755)

    def inside(command):
        subprocess.run(["nsenter", "-t", str(holder.p.pid), "-m", "-r", "sh", "-c", f"cd {small} && {command}"], capture_output=True, check=False)

    return binary, inside


@pytest.mark.skipif(not IS_ROOT, reason="needs a mount namespace")
def test_F25_a_disk_that_fills_up_is_said_and_relaying_goes_on_and_usage_is_right(world, small_disk):
    binary, inside = small_disk
    relay = world.relay(name="small/state", binary=binary)
    hosted = Hosted(world, relay, binary)
    for name in ("acme", "bolt"):
        hosted.account(name)
    address, far, laptop, home = hosted.way("acme", "bolt")
    s = world.socket()
    moved = trickle(s, address, far, 200_000, 1000)
    inside("cat /dev/zero > full")
    at = time.monotonic()
    while not any("cannot write the usage journal" in line for line in relay.lines):
        assert time.monotonic() - at < 20
        moved += trickle(s, address, far, 50_000, 1000)
    sent = handed_on(relay, moved)
    assert bytes_of(hosted.used("acme")) == (sent, 0) and bytes_of(hosted.used("bolt")) == (0, sent)
    inside("rm full")
    relay.wait_for("written again: nothing is missing")
    moved += trickle(s, address, far, 50_000, 1000)
    sent = handed_on(relay, moved)
    assert sum("cannot write the usage journal" in line for line in relay.lines) == 1
    assert "reconnecting" not in laptop.text() + home.text()
    for p in (laptop, home, relay):
        p.stop()
    assert bytes_of(hosted.used("acme")) == (sent, 0) and bytes_of(hosted.used("bolt")) == (0, sent)


# -- the month

@pytest.mark.skipif(not os.path.exists(FAKETIME), reason="needs libfaketime")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer's run-time does not bear another preloaded library")
def test_H1_a_month_begins_anew_with_the_clock(world):
    now = time.gmtime()
    year, month = now.tm_year + now.tm_mon // 12, now.tm_mon % 12 + 1
    to_next = calendar.timegm((year, month, 1, 0, 0, 0)) - time.time()
    clock = Clock(f"{world.tmp}/clock")
    clock.set(round(to_next) - 3600)  # the last hour of this one
    hosted = Hosted(world, world.relay(env=clock.env), env=clock.env)
    hosted.account("small", "--volume", "1MB")
    hosted.account("other")
    address, far, laptop, _ = hosted.way("small", "other")
    s = world.socket()
    trickle(s, address, far, 850_000, 1000)
    for _ in range(400):
        s.sendto(bytes(1000), address)
    laptop.wait_for("used up")
    refused = hosted.end("small", "c", "other/b", free_port(), "--listen")
    refused.wait_for(f"month is used up; the next begins on {year}-{month:02}-01 00:00 UTC")
    assert hosted.used("small")["sent_bytes"] >= 1_000_000
    clock.set(round(to_next) + 3600)
    end = time.monotonic() + 20
    while hosted.used("small")["sent_bytes"]:
        assert time.monotonic() < end, "the month did not begin"
        time.sleep(0.05)
    address, far, _, _ = hosted.way("small", "other", "-new")
    before = hosted.relay.counters()["bytes_out_total"]
    moved = trickle(s, address, far, 500_000, 1000)
    sent = handed_on(hosted.relay, moved, before)
    assert bytes_of(hosted.used("small")) == (sent, 0) and bytes_of(hosted.used("other")) == (0, sent)
