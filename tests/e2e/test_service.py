"""Under a service manager: the units, their filter of system calls, readiness, reload, watchdog."""
import ctypes
import glob
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request

import pytest

import scripted_derp
from harness import BUILD, ROOT, TUNN, ask, free_port, until

UNITS = sorted(glob.glob(f"{ROOT}/docs/systemd/*.service"))
FILTERED = os.path.basename(BUILD) not in ("asan", "tsan", "fuzz")
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


def settings(unit, name):
    with open(unit) as f:
        return [line.split("=", 1)[1].strip() for line in f if line.startswith(name + "=")]


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=os.path.basename)
def test_unit_is_exposed_no_more_than_one_and_a_half(world, unit):
    path = f"{world.tmp}/{os.path.basename(unit).replace('@', '-')}"
    with open(unit) as f, open(path, "w") as out:
        out.write(f.read().replace("@PREFIX@", "/usr"))
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", path],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stdout
    assert "AF_NETLINK" in settings(unit, "RestrictAddressFamilies")[0]


def expand(word):
    if not word.startswith("@"):
        return {word}
    names = set()
    for line in subprocess.run(["systemd-analyze", "syscall-filter", word], check=True, capture_output=True,
                               text=True).stdout.splitlines()[1:]:
        if line.strip() and not line.strip().startswith("#"):
            names |= expand(line.strip())
    return names


# As the service manager does it: another user, the filter, the program.
UNDER_FILTER = """
import os, seccomp, sys
program = os.open(sys.argv[2], os.O_PATH)
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(1), os.setuid(1)
f = seccomp.SyscallFilter(seccomp.KILL_PROCESS)
with open(sys.argv[1]) as rules:
    for action, name in map(str.split, rules):
        try:
            f.add_rule(seccomp.ALLOW if action == "+" else seccomp.ERRNO(1), name)
        except (RuntimeError, ValueError):
            pass  # of another architecture
f.load()
os.execve(program, sys.argv[2:], os.environ)
"""


def unit_filter(unit):
    """systemd.exec(5), SystemCallFilter: a first list allows, ~ takes out again, :EPERM answers instead of killing."""
    rules = {name: "+" for name in expand("@default")}
    for line in settings(unit, "SystemCallFilter"):
        out = line.startswith("~")
        for word in line.lstrip("~").split():
            word, _, error = word.partition(":")
            for name in expand(word):
                if not out:
                    rules[name] = "+"
                elif error:
                    rules[name] = "-"
                else:
                    rules.pop(name, None)
    return "".join(f"{action} {name}\n" for name, action in rules.items())


@needs_systemd
@pytest.mark.skipif(not FILTERED, reason="a sanitizer needs other system calls")
def test_programs_run_under_the_filters_of_their_units(world):
    place = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip()
    if os.geteuid() == 0:
        os.chown(place, 1, 1)
    world.cleanups.append(lambda: shutil.rmtree(place))
    env = {k: v for k, v in os.environ.items() if k != "TUNN_USER"}

    def under(unit, *words):
        with open(f"{place}/{unit}", "w") as f:
            f.write(unit_filter(f"{ROOT}/docs/systemd/{unit}"))
        return world.program(["/usr/bin/python3", "-c", UNDER_FILTER, f.name, *words], env=env)

    server = under("tunn-server.service", TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{place}/s")
    port = int(server.wait_for(r"listening on \S*:(\d+)$").group(1))
    pin = server.wait_for(r"--pin (sha256:[0-9a-f]{64})").group(1)
    server.p.send_signal(signal.SIGHUP)
    server.wait_for("reloaded")
    end = under("tunn-relay@.service", TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--listen", "--relay",
                f"https://localhost:{port}", "--pin", pin, "--token-file", f"{place}/s/first-token")
    end.wait_for("connected as a")
    for p in (end, server):
        p.p.terminate()
        assert p.exit_code() == 0
        assert "level=warn" not in p.text()


@needs_systemd
@pytest.mark.skipif(not FILTERED, reason="a sanitizer needs other system calls")
def test_a_server_with_everything_on_stays_within_both_filters(world):
    """The unit's and its own (kill): admin by TLS, STUN, tiers, native ends by a URL, commands, a login, usage, a reload."""
    place = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip()
    world.cleanups.append(lambda: shutil.rmtree(place))
    texts = {"admin-token": "x" * 32, "server.yaml": "tiers: {team: {relay: yes, tunnels: 9, rate: 1Gbit, burst: 1s, volume: 1TB}}\n"
             "default-tier: team\nderp: {verify-url: 'http://localhost:9/verify'}\nreflection: yes\n",
             "filter": unit_filter(f"{ROOT}/docs/systemd/tunn-server.service")}
    for name, text in texts.items():
        with open(os.open(f"{place}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(text)
    if os.geteuid() == 0:
        for path in (place, *(f"{place}/{name}" for name in texts)):
            os.chown(path, 1, 1)
    env = {k: v for k, v in os.environ.items() if k not in ("TUNN_USER", "TUNN_ADMIN", "TUNN_STUN")}
    server = world.program(["/usr/bin/python3", "-c", UNDER_FILTER, f"{place}/filter", TUNN, "server", "--config", f"{place}/server.yaml",
                            "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0", "--admin", "0.0.0.0:0", "--admin-token-file",
                            f"{place}/admin-token", "--state", f"{place}/s", "--workers", "2", "--seccomp", "kill"], env=env)
    server.port = int(server.wait_for(r"listening on \S*:(\d+)$").group(1))
    admin = server.wait_for(r"admin on https://\S*:(\d+)/").group(1)
    server.pin = server.wait_for(r"--pin (sha256:[0-9a-f]{64})").group(1)
    server.url, server.state, server.token = f"https://127.0.0.1:{server.port}", f"{place}/s", f"{place}/s/first-token"
    pair = world.pair(server)
    ask(world.socket(), pair.address, b"counted")
    token = world.new_account(server, "acme")
    world.end(server, free_port(), "c", "d", "--listen", token=token).wait_for("connected as c")
    native = scripted_derp.Client(server.port)  # the URL is asked, and nobody answers
    assert native.ended()
    login = world.program([TUNN, "login", "--relay", server.url, "--pin", server.pin, "--id", "e"],
                          env={**os.environ, "XDG_CONFIG_HOME": f"{world.tmp}/config"})
    code = login.wait_for(r"user_code=(\S+)").group(1)
    subprocess.run([TUNN, "account", "approve", code, "--account", "acme", "--state", server.state], check=True, capture_output=True)
    assert login.exit_code() == 0
    trusting = ssl._create_unverified_context()
    for page in ("metrics", "api/v1/tunnels", "api/v1/accounts", "api/v1/series"):
        request = urllib.request.Request(f"https://127.0.0.1:{admin}/{page}", headers={"Authorization": "Bearer " + "x" * 32})
        with urllib.request.urlopen(request, timeout=20, context=trusting) as answer:
            assert answer.status == 200
    end = time.monotonic() + 20
    while not glob.glob(f"{server.state}/usage/*.journal"):
        assert time.monotonic() < end
        time.sleep(0.05)
    server.p.send_signal(signal.SIGHUP)
    server.wait_for("reloaded")
    assert server.counters()["sessions_open"] == 3
    server.p.terminate()
    assert server.exit_code() == 0


# -- sd_notify(3)

def env_of(world, **more):
    return {**os.environ, "NOTIFY_SOCKET": f"{world.tmp}/notify", **more}


def server(world, **env):
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s"], env=env_of(world, **env))
    return p


def test_server_is_ready_when_it_listens_and_says_reload_and_stop(world, manager):
    p = server(world)
    assert until(manager, "READY=1") == ["READY=1"]
    port = int(p.wait_for(r"listening on \S*:(\d+)$", seconds=1).group(1))
    socket.create_connection(("127.0.0.1", port)).close()
    p.p.send_signal(signal.SIGHUP)
    said = until(manager, "READY=1")
    assert said[0] == "RELOADING=1" and re.fullmatch(r"MONOTONIC_USEC=\d+", said[1])
    p.p.terminate()
    until(manager, "STOPPING=1")


def test_end_is_ready_when_its_port_is_open_though_the_relay_is_away(world, manager):
    port = free_port()
    p = world.program([TUNN, "relay", str(port), "--id", "a", "--peer", "b", "--listen", "--relay", "https://127.0.0.1:1",
                       "--pin", "sha256:" + "0" * 64], env=env_of(world, WATCHDOG_USEC="200000"))
    until(manager, "READY=1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, pytest.raises(OSError):
        s.bind(("127.0.0.1", port))
    until(manager, "WATCHDOG=1")
    until(manager, "WATCHDOG=1")
    p.p.terminate()
    until(manager, "STOPPING=1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may stop a thread of a process that hides its memory")
@pytest.mark.skipif(not FILTERED, reason="a sanitizer has threads of its own")
def test_watchdog_is_silent_when_the_thread_of_the_packets_hangs(world, manager):
    p = server(world, WATCHDOG_USEC="200000")
    for _ in range(3):
        until(manager, "WATCHDOG=1")
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt = 0x4206, 0x4207
    worker = max(int(t) for t in os.listdir(f"/proc/{p.p.pid}/task"))  # started last
    assert libc.ptrace(seize, worker, None, None) == 0
    assert libc.ptrace(interrupt, worker, None, None) == 0
    os.waitpid(worker, 0x40000000)  # __WALL
    manager.settimeout(1)
    with pytest.raises(TimeoutError):  # ten times what it usually takes, after what was under way
        while True:
            until(manager, "WATCHDOG=1")
    assert libc.ptrace(17, worker, None, None) == 0  # PTRACE_DETACH
    manager.settimeout(20)
    until(manager, "WATCHDOG=1")
