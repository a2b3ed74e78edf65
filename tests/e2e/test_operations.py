"""docs/OPERATIONS.md: its commands are run as they stand there, on a relay of this machine's instead of the operator's."""
import json
import os
import pwd
import re
import shutil
import socket
import sqlite3
import ssl
import stat
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from harness import BUILD, ROOT, SANITIZED, TUNN, ask, endpoint, free_port
from scripted import DATA, Peer
from test_faults import handed_over
from hosting import Counter

with open(f"{ROOT}/docs/OPERATIONS.md", encoding="utf-8") as f:
    DOC = f.read()
ME = pwd.getpwuid(os.getuid()).pw_name
needs_sqlite = pytest.mark.skipif(not shutil.which("sqlite3"), reason="needs the sqlite3 program")


def block(has, language="sh"):
    """The one fenced block of a language that has these words."""
    found = [b for b in re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.M | re.S) if has in b]
    assert len(found) == 1, f"{len(found)} blocks have {has}"
    return found[0]


SYSTEMCTL = """#!/bin/sh
case "$*" in
"reload tunn-server") kill -HUP "$(cat PLACE/pid)" ;;
"restart tunn-server") kill -TERM "$(cat PLACE/pid)" ;;
daemon-reload) ;;
*) exit 1 ;;
esac
"""
JOURNALCTL = """#!/bin/sh
[ "$1 $2 $3" = "-u tunn-server -g" ] && grep -E -- "$4" PLACE/log
"""


class Machine:
    """Where the document's paths, programs and units are those of a relay under test."""

    def __init__(self, world):
        self.world, self.place, self.state = world, str(world.tmp), f"{world.tmp}/state"
        os.makedirs(f"{self.place}/bin")
        os.makedirs(f"{self.place}/etc")
        for name, text in {"sudo": '#!/bin/sh\nexec "$@"\n', "tunn": f'#!/bin/sh\nexec {TUNN} "$@"\n',
                           "systemctl": SYSTEMCTL, "journalctl": JOURNALCTL, "chown": '#!/bin/sh\n'}.items():
            self.write(f"bin/{name}", text.replace("PLACE", self.place), 0o755)

    def write(self, name, text, mode=0o600):
        path = f"{self.place}/{name}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def here(self, text, **more):
        for there, here in {"/var/lib/tunn": self.state, "/etc/tunn": f"{self.place}/etc", "-o tunn": f"-o {ME}",
                            "relay.example.org": "localhost", **more}.items():
            text = text.replace(there, here)
        return text

    def relay(self, config="", *args):
        path = self.write("etc/server.yaml", self.here(config))
        env = {k: v for k, v in os.environ.items() if k != "TUNN_ADMIN" or "admin:" not in config}
        r = self.world.relay(args=["--config", path, *args], env=env)
        self.write("pid", str(r.p.pid))
        return r

    def run(self, text, *words, code=0, **env):
        script = self.write("script", text)
        r = subprocess.run(["/bin/sh", "-eu", script, *words], capture_output=True, text=True, timeout=60, check=False,
                           env={**os.environ, "TUNN_STATE": self.state, "PATH": f"{self.place}/bin:{os.environ['PATH']}", **env})
        assert r.returncode == code, r.stdout + r.stderr
        return r.stdout

    def account(self, name, state=None):
        out = subprocess.run([TUNN, "account", "show", name, "--json", "--state", state or self.state], check=True,
                             capture_output=True, text=True).stdout
        return json.loads(out)["account"]


@pytest.fixture
def machine(world):
    return Machine(world)


def certificate(where, days="90"):
    """As an ACME client leaves it."""
    os.makedirs(where)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    f"{where}/privkey.pem", "-out", f"{where}/fullchain.pem", "-days", days, "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return where


# -- a relay of your own

@pytest.mark.skipif(os.path.basename(BUILD) != "release", reason="installs what `make` builds")
def test_what_is_installed_is_where_the_document_says(world):
    subprocess.run(["make", "-s", "-C", ROOT, "install", f"DESTDIR={world.tmp}"], check=True, capture_output=True)
    for path in re.findall(r"^\| `(/[^`]+)`", DOC, re.M):
        assert os.path.exists(f"{world.tmp}{path}") or path == "/var/lib/tunn", path
    with open(f"{world.tmp}/usr/local/lib/systemd/system/tunn-server.service", encoding="utf-8") as unit:
        text = unit.read()
    assert "User=tunn\n" in text and "StateDirectory=tunn\n" in text and "/usr/local/bin/tunn" in text
    before = "name: [mine.example.org]\n"
    with open(f"{world.tmp}/etc/tunn/server.yaml", "w", encoding="utf-8") as config:
        config.write(before)
    subprocess.run(["make", "-s", "-C", ROOT, "install", f"DESTDIR={world.tmp}"], check=True, capture_output=True)
    with open(f"{world.tmp}/etc/tunn/server.yaml", encoding="utf-8") as config:
        assert config.read() == before


def test_the_first_start_is_five_short_lines_and_the_state_is_private(machine, world):
    first = "name: [relay.example.org]\n"
    assert f"```yaml\n{first}```" in DOC
    relay = world.relay(args=["--config", machine.write("etc/server.yaml", first), "--admin", "127.0.0.1:0"])
    assert relay.count() == 5 + SANITIZED  # which says that it has no filter and "https://relay.example.org" in relay.text()
    assert stat.S_IMODE(os.stat(relay.state).st_mode) == 0o700
    for name in os.listdir(relay.state):
        assert stat.S_IMODE(os.stat(f"{relay.state}/{name}").st_mode) == (0o644 if name == "tls-cert.pem" else 0o600), name


def test_tokens_for_each_end(machine):
    machine.relay()
    out = machine.run(block("tunn token new main --id home-wg"))
    token = out.split()[0]
    assert token.startswith("tunn_") and "home-wg" in out
    machine.run("sudo tunn token revoke " + token.split("_")[1])
    assert "revoked" in machine.run("tunn token list main")


def test_a_login_by_the_operators_word(machine, world):
    relay = machine.relay()
    end = world.program([TUNN, "login", "--relay", relay.url, "--pin", relay.pin, "--id", "laptop"],
                        env={**os.environ, "XDG_CONFIG_HOME": f"{world.tmp}/config"})
    code = end.wait_for(r"user_code=(\S+)").group(1)
    out = machine.run(block("account approve CODE").replace("CODE", code))
    assert code in out and "laptop" in out
    assert end.exit_code() == 0
    assert stat.S_IMODE(os.stat(f"{world.tmp}/config/tunn/tokens/127.0.0.1:{relay.port}").st_mode) == 0o600


def test_a_renewed_certificate_is_served_and_nobody_notices(machine, world):
    old, new = certificate(f"{world.tmp}/old"), certificate(f"{world.tmp}/new")
    hook = machine.here(block("RENEWED_LINEAGE"))
    os.environ.pop("RENEWED_LINEAGE", None)
    machine.write("pid", str(world.program(["/bin/sleep", "100"]).p.pid))  # the first time: whoever gets the signal
    machine.run(hook, RENEWED_LINEAGE=old)
    relay = machine.relay("cert: /etc/tunn/cert.pem\nkey: /etc/tunn/key.pem\nname: [relay.example.org]\n")
    pair = world.pair(relay)
    ask(world.socket(), pair.address, b"before")

    def served():
        return ssl.get_server_certificate(("127.0.0.1", relay.port)).strip()

    with open(f"{new}/fullchain.pem", encoding="ascii") as file:
        fresh = file.read().strip()
    assert served() != fresh
    machine.run(hook, RENEWED_LINEAGE=new)
    relay.wait_for("reloaded certificate")
    assert served() == fresh
    ask(world.socket(), pair.address, b"after")
    assert "reconnecting" not in pair.laptop.text() + pair.home.text()


def test_an_upgrade_loses_neither_the_port_nor_an_end_nor_a_byte_of_usage(machine, world):
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    world.cleanups.append(listening.close)
    old = handed_over(world, listening)
    machine.write("pid", str(old.p.pid))
    pair, s = world.pair(old), world.socket()
    ask(s, pair.address, bytes(1000))
    before = machine.account("main")["usage"]
    machine.run(block("systemctl restart"))
    assert old.exit_code() == 0
    new = handed_over(world, listening)
    for end in (pair.laptop, pair.home):
        end.wait_for("connected again")
    assert machine.account("main")["usage"] == before and before["sent_bytes"] >= 2000
    ask(s, pair.address, b"after")
    assert new.pin == old.pin


# -- serving others

def test_accounts_day_by_day_with_the_tiers_of_the_example(machine, world):
    machine.run(machine.here(block("RENEWED_LINEAGE")).replace("systemctl", ":"), RENEWED_LINEAGE=certificate(f"{world.tmp}/c"))
    machine.relay(block("default-tier: free", "yaml"))
    out = machine.run(block("tunn account add acme --tier pro"))
    assert "2TB" in out and "tunn_" in out
    acme = machine.account("acme")
    assert acme["tier"] == "team" and acme["own_limits"] == {} and acme["suspended"] is False
    assert acme["limits"] == {"relay": True, "tunnels": 200, "rate_bits_per_s": 2 * 10**9, "burst_ms": 10_000,
                              "volume_bytes": 5 * 10**12}
    machine.run("tunn account add somebody")
    free = machine.account("somebody")
    assert free["tier"] == "free" and free["limits"]["relay"] is False and free["limits"]["volume_bytes"] == 10**9
    assert machine.account("main")["limits"]["volume_bytes"] is None


def test_the_log_tells_who_did_what(machine):
    machine.relay()
    machine.run("tunn account add acme; tunn account suspend acme")
    lines = machine.run(block("tunn account log")).splitlines()
    assert [line.split(" UTC  ")[1].split(maxsplit=2) for line in lines[1:3]] == [
        [f"uid={os.getuid()}", f"login={ME}", f"account {what}"] for what in ("suspend acme", "add acme tier=unlimited")]
    assert [line["what"] for line in json.loads(lines[-1])["log"]][:2] == ["account suspend acme", "account add acme tier=unlimited"]
    assert lines[3].split()[3:6] == ["server", "first", "start"]


# -- seeing

def test_the_admin_listener_from_the_desk(machine, world):
    relay = machine.relay("", "--admin", "127.0.0.1:0")
    port = relay.wait_for(r"admin on http://127\.0\.0\.1:(\d+)/").group(1)
    world.end(relay, free_port(), "office", "home", "--listen").wait_for("connected as office")
    out = machine.run(block("/readyz").replace("9180", port))
    assert out.startswith("ready\n") and json.loads(out.split("\n", 1)[1])["tunnels"][0]["id"] == "office"


def test_prometheus_with_the_documents_configuration(machine, world):
    machine.run(machine.here(block("openssl rand -hex 32")))
    assert stat.S_IMODE(os.stat(f"{machine.place}/etc/admin-token").st_mode) == 0o600
    config = machine.here(block('admin: ":9180"', "yaml"), **{":9180": "0.0.0.0:0"})
    relay = machine.relay(config + "name: [localhost]\n")
    port = relay.wait_for(r"admin on https://\S*:(\d+)/").group(1)
    scrape = machine.here(block("scrape_configs", "yaml"), **{"9180": port, "/etc/prometheus/tunn-token": f"{machine.place}/etc/admin-token"})
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "config", machine.write("prometheus.yml", scrape)], check=True, capture_output=True)
    found = dict(re.findall(r"\b(scheme|credentials_file|targets): \[?\"?([^\]\"}\n]+)", scrape))
    trusting = ssl.create_default_context(cafile=f"{relay.state}/tls-cert.pem")

    def get(fields):
        request = urllib.request.Request(f"{found['scheme']}://{found['targets']}/metrics", headers=fields)
        with urllib.request.urlopen(request, timeout=20, context=trusting) as answer:
            return answer.read().decode()

    with open(found["credentials_file"], encoding="ascii") as file:
        metrics = get({"Authorization": f"Bearer {file.read().strip()}"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get({})
    there = set(re.findall(r"^# TYPE (\w+)", metrics, re.M))
    named = set(re.findall(r"`(tunn_\w+)", DOC))
    assert len(named) > 15 and named <= there, named - there
    reasons = set(re.findall(r'reason="(\w+)"', metrics))
    told = set(re.findall(r"reason=(\w+)", DOC))
    table = DOC.split("| metric |")[1].split("\n\n")[0]
    for line in table.splitlines():
        if "_total{reason}" in line:
            told |= {w for w in re.findall(r"`(\w+)`", line) if not w.startswith("tunn_")}
    assert "queue_full" in told and told <= reasons, told - reasons


def test_the_log_is_as_the_table_shows_it(machine, world):
    relay = machine.relay()
    machine.run("tunn account add acme")
    token = world.new_token(relay, "acme")
    ends = [world.end(relay, free_port(), me, "home", "--listen", token=token) for me in ("office", "office-2")]
    for end in ends:
        end.wait_for("connected as")
        end.stop()
    with open(token, encoding="ascii") as file:
        machine.run("tunn token revoke " + file.read().split("_")[1])
    world.end(relay, free_port(), "x", "y", "--listen", token=token).exit_code()
    relay.wait_for("end left id=office-2 ")
    stranger = Peer(relay.port)
    stranger.frame(DATA, 0, 1, b"of a stream that nobody opened")
    relay.wait_for("connection closed")
    stranger.close()
    table = DOC.split("| line | fields |")[1].split("\n\n")[0]
    for line, fields in re.findall(r"^\| `([^`]+)` \| ([^|]+) \|$", table, re.M):
        m = relay.wait_for(rf'^ts=\d{{4}}-\d\d-\d\dT[\d:.]+Z level=\w+ msg="{line}(.*)"$')
        for field in re.findall(r"\b([a-z_]+)(?:,|$| \()", re.sub(r"\([^)]*\)", "", fields).replace(", and words", "").split(";")[0]):
            assert f"{field}=" in m.group(1) or line == "admin:", (line, field)
    machine.write("log", relay.text())
    lines = machine.run(block("journalctl -u tunn-server -g")).splitlines()
    assert [re.search(r'msg="(end \w+) id=office account=acme', line).group(1) for line in lines] == ["end joined", "end left"]


# -- backup

class Load:
    """Datagrams without an end."""

    def __init__(self, world, address):
        self.socket, self.address, self.over = world.socket(), address, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.wait(0.001):
            self.socket.sendto(bytes(1000), self.address)

    def stop(self):
        self.over.set()
        self.thread.join()


RECORD = 52  # bytes, one of each account a second


def journals(state):
    return sum(os.path.getsize(f"{state}/usage/{n}") for n in os.listdir(f"{state}/usage")) if os.path.isdir(f"{state}/usage") else 0


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@needs_sqlite
def test_a_backup_of_a_busy_relay_has_its_tokens_and_its_usage_to_the_second(machine, world):
    relay = machine.relay()
    machine.run("tunn account add acme; tunn account add bolt")
    tokens = {name: world.new_token(relay, name) for name in ("acme", "bolt")}
    far = Counter(world)
    home = world.end(relay, far.port, "b", "acme/a", "--forward", token=tokens["bolt"])
    laptop = world.end(relay, free_port(), "a", "bolt/b", "--listen", token=tokens["acme"])
    home.wait_for("is up")
    load = Load(world, endpoint(laptop))

    def used(state):
        return machine.account("acme", state)["usage"]["sent_bytes"], machine.account("bolt", state)["usage"]["received_bytes"]

    try:
        for n, ticks in enumerate((4, 13)):  # before the second fold, and beyond it
            wait_until(lambda: journals(machine.state) >= ticks * len(tokens) * RECORD)
            before, size = used(machine.state), journals(machine.state)
            wait_until(lambda: journals(machine.state) >= size + 2 * len(tokens) * RECORD)  # a tick that began after that
            machine.run(block("tunn-backup"), machine.state, f"{world.tmp}/backup-{n}")
            after, restored = used(machine.state), f"{world.tmp}/restored-{n}"
            machine.run(block("tunn-restore"), f"{world.tmp}/backup-{n}", restored)
            again = world.relay(name=f"restored-{n}")
            assert again.pin == relay.pin and "first start" not in again.text()
            for low, counted, high in zip(before, used(restored), after):
                assert 0 < low <= counted <= high
            for name, token in tokens.items():
                world.end(again, free_port(), "e", "f", "--listen", token=token).wait_for(f"connected as e.*{name}|connected as e")
    finally:
        load.stop()
    assert laptop.p.poll() is None and "reconnecting" not in laptop.text()


@needs_sqlite
def test_a_backup_of_a_stopped_relay_and_of_one_that_has_no_usage_yet(machine, world):
    relay = machine.relay()
    machine.run(block("tunn-backup"), machine.state, f"{world.tmp}/fresh")
    relay.stop()
    machine.run(block("tunn-backup"), machine.state, f"{world.tmp}/stopped")
    for name in ("fresh", "stopped"):
        assert sorted(os.listdir(f"{world.tmp}/{name}/keys")) == ["derp.key", "pepper", "tls-cert.pem", "tls-key.pem"]
        assert os.listdir(f"{world.tmp}/{name}/data") == ["accounts.db"]
    machine.run(block("tunn-backup"), machine.state, f"{world.tmp}/fresh", code=1)  # is there


@needs_sqlite
def test_a_backup_begins_anew_while_journals_come_and_go_and_fails_when_it_must(machine, world):
    machine.relay().stop()
    os.makedirs(f"{machine.state}/usage")
    copies = f"{machine.place}/copies"
    real = shutil.which("cp")
    machine.write("bin/cp", f"""#!/bin/sh
echo >> {copies}
[ "$(wc -l < {copies})" -gt 6 ] || touch {machine.state}/usage/$(wc -l < {copies}).journal
exec {real} "$@"
""", 0o755)
    machine.run(block("tunn-backup"), machine.state, f"{world.tmp}/backup")  # four keys, then usage: twice anew
    assert sorted(os.listdir(f"{world.tmp}/backup/data/usage")) == sorted(os.listdir(f"{machine.state}/usage"))
    machine.write("bin/sqlite3", "#!/bin/sh\nexit 1\n", 0o755)
    machine.run(block("tunn-backup"), machine.state, f"{world.tmp}/failed", code=1)


def set_schema(state, n):
    with sqlite3.connect(f"{state}/accounts.db") as db:
        before = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {n}")
    return before


@needs_sqlite
def test_an_older_program_refuses_a_newer_schema_and_the_backup_brings_it_back(machine, world):
    machine.relay().stop()
    machine.run(block("tunn-backup"), machine.state, f"{world.tmp}/before")
    set_schema(machine.state, 99)
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", machine.state])
    assert p.exit_code() == 1 and "has schema 99" in p.text()
    shutil.rmtree(machine.state)
    machine.run(block("tunn-restore"), f"{world.tmp}/before", machine.state)
    relay = world.relay()
    assert "first start" not in relay.text()


@needs_sqlite
def test_another_pepper_costs_the_tokens_and_nothing_else(machine, world):
    relay = machine.relay()
    machine.run("tunn account add acme --tier pro")
    old = world.new_token(relay, "acme")
    relay.stop()
    for lose, words in ((os.remove, "pepper is missing"), (lambda path: machine.write("state/pepper", "x" * 32), "not the one")):
        lose(f"{machine.state}/pepper")
        p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", machine.state])
        assert p.exit_code() == 1 and words in p.text()
    machine.run(machine.here(block("DELETE FROM pepper"), **{"sudo -u tunn": "sudo"}))
    again = machine.relay()
    acme = machine.account("acme")
    assert acme["tier"] == "pro" and acme["valid_tokens"] == 0
    assert world.end(again, free_port(), "a", "b", "--listen", token=old).exit_code() == 3
    world.end(again, free_port(), "a", "b", "--listen", token=world.new_token(again, "acme")).wait_for("connected as a")


# -- what it names

def test_every_option_and_file_that_is_named_exists():
    there = ""
    for command in ("server", "account", "token", "relay", "login"):
        there += subprocess.run([TUNN, command, "--help"], check=True, capture_output=True, text=True).stdout
    ours = [line for line in re.findall(r"tunn (?:server|account|token|relay|login) [^`\n]+", DOC)] + re.findall(r"`(--\w[^`]*)`", DOC)
    options = {o for line in ours for o in re.findall(r"(?<!\S)--[a-z][\w.-]+", line)}
    assert len(options) > 7
    for option in options:
        assert re.search(rf"^  {option}\b", there, re.M), option
    for link in re.findall(r"\]\(([^)#]+)\)", DOC):
        assert os.path.exists(f"{ROOT}/docs/{link}"), link
    titles = {re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in re.findall(r"^#+ (.*)$", DOC, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", DOC)) <= titles


def sources():
    """What the program can say, texts over several lines in one."""
    said = ""
    for place in ("server", "client", "common"):
        for folder, _, files in os.walk(f"{ROOT}/{place}"):
            for name in (n for n in files if n.endswith(".c")):
                with open(f"{folder}/{name}", encoding="utf-8") as file:
                    said += file.read()
    return re.sub(r'"\s*"', "", said)


def test_each_symptom_is_in_the_words_of_the_program():
    said, quoted = sources(), set()
    for symptom in re.findall(r"^\| ([^|]+) \|", DOC.split("## What to do when")[1], re.M):
        quoted |= {piece for q in re.findall(r"`([^`]+)`", symptom) for piece in re.split(r"[…:]", q.split("reason=")[0])}
    quoted = {q.strip() for q in quoted} - {"", "status=217/USER", "No space left on device"}
    assert len(quoted) > 7
    assert not {q for q in quoted if q not in said}
