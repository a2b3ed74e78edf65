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


# -- secrets (T16)

def mappings(pid):
    """Start, end and flags of all that can be read."""
    where = None
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line)
            if m:
                where = (int(m[1], 16), int(m[2], 16)) if "r" in m[3] and not m[4].startswith("[v") else None
            elif where and line.startswith("VmFlags:"):
                yield *where, line.split()[1:]


def found(program, needle):
    """How often it is in memory that a core dump would have, and in memory that it would not."""
    n = {False: 0, True: 0}
    with open(f"/proc/{program.p.pid}/mem", "rb", 0) as mem:
        for start, end, flags in mappings(program.p.pid):
            mem.seek(start)
            data = b""
            while len(data) < end - start and (more := mem.read(end - start - len(data))):
                data += more
            n["dd" in flags] += data.count(needle)
    return n[False], n[True]


def secret_of(path):
    with open(path) as f:
        return f.read().strip().split("_")[2].encode()


@pytest.mark.skipif(not IS_ROOT, reason="the memory of a process that hides it can be read by root only")
@pytest.mark.skipif(not FILTERED, reason="a sanitizer keeps what was freed")
def test_T16_of_the_token_only_the_end_keeps_a_copy_and_no_core_dump_has_it(world, relay):
    secret = secret_of(relay.token)[8:40]
    assert found(relay, secret) == (0, 0)  # the first token was made by this process
    pair = world.pair(relay)
    ask(world.socket(), pair.address, b"hello")
    assert found(relay, secret) == (0, 0)
    assert found(pair.home, secret) == (0, 1)  # for the next connection
    assert found(pair.laptop, secret) == (0, 1)
    with open(f"{relay.state}/pepper", "rb") as f:
        assert found(relay, f.read()) == (0, 1)


@pytest.mark.skipif(not IS_ROOT, reason="the environment of a process that hides it can be read by root only")
def test_T16_the_token_is_in_no_log_argument_or_environment(world):
    relay = world.relay(args=("--log-level", "debug"))
    with open(relay.token) as f:
        token = f.read().strip()
    end = world.program([TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay", relay.url, "--pin",
                         relay.pin, "--log-level", "debug"], env={**os.environ, "TUNN_TOKEN": token})
    end.wait_for("connected as a")
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    refused = world.program([TUNN, "relay", str(free_port()), "--id", "c", "--peer", "b", "--relay", relay.url, "--pin",
                             relay.pin, "--log-level", "debug"], env={**os.environ, "TUNN_TOKEN": wrong})
    assert refused.exit_code() == 2
    for p in (relay, end):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{p.p.pid}/{name}", "rb") as f:
                content = f.read()
            assert content and token.encode() not in content
    end.stop()
    relay.stop()
    secret = token.split("_")[2]
    for p in (relay, end, refused):
        assert p.count() and secret not in p.text()


@pytest.mark.skipif(not IS_ROOT, reason="needs the right to raise the limit of core dumps")
def test_T16_an_abort_leaves_no_core_dump(world, relay):
    where = world.tmp / "here"
    where.mkdir()
    p = world.program(["/bin/sh", "-c", f"cd {where}; ulimit -c unlimited; exec {TUNN} server --listen 127.0.0.1:0 "
                       f"--state {world.tmp}/other"])
    p.wait_for("--pin")
    with open(f"/proc/{p.p.pid}/limits") as f:
        assert re.search(r"^Max core file size +0 +0 ", f.read(), re.M)
    p.p.send_signal(signal.SIGABRT)
    assert p.exit_code() == -signal.SIGABRT
    assert not list(where.iterdir())


# -- the user (root at start)

@pytest.fixture
def user():
    """Somebody whom every Debian has."""
    if not IS_ROOT:
        pytest.skip("only root can become somebody else")
    return "daemon"


@pytest.fixture
def place(world):
    """World's directory as others may reach it: pytest makes it for root alone."""
    path = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip()
    os.chmod(path, 0o755)
    world.tmp = path
    yield path
    world.stop()
    shutil.rmtree(path)


CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
NET_ADMIN = 1 << 12


def powers(program):
    return {int(status(program)[c], 16) for c in CAPABILITIES}


def owner(path):
    s = os.stat(path)
    return s.st_uid, s.st_gid


def test_root_becomes_the_user_and_the_state_is_its_own(world, place, user):
    relay = world.relay(listen="127.0.0.1:443", args=("--user", user))
    uid, gid = (int(subprocess.run(["id", w, user], capture_output=True, text=True).stdout) for w in ("-u", "-g"))
    s = status(relay)
    assert s["Uid"].split() == [str(uid)] * 4 and s["Gid"].split() == [str(gid)] * 4
    assert s["Groups"].split() in ([], [str(gid)])
    assert powers(relay) == {0} and int(s["CapBnd"], 16) == 0
    assert {owner(f"{relay.state}/{name}") for name in os.listdir(relay.state)} | {owner(relay.state)} == {(uid, gid)}
    end = world.end(relay, free_port(), "a", "b", "--listen", "--user", user)
    end.wait_for("connected as a")  # the token file is another's: read before the change
    assert status(end)["Uid"].split() == [str(uid)] * 4
    assert powers(end) == {0, NET_ADMIN}
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded certificate", after=at)
    token = world.new_account(relay, "other")  # root's command on the user's state
    world.end(relay, free_port(), "c", "d", "--listen", token=token).wait_for("connected as c")


def test_state_that_root_made_is_handed_over_and_that_of_others_is_not(world, place, user):
    relay = world.relay()
    pin = relay.pin
    relay.stop()
    assert owner(f"{relay.state}/accounts.db") == (0, 0)
    os.link("/etc/hostname", f"{relay.state}/linked")
    os.symlink("/etc/hostname", f"{relay.state}/symlinked")
    again = world.relay(args=("--user", user))
    assert again.pin == pin
    assert owner("/etc/hostname") == (0, 0)
    assert owner(f"{relay.state}/accounts.db")[0] != 0
    again.stop()
    os.chown(again.state, 2, 2)
    foreign = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", again.state, "--user", user])
    assert foreign.exit_code() == 1
    assert again.state in foreign.text() and "Permission denied" in foreign.text()


def test_key_that_only_root_may_read_works_until_a_reload_which_the_start_says(world, place, user):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    f"{place}/key.pem", "-out", f"{place}/cert.pem", "-days", "9", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    os.chmod(f"{place}/key.pem", 0o600)
    relay = world.relay(args=("--cert", f"{place}/cert.pem", "--key", f"{place}/key.pem", "--user", user))
    relay.wait_for(f"may not read {place}/key.pem")
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reload refused")
    world.end(relay, free_port(), "a", "b", "--listen").wait_for("connected as a")
    os.chown(f"{place}/key.pem", *owner(relay.state))
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded certificate", after=at)


def test_a_user_nobody_knows_is_refused(world):
    for words in (["server", "--state", f"{world.tmp}/s"], ["relay", "1", "--peer", "b", "--relay", "localhost"]):
        p = world.program([TUNN, *words, "--user", "no-such-user"])
        assert p.exit_code() == 2
        assert "no-such-user" in p.text()


@pytest.mark.skipif(not IS_ROOT, reason="only root is warned")
def test_root_without_a_user_is_warned_and_has_no_rights(world):
    env = {k: v for k, v in os.environ.items() if k != "TUNN_USER"}
    if subprocess.run(["id", "tunn"], capture_output=True).returncode == 0:
        pytest.skip("this machine has the user tunn")
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s"], env=env)
    p.wait_for("running as root")
    p.wait_for("--pin")
    assert powers(p) == {0}
