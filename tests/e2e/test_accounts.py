"""`tunn account` and `tunn token`: by the control socket of a running server, and on the state directory of a stopped one."""
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time

import pytest
from harness import SANITIZED, TUNN, free_port
from hosting import Hosted, trickle

NOBODY = 65534


class Admin:
    """Commands on one state directory."""

    def __init__(self, state, *args, binary=TUNN):
        self.state, self.args, self.binary = state, args, binary

    def run(self, *argv, env=None, user=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TUNN_") and k != "SUDO_USER"}
        return subprocess.run([self.binary, *argv, "--state", self.state, *self.args], capture_output=True, text=True, check=False,
                              timeout=60, env=clean | (env or {}), user=user)

    def do(self, *argv, **kw):
        r = self.run(*argv, **kw)
        assert r.returncode == 0, r.stderr
        return r.stdout

    def json(self, *argv, **kw):
        out = self.do(*argv, "--json", **kw)
        assert out.count("\n") == 1
        answer = json.loads(out)
        assert answer["ok"] is True
        return answer

    def refused(self, code, words, *argv, **kw):
        r = self.run(*argv, **kw)
        assert (r.returncode, r.stdout) == (code, ""), r.stderr
        assert words in r.stderr, r.stderr

    def audit(self):
        with sqlite3.connect(f"{self.state}/accounts.db") as db:
            return db.execute("SELECT who, what FROM audit ORDER BY id").fetchall()


@pytest.fixture(params=["running", "stopped"])
def admin(request, world):
    """The same commands beside a running server, and where none runs."""
    state = f"{world.tmp}/state"
    if request.param == "running":
        world.relay()
        assert os.path.exists(f"{state}/control.sock")
    a = Admin(state)
    a.is_running = request.param == "running"
    return a


def test_an_account_from_its_first_to_its_last_day(admin):
    account = admin.json("account", "add", "acme", "--tier", "pro")["account"]
    assert account["limits"] == {"relay": True, "tunnels": 10, "rate_bits_per_s": 500_000_000, "burst_ms": 10_000,
                                 "volume_bytes": 50_000_000_000}
    assert (account["own_limits"], account["valid_tokens"], account["suspended"]) == ({}, 0, False)
    account = admin.json("account", "set", "acme", "--rate", "1Gbit", "--tunnels", "unlimited", "--relay=no")["account"]
    assert account["own_limits"] == {"relay": False, "tunnels": None, "rate_bits_per_s": 1_000_000_000}
    assert account["limits"]["volume_bytes"] == 50_000_000_000
    account = admin.json("account", "set", "acme", "--tier", "free", "--relay", "default", "--rate=default")["account"]
    assert (account["tier"], account["own_limits"]) == ("free", {"tunnels": None})
    assert account["limits"]["relay"] is False
    assert admin.json("account", "suspend", "acme")["account"]["suspended"] is True
    assert admin.json("account", "show", "acme")["account"]["suspended"] is True
    assert admin.json("account", "resume", "acme")["account"]["suspended"] is False
    token = admin.json("token", "new", "acme")
    admin.refused(1, "has 1 valid token: revoke it first", "account", "rm", "acme")
    admin.do("token", "revoke", token["token_id"])
    assert admin.json("account", "rm", "acme")["removed"] == "acme"
    admin.refused(1, 'there is no account "acme"', "account", "show", "acme")
    assert "acme" not in [a["name"] for a in admin.json("account", "list")["accounts"]]


def test_several_tokens_at_a_time_and_one_revoked(admin):
    admin.do("account", "add", "acme")
    said = admin.run("token", "new", "acme", "--id", "home", "--expires", "1d").stderr
    assert re.fullmatch(r"tunn: token of account acme for the id home, valid until \d{4}-\d\d-\d\d \d\d:\d\d UTC, shown only now:\n", said)
    admin.do("token", "revoke", admin.json("token", "list", "acme")["tokens"][0]["token_id"])
    r = admin.run("token", "new", "acme")
    assert r.stderr == "tunn: token of account acme for any id, valid for ever, shown only now:\n"
    first = r.stdout.strip()
    before = int(time.time())
    second = admin.json("token", "new", "acme", "--id", "home", "--expires", "90d")
    after = time.time()
    assert first.startswith("tunn_") and second["token"].split("_")[1] == second["token_id"]
    assert second["id"] == "home"
    listed = admin.json("token", "list", "acme")["tokens"]
    assert {t["token_id"]: (t["id"], t["valid"]) for t in listed if not t["revoked_unix_s"]} == {first.split("_")[1]: (None, True), second["token_id"]: ("home", True)}
    expires = {t["id"]: t["expires_unix_s"] for t in listed if not t["revoked_unix_s"]}
    assert before + 90 * 86400 <= expires["home"] <= after + 90 * 86400 and expires[None] is None
    admin.do("token", "revoke", first.split("_")[1])
    admin.do("token", "revoke", first.split("_")[1])  # once more is no error
    listed = admin.json("token", "list", "acme")["tokens"]
    assert [t["token_id"] for t in listed if t["valid"]] == [second["token_id"]]
    table = admin.do("token", "list", "acme")
    assert table.split("\n")[0].split() == ["TOKEN", "ID", "CREATED", "EXPIRES", "STATE"]
    assert "revoked" in table and "home" in table and "tunn_" not in table
    assert admin.json("account", "show", "acme")["account"]["valid_tokens"] == 1


def test_what_people_see(admin):
    admin.do("account", "add", "acme", "--tier", "pro")
    admin.do("account", "set", "acme", "--volume", "2TB")
    rows = [line.split() for line in admin.do("account", "list").strip().split("\n")]
    assert rows[0] == ["NAME", "TIER", "RELAY", "TUNNELS", "RATE", "VOLUME", "USED", "TOKENS", "STATE"]
    assert ["acme", "pro", "yes", "10", "500Mbit", "2TB*", "0", "B", "0", "active"] in rows
    assert rows[-1] == "* its own limit, not its tier's".split()
    assert "account other added, tier unlimited; make a token with: tunn token new other" in admin.run("account", "add", "other").stderr
    shown = admin.do("account", "show", "acme")
    for words in ("tier       pro\n", "volume     2TB a month (its own)\n", "rate       500Mbit per second\n",
                  "state      active\n", "tunnels    10" + (", 0 now" if "now" in shown else "") + "\n"):
        assert words in shown


def test_an_account_list_of_more_than_a_page(admin):
    admin.do("account", "add", "first")
    with sqlite3.connect(f"{admin.state}/accounts.db") as db:
        db.executemany("INSERT INTO account (name, created) VALUES (?, 1)", [(f"n{i:05}",) for i in range(2500)])
    names = [a["name"] for a in admin.json("account", "list")["accounts"] if a["name"] != "main"]
    assert names == ["first"] + [f"n{i:05}" for i in range(2500)]
    table = admin.do("account", "list").strip().split("\n")
    assert sum(line.startswith("NAME") for line in table) == 1
    assert len(table) - 1 == len(names) + admin.is_running


def test_a_token_list_of_more_than_a_page(admin):
    admin.do("account", "add", "acme")
    with sqlite3.connect(f"{admin.state}/accounts.db") as db:
        db.executemany("INSERT INTO token (kid, account, hash, created) SELECT ?, id, x'00', ? FROM account WHERE name = 'acme'",
                       [(f"{7919 * i % 100000:08}", i // 3) for i in range(2500)])
    ids = [kid for _, kid in sorted((i // 3, f"{7919 * i % 100000:08}") for i in range(2500))]
    answer = admin.json("token", "list", "acme")
    assert [t["token_id"] for t in answer["tokens"]] == ids and answer["account"] == "acme"
    table = admin.do("token", "list", "acme").splitlines()
    assert [line.split()[0] for line in table] == ["TOKEN", *ids]


def test_the_log_tells_who_did_what_newest_first(admin):
    for i in range(3):
        admin.do("account", "add", f"n{i}", env={"SUDO_USER": "alice"})
    lines = admin.json("account", "log", "--last", "2")["log"]
    assert [line["what"] for line in lines] == ["account add n2 tier=unlimited", "account add n1 tier=unlimited"]
    assert {line["who"] for line in lines} == {f"uid={os.getuid()} login=alice"}
    table = admin.do("account", "log", "--last", "1").splitlines()
    assert table[0].split() == ["TIME", "WHO", "WHAT"] and table[1].endswith("account add n2 tier=unlimited") and len(table) == 2
    with sqlite3.connect(f"{admin.state}/accounts.db") as db:
        db.executemany("INSERT INTO audit (at, who, what) VALUES (1, 'uid=1', ?)", [(f"line {i}",) for i in range(2500)])
    assert len(admin.json("account", "log")["log"]) == 100
    assert [line["what"] for line in admin.json("account", "log", "--last", "2400")["log"]] == [f"line {2499 - i}" for i in range(2400)]
    admin.refused(2, "--last means nothing with list: tunn account list", "account", "list", "--last", "1")
    admin.refused(2, "log needs no word: tunn account log [--last N]", "account", "log", "acme")


def test_what_is_older_than_audit_days_goes_as_new_lines_come(world):
    admin = Admin(world.relay(args=("--audit-days", "30")).state)
    now = int(time.time())
    with sqlite3.connect(f"{admin.state}/accounts.db") as db:
        db.executemany("INSERT INTO audit (at, who, what) VALUES (?, 'uid=1', ?)", [(now - 31 * 86400, "old"), (now - 29 * 86400, "young")])
    admin.do("account", "add", "acme")
    assert [line["what"] for line in admin.json("account", "log")["log"]][:-1] == ["account add acme tier=unlimited", "young"]


def reload(relay):
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded certificate", after=at)


def test_the_account_of_derp_clients_is_removed_only_when_none_are_let_in(world):
    config = f"{world.tmp}/server.yaml"
    with open(config, "w") as f:
        f.write("derp: {allow: any, account: guests}\n")
    relay = world.relay(args=("--config", config))
    admin = Admin(relay.state)
    admin.refused(1, 'the DERP clients of this relay count for the account "guests": name another one (derp.account)', "account", "rm", "guests", "--force")
    with open(config, "w") as f:
        f.write("derp: {allow: any, account: others}\n")
    reload(relay)
    admin.do("account", "rm", "guests")
    admin.refused(1, 'account "others"', "account", "rm", "others")
    with open(config, "w") as f:
        f.write("")
    reload(relay)
    admin.do("account", "rm", "others")


def test_each_action_is_in_the_audit_without_secrets(admin):
    admin.do("account", "add", "acme", env={"SUDO_USER": "alice"})
    token = admin.do("token", "new", "acme", "--id", "home").strip()
    admin.do("account", "list")
    admin.refused(1, "valid token", "account", "rm", "acme")
    admin.do("account", "rm", "acme", "--force", env={"SUDO_USER": "x\ny"})
    audit = [a for a in admin.audit() if "acme" in a[1]]
    assert audit[0] == (f"uid={os.getuid()} login=alice", "account add acme tier=unlimited")
    assert audit[1][1] == f"token new acme token={token.split('_')[1]} id=home"
    assert audit[2] == (f"uid={os.getuid()}", "account rm acme force")
    assert len(audit) == 3
    secret = token.split("_")[2].encode()
    for name in os.listdir(admin.state):
        if stat.S_ISREG(os.stat(f"{admin.state}/{name}").st_mode):
            with open(f"{admin.state}/{name}", "rb") as f:
                assert secret not in f.read()


BAD = {
    "C22_rate_of_nothing": (["set", "acme", "--rate", "0"], "--rate must be 1Mbit to"),
    "C22_tunnels_of_nothing": (["set", "acme", "--tunnels", "0"], "or unlimited, or default, not"),
    "C22_volume_of_nothing": (["set", "acme", "--volume", "0"], "--volume must be"),
    **{f"C15_volume_{v}": (["set", "acme", "--volume=" + v], "--volume must be")
       for v in ["10XB", "-1", "1e999", "18446744073709551616", "18446744073709551615kB", "1000001TB"]},
    **{f"C15_rate_{v}": (["set", "acme", "--rate=" + v], "--rate must be")
       for v in ["500", "500MB", "999kbit", "1001Gbit", "-1Mbit", "147573952589676413Gbit", "500mbit"]},
    **{f"C15_tunnels_{v}": (["set", "acme", "--tunnels=" + v], "--tunnels must be") for v in ["-1", "1000001", "0x10", "4294967297"]},
    **{f"C16_burst_{v.replace(' ', '_')}": (["set", "acme", "--burst=" + v], "--burst must be a time")
       for v in ["5", "5 s", "-1s", "1000000h", "99ms", "unlimited"]},
    "relay_of_perhaps": (["set", "acme", "--relay", "perhaps"], "--relay must be yes or no"),
    "tier_that_is_none": (["set", "acme", "--tier", "gold"], 'there is no tier "gold" among free, pro, unlimited'),
    "tier_of_add_that_is_none": (["add", "new", "--tier", "gold"], "there is no tier"),
    "tier_outside_the_grammar": (["set", "acme", "--tier", "A"], "--tier must be 1 to 63"),
    "nothing_to_set": (["set", "acme"], "nothing is set"),
    "no_name": (["show"], "show needs one NAME"),
    "two_names": (["show", "acme", "bob"], "show needs one NAME"),
    "list_of_a_name": (["list", "acme"], "list needs no word"),
    "option_of_another_verb": (["list", "--tier", "pro"], "--tier means nothing with list"),
    "limit_of_another_verb": (["add", "new", "--rate", "8Mbit"], "--rate means nothing with add"),
    "force_of_another_verb": (["suspend", "acme", "--force"], "--force means nothing with suspend"),
    "C30_name": (["show", "Acme"], "must be 1 to 63 of a-z"),
    "A12_a_token_as_name": (["show", "tunn_sesame"], "a token on the command line"),
}


def test_bad_words_exit_with_2_and_change_nothing(admin):
    admin.do("account", "add", "acme")
    before = admin.json("account", "list")
    for argv, words in BAD.values():
        admin.refused(2, words, "account", *argv)
    for argv, words in ([["revoke", "short"], "a token is named by its id"], [["revoke", "tunn_sesame"], "a token on the command line"],
                        [["list", "acme", "--id", "x"], "--id means nothing with list"], [["revoke"], "revoke needs one TOKENID"]):
        admin.refused(2, words, "token", *argv)
    admin.refused(1, "there is no token", "token", "revoke", "abcdefgh")
    assert admin.json("account", "list") == before


def test_what_is_done_is_no_variable_of_the_environment(admin):
    env = {"TUNN_RELAY": "https://relay.example", "TUNN_ID": "laptop", "TUNN_TIER": "gold", "TUNN_FORCE": "yes", "TUNN_JSON": "yes"}
    admin.do("account", "add", "acme", env=env)
    assert admin.do("token", "new", "acme", env=env).startswith("tunn_")
    assert json.loads(admin.do("token", "list", "acme", "--json", env=env))["tokens"][0]["id"] is None


def test_tiers_of_the_config_file(world):
    with open(f"{world.tmp}/server.yaml", "w") as f:
        f.write("tiers:\n  gold: {relay: yes, tunnels: 7, rate: 10Mbit, burst: 2s, volume: 1TiB}\n"
                "  tin: {relay: no, tunnels: 1, rate: unlimited, volume: unlimited}\ndefault-tier: tin\n")
    args = ("--config", f"{world.tmp}/server.yaml")
    stopped = Admin(f"{world.tmp}/state", *args)
    assert stopped.json("account", "add", "a")["account"]["tier"] == "tin"
    assert stopped.json("account", "add", "b", "--tier", "gold")["account"]["limits"]["tunnels"] == 7
    relay = world.relay(args=args)
    running = Admin(relay.state)  # without the file: the server knows it
    assert running.json("account", "add", "c")["account"]["tier"] == "tin"
    assert running.json("account", "set", "c", "--tier", "gold")["account"]["limits"] == {
        "relay": True, "tunnels": 7, "rate_bits_per_s": 10_000_000, "burst_ms": 2000, "volume_bytes": 1 << 40}
    running.refused(2, 'there is no tier "pro" among gold, tin, unlimited', "account", "set", "c", "--tier", "pro")


def test_a_tier_that_the_file_does_not_know_any_more_is_said(world):
    admin = Admin(f"{world.tmp}/state")
    admin.do("account", "add", "acme", "--tier", "pro")
    with open(f"{world.tmp}/server.yaml", "w") as f:
        f.write("tiers: {tin: {relay: no, tunnels: 1, rate: unlimited, volume: unlimited}}\ndefault-tier: tin\n")
    relay = world.relay(args=("--config", f"{world.tmp}/server.yaml"))
    relay.wait_for("1 account has the tier pro, which the config file does not know: the terms of tin hold for them")
    account = admin.json("account", "show", "acme")["account"]
    assert (account["tier"], account["tier_known"], account["limits"]["tunnels"]) == ("pro", False, 1)
    assert "which the config file does not know: what tin says holds" in admin.do("account", "show", "acme")
    listed = admin.do("account", "list")
    assert "pro?" in listed and listed.endswith("\n? a tier that the config file does not know: the default tier's limits hold\n")


@pytest.mark.parametrize("how", [["--limits", "off"], "limits: off\n"])
def test_limits_off_is_for_everybody(world, how):
    if isinstance(how, str):
        with open(f"{world.tmp}/server.yaml", "w") as f:
            f.write(how)
        how = ["--config", f"{world.tmp}/server.yaml"]
    admin = Admin(world.relay(args=how).state)
    answer = admin.json("account", "add", "acme", "--tier", "free")
    assert answer["limits_off"] is True
    assert answer["account"]["limits"] == {"relay": True, "tunnels": None, "rate_bits_per_s": None, "burst_ms": None, "volume_bytes": None}
    shown = admin.do("account", "set", "acme", "--rate", "8Mbit")
    assert "limits     off for all accounts" in shown
    assert "its own" not in shown + admin.do("account", "list"), "it does not hold"


def test_limits_off_as_option_beside_the_map_of_connections(world):
    with open(f"{world.tmp}/server.yaml", "w") as f:
        f.write("limits:\n  handshake: 5s\n")
    admin = Admin(world.relay(args=("--config", f"{world.tmp}/server.yaml", "--limits", "off")).state)
    assert admin.json("account", "add", "acme")["limits_off"] is True


BAD_TIERS = {
    "unknown_key": ("tiers:\n  a: {speed: 1}\n", "server.yaml:2:14: tiers.a.speed is no key of a tier"),
    "C13_key_twice": ("tiers:\n  a:\n    rate: 1Mbit\n    rate: 1Mbit\n", 'server.yaml:4:5: key "tiers.a.rate" is there already'),
    "C22_rate_of_nothing": ("tiers:\n  a:\n    rate: 0\n", "server.yaml:3:11: tiers.a.rate must be 1Mbit to"),
    "C22_left_out": ("tiers: {a: {relay: yes}}\n", "tiers.a has no tunnels: give it, or say unlimited"),
    "C15_volume": ("tiers:\n  a:\n    volume: 18446744073709551616\n", "server.yaml:3:13: tiers.a.volume must be"),
    "C16_burst": ("tiers:\n  a:\n    burst: 5\n", "server.yaml:3:12: tiers.a.burst must be a time"),
    "default_that_is_none": ("default-tier: gold\n", 'there is no tier "gold"'),
    "limits_of_perhaps": ("limits: perhaps\n", "server.yaml:1:9: limits must be on or off"),
}


@pytest.mark.parametrize("row", BAD_TIERS)
def test_bad_tiers_exit_with_2(row, tmp_path):
    text, words = BAD_TIERS[row]
    with open(f"{tmp_path}/server.yaml", "w") as f:
        f.write(text)
    for argv in (["server"], ["account", "list"], ["token", "list", "x"]):
        r = subprocess.run([TUNN, *argv, "--state", f"{tmp_path}/s", "--config", f"{tmp_path}/server.yaml"], capture_output=True,
                           text=True, check=False, timeout=20)
        assert (r.returncode, r.stdout) == (2, ""), r.stderr
        assert words in r.stderr, r.stderr
    assert not os.path.exists(f"{tmp_path}/s")


# -- the control socket

def control(state):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(f"{state}/control.sock")
    return s


def asked(state, request):
    with control(state) as s:
        with contextlib.suppress(BrokenPipeError):  # answered unread: it is busy
            s.sendall(request)
        data = b""
        while not data.endswith(b"\n"):
            data += s.recv(65536)
    return json.loads(data)


def test_a_running_server_logs_actions_and_no_secret(world):
    relay = world.relay()
    admin = Admin(relay.state)
    admin.do("account", "add", "acme")
    token = admin.do("token", "new", "acme").strip()
    relay.wait_for(rf'admin: account add acme tier=unlimited, by uid={os.getuid()}')
    relay.wait_for(f"admin: token new acme token={token.split('_')[1]}, by")
    assert token.split("_")[2] not in relay.text()


def test_the_socket_is_the_owners_and_goes_with_the_server(world):
    relay = world.relay()
    path = f"{relay.state}/control.sock"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    relay.stop()
    assert not os.path.exists(path)
    Admin(relay.state).do("account", "list")


def test_a_killed_servers_socket_is_in_nobodys_way(world):
    relay = world.relay()
    relay.p.kill()
    relay.exit_code()
    assert os.path.exists(f"{relay.state}/control.sock")
    admin = Admin(relay.state)
    admin.do("account", "add", "acme")  # on the directory
    world.relay()
    assert admin.json("account", "show", "acme")["account"]["tunnels_now"] in (0, None)
    assert "acme" in admin.do("account", "list")


def everybody_reaches(world):
    """pytest's own directory is for nobody else."""
    world.tmp = tempfile.mkdtemp(prefix="tunn-accounts-")
    os.chmod(world.tmp, 0o755)
    world.cleanups.append(lambda: shutil.rmtree(world.tmp))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_is_refused(world):
    everybody_reaches(world)
    relay = world.relay()
    admin = Admin(relay.state, binary=shutil.copy(TUNN, world.tmp))  # ours may lie in a home directory
    admin.refused(1, "another user's", "account", "add", "mallory", user=NOBODY)
    admin.refused(1, "another user's", "token", "new", "main", user=NOBODY)
    os.chmod(relay.state, 0o755)  # even if somebody opened all of it
    os.chmod(f"{relay.state}/control.sock", 0o666)
    admin.refused(1, "only the user that the server runs as and root", "account", "add", "mallory", user=NOBODY)
    relay.wait_for(f"admin: uid={NOBODY} was refused at the control socket")
    assert "mallory" not in admin.do("account", "list")


def test_what_is_no_request_harms_nothing(world):
    relay = world.relay()
    for request in (b"\n", b"x\n", b"[]\n", b"{}\n", b'{"verb": "account eat"}\n', b'{"verb": 5}\n', b"\xff\xfe\n", b"\0\n",
                    b'{"verb": "account show", "name": "a\\u0000"}\n', b"[" * 60000 + b"\n"):
        answer = asked(relay.state, request)
        assert (answer["ok"], answer["code"]) == (False, "invalid"), request
    assert asked(relay.state, b"a" * 65536)["error"] == "the request is longer than 64 KiB"
    control(relay.state).close()
    held = [control(relay.state) for _ in range(16)]
    assert asked(relay.state, b"")["code"] == "busy"
    for s in held:
        s.close()
    while not (answer := asked(relay.state, b'{"verb": "account list"}\n'))["ok"]:
        assert answer["code"] == "busy"  # it has not seen all of them go


def test_a_terminal_obeys_nothing_that_a_server_says(world):
    """Whoever has a state directory answers there as they like, and an operator may be root."""
    bad, shown = "a\x1b[2J\x9bb", "a?[2J??b"
    row = {"code": bad, "address": bad, "host": bad, "id": bad, "name": bad, "token_id": bad, "tier": bad, "month": bad, "age_s": 1}
    answers = {
        ("account", "requests"): {"requests": [row], "waiting": 1}, ("account", "approve", "X"): {"request": row, "account": bad},
        ("account", "list"): {"accounts": [row], "more": False}, ("account", "show", "x"): {"account": row, "default_tier": bad},
        ("token", "list", "x"): {"tokens": [row]}, ("token", "revoke", "X"): {"token_id": bad, "account": bad},
        ("token", "new", "x"): {"token": bad}, ("account", "suspend", "x"): {"ok": False, "error": bad}}
    state = f"{world.tmp}/theirs"
    os.mkdir(state, 0o700)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(f"{state}/control.sock")
        s.listen()
        for argv, answer in answers.items():
            asking = threading.Thread(target=answer_one, args=(s, {"ok": True} | answer))
            asking.start()
            r = Admin(state).run(*argv)
            asking.join()
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", r.stdout + r.stderr), (argv, r)
            assert shown in r.stdout + r.stderr or argv[1] == "new", (argv, r)


def answer_one(listener, answer):
    s, _ = listener.accept()
    with s:
        s.recv(65536)
        s.sendall(json.dumps(answer).encode() + b"\n")


def test_an_answer_that_cannot_be_written_is_a_failure(admin):
    admin.do("account", "add", "acme")
    for argv in (("token", "new", "acme"), ("token", "new", "acme", "--json"), ("account", "list"), ("account", "show", "acme")):
        with open("/dev/full", "w") as full:
            r = subprocess.run([TUNN, *argv, "--state", admin.state], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert r.returncode == 1 and "No space left on device" in r.stderr, r
        if "new" in argv:  # it is valid, and nobody has seen it
            admin.do("token", "revoke", re.search(r"tunn token revoke (\w{8})$", r.stderr, re.M)[1])
    assert not any(t["valid"] for t in admin.json("token", "list", "acme")["tokens"])


def test_who_asks_nothing_is_cut_after_5_s(world):
    relay = world.relay()
    with control(relay.state) as s:
        s.sendall(b'{"verb": ')
        assert s.recv(1) == b""


def test_commands_at_once_are_all_done(admin):
    admin.do("account", "add", "acme")
    failed = []

    def add(i):
        r = admin.run("account", "add", f"n{i}")
        if r.returncode:
            failed.append(r.stderr)

    threads = [threading.Thread(target=add, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    assert {f"n{i}" for i in range(8)} <= {a["name"] for a in admin.json("account", "list")["accounts"]}


def test_a_server_without_accounts_is_told_apart(world):
    relay = world.relay(args=("--open",))
    for command in (("account", "list"), ("token", "new", "main"), ("account", "approve", "AAAA-BBBB")):
        Admin(relay.state).refused(1, "this relay was started with --open: nobody needs a token, and it has no accounts; start it without",
                                   *command)
    relay.stop()
    assert not os.path.exists(f"{relay.state}/control.sock")


def test_a_directory_without_accounts_is_not_taken_for_a_relays(world):
    for state in (f"{world.tmp}/mistyped", "/dev/null"):
        for command in (("account", "list"), ("account", "show", "main"), ("token", "new", "main"), ("account", "requests")):
            Admin(state).refused(1, f"there are no accounts in the state directory {state}: no tunn server was started with it; name", *command)
    assert not os.path.exists(f"{world.tmp}/mistyped"), "and none is made"
    first = Admin(f"{world.tmp}/new").run("account", "add", "acme")
    assert first.returncode == 0 and f"the first account in {world.tmp}/new" in first.stderr
    assert "first" not in Admin(f"{world.tmp}/new").run("account", "add", "other").stderr


def test_who_has_the_directory_and_answers_nothing_is_named(world):
    state = f"{world.tmp}/state"
    Admin(state).do("account", "add", "acme")
    with open(f"{state}/server.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Admin(state).refused(1, f"a tunn server uses the state directory {state}, but does not answer at control.sock: wait", "account", "list")


@pytest.mark.skipif(os.geteuid() != 0 or SANITIZED, reason="becomes another user")
def test_what_root_makes_belongs_to_the_directorys_owner(world):
    everybody_reaches(world)
    state = f"{world.tmp}/state"
    os.mkdir(state, 0o700)
    os.chown(state, NOBODY, NOBODY)
    r = Admin(state).run("account", "add", "acme")
    assert r.returncode == 0, r.stderr
    assert {os.stat(f"{state}/{n}").st_uid for n in os.listdir(state)} == {NOBODY}
    assert Admin(state).audit()[0][0].startswith("uid=0")


# -- tokens in use

def test_A03_a_token_revoked_by_command_lets_nobody_in(world):
    relay = world.relay()
    admin = Admin(relay.state)
    token = world.new_token(relay, "main")
    with open(token) as f:
        admin.do("token", "revoke", f.read().split("_")[1])
    end = world.end(relay, free_port(), "a", "b", "--listen", "--once", token=token)
    assert end.exit_code() == 3


def test_A09_a_token_takes_the_place_of_another(world):
    relay = world.relay()
    admin = Admin(relay.state)
    old, new = world.new_token(relay, "main"), world.new_token(relay, "main")
    world.end(relay, free_port(), "a", "b", "--listen", token=old).wait_for("connected as a")
    world.end(relay, free_port(), "c", "b", "--listen", token=new).wait_for("connected as c")
    with open(old) as f:
        admin.do("token", "revoke", f.read().split("_")[1])
    assert world.end(relay, free_port(), "d", "b", "--listen", "--once", token=old).exit_code() == 3
    world.end(relay, free_port(), "e", "b", "--listen", token=new).wait_for("connected as e")


def test_ends_come_in_while_another_program_writes_to_the_database(world):
    relay = world.relay()
    hosted = Hosted(world, relay)
    hosted.account("acme")
    other = sqlite3.connect(f"{relay.state}/accounts.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    at = relay.count()
    address, far, laptop, home = hosted.way("acme", "acme")
    moved = trickle(world.socket(), address, far, 1_000_000, 1000)
    r = subprocess.run([TUNN, "account", "add", "later", "--state", relay.state], capture_output=True, text=True, check=False)
    assert r.returncode == 1 and f"(pid {os.getpid()}), which changes it: let that end first" in r.stderr
    relay.wait_for(rf"\(pid {os.getpid()}\), which changes it.* usage is in the journal meanwhile", after=at, seconds=40)
    used = hosted.used("acme")
    assert moved.came <= used["received_bytes"] <= used["sent_bytes"] <= moved.sent
    laptop.stop()
    home.stop()
    waiting = world.program([TUNN, "account", "add", "soon", "--state", relay.state])
    relay.wait_for("end left id=b")
    other.execute("COMMIT")
    assert waiting.exit_code() == 0  # it asked again
    relay.wait_for("usage is put into the accounts database again", after=at)
    assert other.execute("SELECT sum(sent), sum(received) FROM usage").fetchone() == (used["sent_bytes"], used["received_bytes"])
    assert hosted.used("acme") == used
    hosted.run("account", "add", "later")
