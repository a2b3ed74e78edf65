"""tunn status: the relay in a terminal, from its admin listener."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from harness import TUNN, ask, endpoint, free_port, free_tcp_port
from test_admin import TOKEN, Crowd, admin_relay, get, token_file, wait_until

ENV = {k: v for k, v in os.environ.items() if k not in ("TUNN_ADMIN", "COLUMNS", "NO_COLOR", "LC_ALL", "LC_CTYPE")} | {"LANG": "C.UTF-8", "TERM": "xterm"}
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def status(relay, *args, env=None, at=None):
    at = ["--admin", at or f"127.0.0.1:{relay.admin}"] if relay or at else []
    return subprocess.run([TUNN, "status", *at, *args], capture_output=True, text=True, env=ENV | (env or {}), timeout=30, check=False)


@pytest.fixture
def seen(world):
    relay = admin_relay(world, "--node", "blue")
    wait_until(lambda: get(relay, "/readyz").status == 200)
    return relay


class Terminal:
    """A program in a terminal of that size; .text is all that it wrote."""

    def __init__(self, argv, columns=100, rows=30, env=None):
        self.fd, inside = pty.openpty()
        self.inside = inside
        self.before = termios.tcgetattr(inside)
        self.size(columns, rows)
        self.p = subprocess.Popen(argv, stdin=inside, stdout=inside, stderr=inside, env=ENV | (env or {}), start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.text = ""

    def size(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.05):
        while select.select([self.fd], [], [], seconds)[0]:
            try:
                self.text += os.read(self.fd, 65536).decode()
            except OSError:
                return

    def wait_for(self, pattern, after=0, seconds=20):
        end = time.monotonic() + seconds
        while not (m := re.search(pattern, self.text[after:])):
            assert time.monotonic() < end, f"nobody wrote /{pattern}/:\n{self.text[after:]}"
            self.read()
        return m

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def end(self, seconds=20):
        self.p.wait(seconds)
        self.read()
        is_as_before = termios.tcgetattr(self.inside) == self.before
        os.close(self.inside)
        os.close(self.fd)
        return self.p.returncode, is_as_before


@pytest.fixture
def terminal(world):
    def start(*args, **kw):
        t = Terminal([TUNN, "status", *args], **kw)
        world.cleanups.append(t.p.kill)
        return t
    return start


# -- once

def test_it_says_what_the_relay_does(world, seen):
    pair, s = world.pair(seen), world.socket()
    ask(s, pair.address, b"x" * 1000)
    out = status(seen)
    assert out.returncode == 0 and out.stderr == "" and "\x1b" not in out.stdout
    lines = out.stdout.split("\n")
    assert re.match(r"blue  ready  up .* version \S+ .* worker", lines[0]) and f"127.0.0.1:{seen.port}" in lines[0]
    assert re.search(r"^Dropped +nothing in the last minute$", out.stdout, re.M)
    head = next(line for line in lines if line.startswith("TUNNEL"))
    assert head.split()[:2] == ["TUNNEL", "ACCOUNT"] and "IN" in head and "DROPS" in head
    rows = {line.split()[0]: line.split() for line in lines[lines.index(head) + 1:] if line}
    assert set(rows) == {"home", "laptop"} and rows["home"][1:4] == ["main", "laptop", "up"] and "kB" in rows["laptop"]


def test_drops_are_told_by_reason(world, seen):
    lonely = world.end(seen, free_port(), "lonely", "nobody", "--listen")
    s, address = world.socket(), endpoint(lonely)

    def told():
        s.sendto(b"x" * 100, address)
        return re.search(r"^Dropped +\d+/s, \d+ in the last minute: no route \d+$", status(seen).stdout, re.M)
    wait_until(told)


def test_no_line_is_wider_than_the_terminal(world, seen):
    world.pair(seen)
    for columns in (40, 60, 80, 100, 132):
        out = status(seen, env={"COLUMNS": str(columns)}).stdout
        table = out[out.index("TUNNEL"):].split("\n")
        assert max(map(len, table)) <= columns and "home" in out, (columns, table)
    assert "ADDRESS" in status(seen, env={"COLUMNS": "200"}).stdout
    ascii_only = status(seen, env={"LANG": "C"}).stdout
    assert ascii_only.isascii() and "peak" in ascii_only


def test_json_is_what_the_relay_answers(world, seen):
    world.pair(seen)
    out = status(seen, "--json")
    assert out.returncode == 0 and out.stdout.count("\n") == 1
    doc = json.loads(out.stdout)
    assert doc["nodes"][0]["name"] == "blue" and {t["id"] for t in doc["tunnels"]} == {"home", "laptop"} and doc["next"] is None
    assert len(doc["series"]["bytes_in"]) == doc["series"]["length"] and "no_route" in doc["series"]["drops"]


def test_an_empty_relay_says_so(seen):
    assert "no tunnel is connected" in status(seen).stdout


# -- what may go wrong

def test_a_relay_that_is_not_there_is_told_with_what_to_look_at():
    port = free_tcp_port()
    for args in ([], ["--watch"], ["--json"]):
        out = status(None, *args, at=f"127.0.0.1:{port}")
        assert out.returncode == 1 and out.stdout == ""
        assert f"127.0.0.1:{port}" in out.stderr and "is the server running" in out.stderr and "--admin" in out.stderr


def test_an_address_that_is_none_is_refused_in_words():
    for bad in ("off", "127.0.0.1:0", "127.0.0.1:99999", "nowhere", "ftp://localhost:1", "http://", ""):
        out = status(None, at=bad or "''")
        assert out.returncode == 2 and "--admin must be" in out.stderr, (bad, out)


def test_what_is_no_relay_is_told(world):
    import http.server
    import threading

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status_of["is"])
            self.end_headers()
            self.wfile.write(b'{"hello": 1}' if status_of["is"] == 200 else b"\x1b[31m no")

        def log_message(self, *args):
            pass
    status_of = {"is": 200}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    world.cleanups.append(server.shutdown)
    at = f"127.0.0.1:{server.server_port}"
    out = status(None, at=at)
    assert out.returncode == 1 and "not as the admin listener of a tunn relay" in out.stderr
    status_of["is"] = 404
    out = status(None, at=at)
    assert out.returncode == 1 and "status 404" in out.stderr and "\x1b" not in out.stderr


def test_the_token_is_shown_to_the_relay_and_never_printed(world):
    path = token_file(world)
    relay = admin_relay(world, "--admin-token-file", path)
    wait_until(lambda: get(relay, "/readyz", Authorization=f"Bearer {TOKEN}").status == 200)
    out = status(relay)
    assert out.returncode == 1 and "the token is missing" in out.stderr and "--token-file" in out.stderr
    out = status(relay, "--token-file", token_file(world, "f" * 32))
    assert out.returncode == 1 and "not the right one" in out.stderr
    out = status(relay, "--token-file", path)
    assert out.returncode == 0 and TOKEN not in out.stdout + out.stderr
    out = status(relay, "--token-file", token_file(world, TOKEN, 0o644))
    assert out.returncode == 2 and "chmod 600" in out.stderr


def test_over_tls_the_key_is_pinned_or_the_certificate_trusted(world):
    path = token_file(world)
    relay = admin_relay(world, "--admin-token-file", path, admin="0.0.0.0:0")
    wait_until(lambda: get(relay, "/readyz", Authorization=f"Bearer {TOKEN}").status == 200)
    at = f"https://127.0.0.1:{relay.admin}"
    for place in (at, f"0.0.0.0:{relay.admin}", f":{relay.admin}"):  # also as the server has it
        out = status(None, "--token-file", path, "--pin", relay.pin, at=place)
        assert out.returncode == 0 and "ready" in out.stdout, (place, out)
    assert status(None, "--token-file", path, "--ca", f"{relay.state}/tls-cert.pem", at=at).returncode == 0
    out = status(None, "--token-file", path, at=at)
    assert out.returncode == 1 and "--pin" in out.stderr
    out = status(None, "--token-file", path, at=f"127.0.0.1:{relay.admin}")
    assert out.returncode == 1 and "https://HOST:PORT where it speaks TLS" in out.stderr
    out = status(None, "--token-file", path, "--pin", "sha256:" + "0" * 64, at=at)
    assert out.returncode == 1


def test_the_servers_config_file_says_where_and_with_what(world):
    config = f"{world.tmp}/server.yaml"
    port, path = free_tcp_port(), token_file(world)
    with open(config, "w", encoding="utf-8") as f:
        f.write(f"admin: 127.0.0.1:{port}\nadmin-token-file: {path}\ndrain: 3s\n")
    relay = world.relay(args=["--config", config], env=ENV | {"TUNN_STUN": "off"})
    relay.wait_for("admin on")
    wait_until(lambda: "ready" in status(None, "--config", config).stdout)


# -- watching

def test_without_a_terminal_there_is_a_line_each_second(world, seen):
    world.pair(seen)
    p = world.program([TUNN, "status", "--admin", f"127.0.0.1:{seen.admin}", "--watch"], env=ENV)
    for _ in range(2):
        p.wait_for(r"^\d\d:\d\d:\d\d  blue  ready  tunnels 2  in .* out .* dropped 0/s$", after=p.count())
    p.p.send_signal(signal.SIGTERM)
    assert p.exit_code() == 0 and "\x1b" not in p.text()


def test_json_is_watched_line_by_line(world, seen):
    p = world.program([TUNN, "status", "--admin", f"127.0.0.1:{seen.admin}", "--watch", "--json"], env=ENV)
    for n in (0, 1):
        json.loads(p.wait_for(r"^\{.*\}$", after=n)[0])
    p.p.send_signal(signal.SIGINT)
    assert p.exit_code() == 0


@pytest.mark.parametrize("how", ["key", "ctrl-c", "sigterm"])
def test_a_terminal_is_drawn_on_and_put_back(seen, terminal, how):
    t = terminal("--admin", f"127.0.0.1:{seen.admin}", "--watch")
    t.wait_for(re.escape(ENTER))
    t.wait_for(r"(?s)\x1b\[H.*blue.*\x1b\[H.*blue")  # again
    assert termios.tcgetattr(t.inside) != t.before
    if how == "sigterm":
        t.p.terminate()
    else:
        t.type("q" if how == "key" else "\x03")
    code, as_before = t.end()
    assert code == 0 and as_before and t.text.count(ENTER) == t.text.count(LEAVE) == 1 and t.text.endswith(LEAVE)


def test_a_picture_is_written_over_the_one_before(world, seen, terminal):
    """No flicker: nothing is emptied first, and no picture has more lines than the terminal."""
    crowd = Crowd(world, open_relay := admin_relay(world, "--open", name="open")).join(f"end-{i}" for i in range(40))
    t = terminal("--admin", f"127.0.0.1:{open_relay.admin}", "--watch", columns=50, rows=20)
    t.wait_for(r"(?s)and \d+ more.*\x1b\[H")
    t.size(90, 12)
    t.p.send_signal(signal.SIGWINCH)
    at = len(t.text)
    t.wait_for(r"(?s)\x1b\[H.*\x1b\[H", after=at)
    t.type("q")
    t.end()
    pictures = t.text.split(ENTER)[1].split("\x1b[H")[1:]
    assert all(p.count("\n") < 20 and "\x1b[2J" not in p for p in pictures) and pictures[-1].count("\n") < 12
    for p in crowd:
        p.close()


def test_colours_are_left_out_where_nobody_wants_them(seen, terminal):
    for env, some in (({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        t = terminal("--admin", f"127.0.0.1:{seen.admin}", "--watch", env=env)
        t.wait_for("ready")
        t.type("q")
        t.end()
        assert ("\x1b[32mready" in t.text) == some, env
    t = terminal("--admin", f"127.0.0.1:{seen.admin}", "--watch", env={"TERM": "dumb"})
    t.wait_for(r"blue  ready  tunnels 0")
    t.type("\x03")
    t.end()
    assert "\x1b" not in t.text


def test_a_relay_that_goes_leaves_what_it_said_with_the_time(world, terminal):
    port = free_tcp_port()
    relay = admin_relay(world, "--node", "first", admin=f"127.0.0.1:{port}")
    t = terminal("--admin", f"127.0.0.1:{port}", "--watch")
    t.wait_for("first.*ready")
    relay.stop()
    at = len(t.text)
    t.wait_for(r"(?s)\x1b\[H[^\n]*first.*nothing new since \d\d:\d\d:\d\d: no answer from", after=at)
    admin_relay(world, "--node", "second", admin=f"127.0.0.1:{port}", name="second")
    t.wait_for("second")
    t.type("\x03")
    code, as_before = t.end()
    assert code == 0 and as_before and t.text.endswith(LEAVE)


def test_a_relay_that_was_never_there_leaves_the_terminal_alone(terminal):
    t = terminal("--admin", f"127.0.0.1:{free_tcp_port()}", "--watch")
    code, as_before = t.end()
    assert code == 1 and as_before and ENTER not in t.text and "is the server running" in t.text


def test_stopped_and_continued_it_gives_the_terminal_back_meanwhile(seen, terminal):
    t = terminal("--admin", f"127.0.0.1:{seen.admin}", "--watch")
    t.wait_for("ready")
    t.p.send_signal(signal.SIGTSTP)
    t.wait_for(re.escape(LEAVE))
    wait_until(lambda: " T " in open(f"/proc/{t.p.pid}/stat", encoding="utf-8").read())
    assert termios.tcgetattr(t.inside) == t.before
    at = len(t.text)
    t.p.send_signal(signal.SIGCONT)
    t.wait_for(re.escape(ENTER), after=at)
    t.wait_for("ready", after=at)
    t.type("q")
    assert t.end() == (0, True)


def test_a_reader_that_goes_ends_it(seen):
    p = subprocess.Popen(f"{TUNN} status --admin 127.0.0.1:{seen.admin} --watch | head -1", shell=True, env=ENV, stdout=subprocess.PIPE, text=True)
    out, _ = p.communicate(timeout=20)
    assert "blue" in out
