"""Who may enter a relay as a DERP end, and what its keys and its configuration may be (derp.md 2.7, 3.8, 4.2, product.md section 4)."""
import base64
import http.server
import json
import os
import signal
import threading
import time

import pytest
from derp_fixtures import SECRET, derp, exchange, refused, until, write  # noqa: F401
from harness import TUNN
from scripted_derp import KEEP_ALIVE, NOTE_PREFERRED, Client, NodeKey
from test_stun import asker, assert_answered

pytestmark = pytest.mark.usefixtures("silent_ends")


# -- who may enter

def test_a_fresh_relay_refuses_a_strangers_key_while_probes_and_stun_are_public(world):
    relay = world.relay(args=["--stun", "127.0.0.1:0"])
    stranger = NodeKey()
    for kw in ({}, {"websocket": True}, {"info": {"version": 2, "meshKey": SECRET}}, {"info": {"version": 2, "IsProber": True}}):
        assert refused(relay, key=stranger, **kw)
    relay.wait_for(rf"refused end id=nodekey:{stranger.hex[:8]}\. account=derp from=127.0.0.1:\d+ reason=denied: .*derp.allow: none")
    for path, status in (("/derp/probe", "200"), ("/derp/latency-check", "200"), ("/generate_204", "204"), ("/robots.txt", "200"), ("/", "200")):
        c = Client(relay.port, enter=False)
        assert c.ask((), path=path)[0].split()[1] == status
        c.close()
    port = int(relay.wait_for(r"answering STUN on \S*:(\d+)").group(1))
    assert_answered(asker(world, ("127.0.0.1", port)))
    assert relay.counters()["sessions_open"] == 0


def test_keys_that_are_allowed_enter_and_others_do_not(derp):
    friends = [NodeKey() for _ in range(3)]
    relay = derp.start("derp:\n  allow:\n" + "".join(f"    - {k.text}\n" for k in friends))
    ends = [derp.enter(relay, key=k) for k in friends]
    assert all(e.info == {"version": 2} for e in ends)
    exchange(ends[0], ends[2])
    for _ in range(5):
        assert refused(relay)
    relay.wait_for("reason=denied: its node key is not in derp.allow")
    assert all(e.is_alive() for e in ends)


def test_the_mesh_enters_whatever_is_allowed(derp):
    relay = derp.start("", mesh=True)
    assert derp.watch(relay).is_alive()
    assert refused(relay)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_key_taken_off_the_list_is_cut_off_within_2_s_and_the_others_stay(derp, workers):
    friends = [NodeKey() for _ in range(6)]
    config = lambda keys: "derp:\n  allow:\n" + "".join(f"    - {k.text}\n" for k in keys)
    relay = derp.start(config(friends), workers=workers)
    ends = [derp.enter(relay, key=k, websocket=n % 2 == 1) for n, k in enumerate(friends)]
    again = derp.enter(relay, key=friends[0])
    write(relay.config, config(friends[2:]))
    at, began = relay.count(), time.monotonic()
    relay.p.send_signal(signal.SIGHUP)
    for gone in (ends[0], again, ends[1]):
        assert gone.ended()
    assert time.monotonic() - began < 2
    for key in friends[:2]:
        relay.wait_for(rf"end left id=nodekey:{key.hex[:8]}\. .* reason=denied", after=at)
        assert refused(relay, key=key)
    until(relay, "derp_connections_open", 4)
    assert all(e.is_alive() for e in ends[2:])
    exchange(ends[2], ends[3])


def test_a_reload_to_none_cuts_all_off_and_one_to_any_lets_all_in(derp):
    relay = derp.start()
    ends = [derp.enter(relay) for _ in range(4)]
    write(relay.config, "derp:\n  allow: none\n")
    relay.p.send_signal(signal.SIGHUP)
    assert all(e.ended() for e in ends) and refused(relay)
    write(relay.config, "derp:\n  allow: any\n")
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reload", after=at)
    exchange(derp.enter(relay), derp.enter(relay))


def test_a_broken_derp_section_on_reload_cuts_nobody_off(derp):
    relay = derp.start()
    end = derp.enter(relay)
    for text in ("derp:\n  allow: everybody\n", "derp:\n  allow: [any, none]\n", "derp:\n  allowed: any\n"):
        write(relay.config, text)
        at = relay.count()
        relay.p.send_signal(signal.SIGHUP)
        relay.wait_for("reload.*(refused|kept|fail)", after=at)
    assert end.is_alive() and derp.enter(relay).info


# -- who may enter: a URL is asked

class Doorman:
    """An HTTP server that answers as -verify-client-url wants: .says decides, .asked remembers."""

    def __init__(self, world):
        doorman, self.asked, self.says = self, [], lambda key: (200, b'{"Allow":true}')

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                doorman.asked.append(body)
                status, answer = doorman.says(body["NodePublic"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/verify"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        world.cleanups.append(self.close)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def doorman(world):
    return Doorman(world)


def test_a_url_says_who_enters_and_is_asked_each_time(derp, doorman):
    friend, stranger = NodeKey(), NodeKey()
    doorman.says = lambda key: (200, b'{"Allow":%s}' % (b"true" if key == friend.text else b"false"))
    relay = derp.start(f"derp:\n  verify-url: {doorman.url}\n")
    end = derp.enter(relay, key=friend)
    assert end.info == {"version": 2} and doorman.asked == [{"NodePublic": friend.text, "Source": "127.0.0.1"}]
    assert refused(relay, key=stranger)
    relay.wait_for(rf"refused end id=nodekey:{stranger.hex[:8]}\. .* reason=denied")
    doorman.says = lambda key: (200, b'{"allow": true, "More": [1, 2]}')  # keys in any case, as in Go
    exchange(end, derp.enter(relay, key=stranger))
    doorman.says = lambda key: (200, b'{"Allow":false}')
    assert refused(relay, key=friend)
    assert end.is_alive() and len(doorman.asked) == 4


@pytest.mark.parametrize("answer", [(500, b'{"Allow":true}'), (204, b""), (302, b'{"Allow":true}'), (200, b""), (200, b"true"), (200, b'{"Allow":1}'),
                                    (200, b'{"Allow":"true"}'), (200, b"{}"), (200, b" " * 4096 + b'{"Allow":true}')], ids=lambda a: f"{a[0]}_{len(a[1])}")
def test_a_url_that_does_not_say_yes_lets_nobody_in(derp, doorman, answer):
    relay = derp.start(f"derp:\n  verify-url: {doorman.url}\n")
    doorman.says = lambda key: answer
    assert refused(relay) and len(doorman.asked) == 1
    doorman.says = lambda key: (200, b'{"Allow":true}')
    assert derp.enter(relay).info


def test_a_url_that_is_not_there_lets_nobody_in(derp, doorman):
    """Fails closed, where derper's default is to fail open (product.md section 4)."""
    relay = derp.start(f"derp:\n  verify-url: {doorman.url}\n", mesh=True)
    doorman.close()
    began = time.monotonic()
    assert refused(relay) and time.monotonic() - began < 6
    relay.wait_for("refused end id=nodekey:.* reason=unavailable")
    assert derp.watch(relay).is_alive()  # the mesh is not asked about


def test_a_url_that_does_not_answer_keeps_one_waiting_and_harms_nobody(derp, doorman):
    friend = NodeKey()
    silent, answer = threading.Event(), (200, b'{"Allow":true}')
    doorman.says = lambda key: answer if key == friend.text else (silent.wait(30), answer)[1]
    relay = derp.start(f"derp:\n  verify-url: {doorman.url}\n", workers=1)
    waiting = Client(relay.port, enter=False)
    waiting.ask()
    waiting.greeting()
    began = time.monotonic()
    waiting.introduce()
    waiting.send_to(friend, b"before I am admitted")
    end = derp.enter(relay, key=friend)
    assert end.info and time.monotonic() - began < 3
    assert waiting.admitted() is None and 3 < time.monotonic() - began < 8
    assert end.is_alive() and not end.seen
    silent.set()
    waiting.close()


def test_who_goes_while_the_url_is_asked_leaves_nothing(derp, doorman):
    silent = threading.Event()
    doorman.says = lambda key: (silent.wait(30), (200, b'{"Allow":true}'))[1]
    relay = derp.start(f"derp:\n  verify-url: {doorman.url}\n")
    for _ in range(5):
        c = Client(relay.port, enter=False)
        c.ask()
        c.greeting()
        c.introduce()
        end = time.monotonic() + 20
        while not doorman.asked and time.monotonic() < end:
            time.sleep(0.01)
        c.drop()
    until(relay, "connections_open", 0)
    silent.set()
    doorman.says = lambda key: (200, b'{"Allow":true}')
    exchange(derp.enter(relay), derp.enter(relay))
    assert relay.counters()["sessions_open"] == 2


def test_what_is_said_while_the_url_is_asked_is_heard_once_admitted(derp, doorman):
    silent, first = threading.Event(), NodeKey()
    doorman.says = lambda key: (key == first.text or silent.wait(30), (200, b'{"Allow":true}'))[1]
    relay = derp.start(f"derp:\n  verify-url: {doorman.url}\n")
    friend = derp.enter(relay, key=first)
    c = derp.enter(relay, enter=False)
    c.ask()
    c.greeting()
    c.introduce()
    c.frame(NOTE_PREFERRED, b"\1")
    for n in range(10):
        c.send_to(friend.key, bytes([n]) * 1000)
    silent.set()
    assert c.admitted() == {"version": 2}
    assert [friend.packet() for _ in range(10)] == [(c.key.public, bytes([n]) * 1000) for n in range(10)]
    until(relay, "derp_home_connections", 1)


def test_another_url_needs_a_restart_and_a_reload_says_so(derp, doorman):
    relay = derp.start(f"derp:\n  verify-url: {doorman.url}\n")
    for text in ("derp:\n  allow: any\n", "derp:\n  verify-url: http://127.0.0.1:1/\n"):
        write(relay.config, text)
        at = relay.count()
        relay.p.send_signal(signal.SIGHUP)
        relay.wait_for("derp.verify-url is another now: that needs a restart", after=at)
    asked = len(doorman.asked)
    assert derp.enter(relay).info and len(doorman.asked) == asked + 1


def test_another_mesh_needs_a_restart_and_a_reload_says_so(derp):
    text = "derp:\n  allow: %s\nmesh-with: ['127.0.0.1:%d']\n"
    relay = derp.start(text % ("none", 1), mesh=True)
    for allow, port, said in (("any", 2, True), ("any", 1, False)):
        write(relay.config, text % (allow, port))
        at = relay.count()
        relay.p.send_signal(signal.SIGHUP)
        relay.wait_for("reloaded certificate", after=at)
        assert derp.enter(relay).info  # all else is taken
        assert ("mesh-ca is another now: that needs a restart" in relay.text().split("reloaded certificate")[-2]) == said


# -- the configuration

BAD_CONFIG = {
    "allow_nobody_known": ("derp:\n  allow: everybody\n", "derp.allow"),
    "allow_short_key": ("derp:\n  allow: nodekey:00\n", "derp.allow"),
    "allow_upper_case": ("derp:\n  allow: nodekey:" + "AB" * 32 + "\n", "derp.allow"),
    "allow_any_and_key": ("derp:\n  allow: [any, 'nodekey:" + "ab" * 31 + "0b']\n", "stands alone"),
    "peering_unknown": ("derp:\n  peering: maybe\n", "derp.peering"),
    "peering_two": ("derp:\n  peering: [open, closed]\n", "stands alone"),
    "allow_and_url": ("derp:\n  allow: any\n  verify-url: http://127.0.0.1:1/\n", "give one"),
    "url_no_url": ("derp:\n  verify-url: ftp://x/\n", "derp.verify-url"),
    "unknown_key": ("derp:\n  alow: any\n", "derp.allow"),
    "account": ("derp:\n  account: No Name\n", "derp.account"),
}


@pytest.mark.parametrize("row", BAD_CONFIG)
def test_a_bad_derp_section_ends_the_start_with_its_place(world, row):
    text, words = BAD_CONFIG[row]
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s", "--config", write(f"{world.tmp}/c.yaml", text)])
    assert p.exit_code() == 2
    assert words in p.text()


def test_the_account_of_derp_ends_is_named(derp):
    relay = derp.start("derp:\n  allow: any\n  account: tailnet\n")
    derp.enter(relay)
    relay.wait_for("end joined id=nodekey:.* account=tailnet")


# -- the relay's node key

def key_of_relay(relay):
    c = Client(relay.port, enter=False)
    _, said = c.ask()
    c.greeting()
    c.close()
    assert c.relay_key.hex() == said["derp-public-key"]
    return c.relay_key


def test_the_node_key_is_the_same_after_a_restart_and_nobody_else_may_read_it(world, derp):
    relay = derp.start()
    first = key_of_relay(relay)
    assert os.stat(f"{relay.state}/derp.key").st_mode & 0o777 == 0o600
    relay.stop()
    assert key_of_relay(derp.start()) == first
    assert key_of_relay(derp.start(name="another")) != first


FORMS = {
    "derper": lambda k: '{\n\t"PrivateKey": "privkey:%s"\n}\n' % k.secret.hex(),
    "privkey": lambda k: f"privkey:{k.secret.hex()}\n",
    "upper_case": lambda k: f"privkey:{k.secret.hex().upper()}",
    "hex": lambda k: k.secret.hex() + "\n",
    "wireguard": lambda k: base64.b64encode(k.secret).decode() + "\n",
    "raw": lambda k: bytes(k.secret),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_node_key_in_every_form_is_taken_and_never_written(world, derp, form):
    key, path = NodeKey(), f"{world.tmp}/node.key"
    content = FORMS[form](key)
    write(path, content)
    relay = derp.start(args=["--derp.key", path])
    assert key_of_relay(relay) == key.public
    exchange(derp.enter(relay), derp.enter(relay))
    with open(path, "rb") as f:
        assert f.read() == (content if isinstance(content, bytes) else content.encode())
    assert key.secret.hex() not in relay.text()


BAD_KEYS = {
    "empty": ("", 0o600, "node.key"), "words": ("no key at all\n", 0o600, "node.key"), "short": ("privkey:" + "ab" * 31, 0o600, "node.key"),
    "zero": ("privkey:" + "00" * 32, 0o600, "node.key"), "public": (NodeKey().text, 0o600, "node.key"),
    "json_without": ('{"Other": 1}', 0o600, "node.key"), "json_cut": ('{"PrivateKey": "privkey:' + "5a" * 32, 0o600, "node.key"),
    "readable": ("privkey:" + "5a" * 32, 0o644, "node.key"),
}


@pytest.mark.parametrize("row", BAD_KEYS)
@pytest.mark.parametrize("where", ["option", "state"])
def test_a_broken_node_key_ends_the_start_with_words(world, row, where):
    content, mode, words = BAD_KEYS[row]
    state = f"{world.tmp}/state"
    path = f"{world.tmp}/node.key"
    args = ["--derp.key", path]
    if where == "state":
        world.relay().stop()
        path, args, words = f"{state}/derp.key", [], "derp.key"
    write(path, content, mode)
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", state, *args])
    assert p.exit_code() == 2
    said = p.text()
    assert words in said and "5a" * 32 not in said and len(said.splitlines()) < 5
    with open(path, encoding="ascii") as f:
        assert f.read() == content  # never another one in its place


# -- the key of the mesh

BAD_MESH = {"readable": (SECRET, 0o640, "chmod 600"), "short": ("badf00d", 0o600, "64 hex digits"), "long": (SECRET + "00", 0o600, "64 hex digits"),
            "no_hex": (SECRET[:-2] + "zz", 0o600, "64 hex digits"), "empty": ("", 0o600, "64 hex digits"), "blank": ("\n \n", 0o600, "64 hex digits")}


@pytest.mark.parametrize("row", BAD_MESH)
def test_a_bad_mesh_key_file_ends_the_start_with_words(world, row):
    content, mode, words = BAD_MESH[row]
    path = write(f"{world.tmp}/mesh.key", content, mode)
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s", "--mesh-key-file", path])
    assert p.exit_code() == 2
    assert words in p.text() and path in p.text()
    assert not content.strip() or content not in p.text()


def test_a_mesh_key_file_that_is_not_there_or_no_file_ends_the_start(world):
    for path in (f"{world.tmp}/nothing", str(world.tmp), "/dev/zero"):
        p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/s", "--mesh-key-file", path])
        assert p.exit_code() != 0 and path in p.text()


@pytest.mark.parametrize("text", [SECRET.upper(), f"\n \t{SECRET}\r\n\n"], ids=["upper_case", "blanks"])
def test_a_mesh_key_is_read_as_derper_reads_it(world, derp, text):
    relay = derp.start(args=["--mesh-key-file", write(f"{world.tmp}/own.key", text)])
    assert derp.watch(relay).is_alive()


# -- signs of life

def test_the_first_that_a_silent_end_hears_is_a_keepalive_after_60_to_65_s(silent_ends):
    for e in silent_ends:
        e.listener.join(80)
        [(kind, payload, seconds)] = e.all
        assert (kind, payload) == (KEEP_ALIVE, b"") and 59 < seconds < 67.5
        assert e.is_alive() and not e.seen
