"""A machine that is odd or short of something: descriptors, disk, the clock, features of the kernel."""
import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

import pytest

from harness import SANITIZED, TUNN, ask, free_port, until

IS_ROOT = os.geteuid() == 0


def descriptors(program):
    """What each descriptor is; one that the program closes meanwhile is left out."""
    where, found = f"/proc/{program.p.pid}/fd", {}
    for n in os.listdir(where):
        with contextlib.suppress(FileNotFoundError):
            found[int(n)] = os.readlink(f"{where}/{n}")
    return found


# -- C26

@pytest.mark.skipif(not IS_ROOT, reason="the descriptors of a process that hides its memory are root's to see")
def test_C26_closed_standard_descriptors_become_dev_null_and_no_socket(world, manager):
    env = {**os.environ, "NOTIFY_SOCKET": f"{world.tmp}/notify"}
    words = (f"{TUNN} server --listen 127.0.0.1:0 --state {world.tmp}/s",
             f"{TUNN} relay {free_port()} --peer b --relay https://127.0.0.1:1 --pin sha256:{'0' * 64}")
    for w in words:
        p = world.program(["/bin/sh", "-c", f"exec {w} <&- >&- 2>&-"], env=env)
        until(manager, "READY=1")
        found = descriptors(p)
        assert [found[n] for n in range(3)] == ["/dev/null"] * 3
        assert any(v.startswith("socket:") for n, v in found.items() if n > 2)


# -- C27

def with_descriptors(world, n, *words):
    return world.program(["/bin/sh", "-c", f'ulimit -n {n}; exec "$@"', "sh", TUNN, *words])


def test_C27_with_few_descriptors_the_server_says_how_many_fit_and_works(world):
    p = with_descriptors(world, 64, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s")
    p.wait_for("only 64 file descriptors .* room for 36 connections")
    port = int(p.wait_for(r"listening on \S*:(\d+)$").group(1))
    pin = p.wait_for(r"--pin (sha256:[0-9a-f]{64})").group(1)
    end = with_descriptors(world, 64, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay",
                           f"https://127.0.0.1:{port}", "--pin", pin, "--token-file", f"{world.tmp}/s/first-token")
    end.wait_for("only 64 file descriptors")
    end.wait_for("connected as a")


@pytest.mark.parametrize("words", [["server", "--state", "/nonexistent"], ["relay", "1234", "--peer", "b", "--relay", "x"]],
                         ids=["server", "relay"])
def test_C27_with_less_than_32_descriptors_it_does_not_start(world, words):
    p = with_descriptors(world, 31, *words)
    assert p.exit_code() == 2
    assert "only 31 file descriptors" in p.text() and "at least 32" in p.text()


def test_soft_limit_is_raised_to_the_hard_one(world):
    p = world.program(["/bin/sh", "-c", f"ulimit -S -n 40; exec {TUNN} server --listen 127.0.0.1:0 --state {world.tmp}/s"])
    p.wait_for("--pin")
    soft, hard = resource.prlimit(p.p.pid, resource.RLIMIT_NOFILE)
    assert soft == hard > 40


# -- C28

def mounted(world, options, command):
    """Runs a shell command in a mount namespace with a small tmpfs at `small`."""
    small = f"{world.tmp}/small"
    os.makedirs(small, exist_ok=True)
    return world.program(["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o {options} small {small} && {command}"]), small


@pytest.mark.skipif(not IS_ROOT, reason="needs a mount namespace")
def test_C28_full_disk_ends_the_start_with_the_path(world):
    p, small = mounted(world, "size=64k", f"head -c 64k /dev/zero > {world.tmp}/small/fill; "
                       f"exec {TUNN} server --listen 127.0.0.1:0 --state {world.tmp}/small/state")
    assert p.exit_code() == 1
    assert f"{small}/state" in p.text() and "No space left on device" in p.text()


@pytest.mark.skipif(not IS_ROOT, reason="needs a mount namespace")
@pytest.mark.parametrize("kib", [8, 16, 24, 40, 60])
def test_C28_disk_that_fills_up_during_the_start_ends_it_with_the_path(world, kib):
    """Room for the key, or for certificate and pepper too, but not for the database."""
    p, small = mounted(world, f"size={kib}k,nr_inodes=20,mode=0700", f"exec {TUNN} server --listen 127.0.0.1:0 --state {world.tmp}/small")
    assert p.exit_code() == 1
    assert f"{small}/" in p.text()


@pytest.mark.skipif(not IS_ROOT, reason="needs a mount namespace")
@pytest.mark.parametrize("made", [False, True], ids=["new", "made"])
def test_C28_read_only_state_ends_the_start_with_the_path(world, made):
    first = f"{TUNN} account add main --state {world.tmp}/small/state;" if made else ""
    p, small = mounted(world, "size=4m", f"{first} mount -o remount,ro {world.tmp}/small && "
                       f"exec {TUNN} server --listen 127.0.0.1:0 --state {world.tmp}/small/state")
    assert p.exit_code() == 1
    assert f"{small}/state" in p.text() and "Read-only file system" in p.text()


# -- the clock (T41, F30)

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
DAY = 86400


class Clock:
    """The clock of the wall for programs that run with .env."""

    def __init__(self, path):
        self.path = path
        self.set(0)
        # libfaketime removes a file when the program ends, which an end may not
        self.env = {**os.environ, "TUNN_SECCOMP": "log", "LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": path, "FAKETIME_NO_CACHE": "1",
                    "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def set(self, offset):
        with open(self.path + ".new", "w") as f:
            f.write(f"{offset:+d}\n")
        os.rename(self.path + ".new", self.path)


@pytest.mark.skipif(not os.path.exists(FAKETIME), reason="needs libfaketime")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer's run-time does not bear another preloaded library")
@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_T41_F30_a_clock_that_jumps_a_day_disconnects_nobody_and_expiry_counts_anew(world, jump):
    clock = Clock(f"{world.tmp}/clock")
    state = f"{world.tmp}/state"
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", state], env=clock.env)
    p.port = int(p.wait_for(r"listening on \S*:(\d+)$").group(1))
    p.pin = p.wait_for(r"--pin (sha256:[0-9a-f]{64})").group(1)
    p.url, p.state, p.token = f"https://127.0.0.1:{p.port}", state, f"{state}/first-token"
    short = world.new_token(p, "main", "--expires", "12h")
    clock.set(max(-jump, 0))  # before a jump back the token has run out
    pair = world.pair(p, env=clock.env)
    s = world.socket()
    ask(s, pair.address, b"before")

    def fate(name):
        end = world.end(p, free_port(), name, "b", "--listen", token=short, env=clock.env)
        return end.wait_for(r"(connected as|token is not valid)").group(1)

    assert fate("c") == ("connected as" if jump > 0 else "token is not valid")
    at = pair.home.count(), pair.laptop.count()
    clock.set(max(jump, 0))
    assert fate("d") == ("token is not valid" if jump > 0 else "connected as")
    p.wait_for(r"the clock was set by [+-]86[34]\d\d s")
    ask(s, pair.address, b"after")
    beats = p.counters()
    ask(s, pair.address, b"and on")
    assert beats and (pair.home.count(), pair.laptop.count()) == at  # neither said a word


# -- out of descriptors (T42, F31)

def cpu_seconds(program):
    with open(f"/proc/{program.p.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not IS_ROOT, reason="the limit of a process that hides its memory is root's to set")
def test_T42_F31_out_of_descriptors_it_waits_quietly_and_serves_again_when_there_are_some(world, relay):
    pair = world.pair(relay)
    s = world.socket()
    ask(s, pair.address, b"before")
    hard = resource.prlimit(relay.p.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(relay.p.pid, resource.RLIMIT_NOFILE, (max(descriptors(relay)) + 1, hard))
    refused = relay.counters()["accept_errors_total"]
    cpu, begun = cpu_seconds(relay), time.monotonic()
    knocking, inside = 0, []
    while relay.counters()["accept_errors_total"] < refused + 8:
        c = socket.create_connection(("127.0.0.1", relay.port), 5)
        world.cleanups.append(c.close)
        c.settimeout(1)
        try:
            assert c.recv(1) == b""  # taken and let go
            c.close()
        except TimeoutError:  # a descriptor below the limit was free after all: this one keeps it
            inside.append(c)
            assert len(inside) < 10
        knocking += 1
        assert knocking < 1000
    ask(s, pair.address, b"meanwhile")
    used, took = cpu_seconds(relay) - cpu, time.monotonic() - begun
    assert took > 0.3  # it rested between
    assert used < 0.5 * took or SANITIZED  # 10 % where nothing else runs
    late = world.end(relay, free_port(), "late", "b", "--listen")
    resource.prlimit(relay.p.pid, resource.RLIMIT_NOFILE, (hard, hard))
    for c in inside:
        c.close()
    late.wait_for("connected as late")
    ask(s, pair.address, b"after")


# -- a kernel without (F37)

@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer cannot run under ptrace")
def test_F37_options_that_the_kernel_refuses_are_told_once_and_all_works(world):
    def refused(*words):  # an injected error shows as a call without number, which the filter knows nothing of
        return world.program(["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=setsockopt", "-e",
                              "inject=setsockopt:error=ENOPROTOOPT", TUNN, *words, "--seccomp", "off"])

    server = refused("server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s")
    port = int(server.wait_for(r"listening on \S*:(\d+)$").group(1))
    pin = server.wait_for(r"--pin (sha256:[0-9a-f]{64})").group(1)
    server.wait_for("this kernel has no.*TCP_NOTSENT_LOWAT.*BBR")
    echo = world.echo()
    words = ("--relay", f"https://127.0.0.1:{port}", "--pin", pin, "--token-file", f"{world.tmp}/s/first-token",
             "--log-level", "info")
    home = refused("relay", str(echo.port), "--id", "home", "--peer", "laptop", "--forward", *words)
    laptop = refused("relay", str(free_port()), "--id", "laptop", "--peer", "home", "--listen", "127.0.0.1", *words)
    home.wait_for("laptop is up")
    m = laptop.wait_for(r"Endpoint = ([\d.]+):(\d+)")
    laptop.wait_for("home is up")
    ask(world.socket(), (m.group(1), int(m.group(2))), b"hello", 20)
    for p in (server, home, laptop):
        assert len([line for line in p.lines if "this kernel has no" in line]) == 1
