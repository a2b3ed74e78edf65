"""The relay as a DERP server, by the real binary: who may enter, who reaches whom, what the operator sees (derp.md 3, product.md section 4)."""
import base64
import collections
import http.server
import ipaddress
import json
import os
import re
import signal
import threading
import time

import pytest
from harness import TUNN, World, answered, endpoint, free_port
from scripted_derp import (CLOSE_PEER, FORWARD, KEEP_ALIVE, NOT_HERE, NOTE_PREFERRED, PEER_GONE, PEER_PRESENT, RECV, WATCH_CONNS, Client,
                           NodeKey, disco)
from test_cross_tenant import key_of
from test_stun import asker, assert_answered

DISCONNECTED = 0
MESH, PROBER, NOT_IDEAL, REGULAR = 2, 4, 8, 1
SECRET = os.urandom(32).hex()


def write(path, text, mode=0o600):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)
    return str(path)


@pytest.fixture
def derp(world):
    """Starts relays, and brings ends to them that are closed before the relay stops."""
    def start(text="derp:\n  allow: any\n", workers=None, mesh=False, args=(), name="state", **kw):
        words = ["--config", write(f"{world.tmp}/{name}.yaml", text), *args]
        words += ["--workers", str(workers)] if workers else []
        words += ["--mesh-key-file", write(f"{world.tmp}/mesh.key", SECRET)] if mesh else []
        relay = world.relay(args=words, name=name, **kw)
        relay.config = f"{world.tmp}/{name}.yaml"
        return relay

    def enter(relay, **kw):
        end = Client(relay.port, **kw)
        world.cleanups.append(end.close)
        return end

    def enter_at(relay, worker, **kw):
        """The kernel chooses the worker: the end comes again until it is that one."""
        kw.setdefault("key", NodeKey())
        for _ in range(200):
            at = relay.count()
            end = enter(relay, **kw)
            joined = rf"end joined id=nodekey:{kw['key'].hex[:8]}\. .* worker=(\d+)"
            if int(relay.wait_for(joined, after=at).group(1)) == worker:
                return end
            end.close()
            relay.wait_for(rf"end left id=nodekey:{kw['key'].hex[:8]}\. ", after=at)
        raise AssertionError(f"never came to worker {worker}")

    def watch(relay, **kw):
        end = enter(relay, info={"version": 2, "meshKey": SECRET}, **kw)
        end.frame(WATCH_CONNS)
        return end
    return type("Derp", (), dict(start=staticmethod(start), enter=staticmethod(enter), enter_at=staticmethod(enter_at), watch=staticmethod(watch)))


def until(program, counter, wanted, seconds=20):
    wanted = wanted if callable(wanted) else lambda n, v=wanted: n == v
    end = time.monotonic() + seconds
    while not wanted(n := program.counters()[counter]):
        assert time.monotonic() < end, f"{counter} is {n}"
        time.sleep(0.02)


def exchange(a, b, packet=b"there"):
    """Both reach each other."""
    a.send_to(b.key, packet)
    assert b.packet() == (a.key.public, packet)
    b.send_to(a.key, packet[::-1])
    assert a.packet() == (b.key.public, packet[::-1])


def refused(relay, **kw):
    """An end that is not admitted: its connection ends without a word."""
    c = Client(relay.port, **kw)
    assert c.info is None and c.closed
    c.close()
    return True


@pytest.fixture(scope="module", autouse=True)
def waiting(tmp_path_factory):
    """Ends that say nothing while the other tests run: what each hears, and when. The last test asks."""
    world = World(tmp_path_factory.mktemp("waiting"))
    relay = world.relay(args=["--derp.allow", "any"])
    ends = [Client(relay.port, websocket=n == 3) for n in range(4)]

    def listen(end):
        end.began, end.all = time.monotonic(), []
        end.s.settimeout(75)
        while not end.all and (f := end.read()):
            end.all.append((f.type, f.payload, time.monotonic() - end.began))
    for e in ends:
        e.listener = threading.Thread(target=listen, args=(e,), daemon=True)
        e.listener.start()
    yield ends
    for e in ends:
        e.close()
    world.close()


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


# -- who reaches whom

@pytest.mark.parametrize("workers", [1, 4])
def test_open_peering_lets_all_native_ends_talk(derp, workers):
    relay = derp.start(workers=workers)
    ends = [derp.enter_at(relay, n % workers) for n in range(4)]
    for a in ends:
        for b in ends:
            if a is not b:
                exchange(a, b, os.urandom(100))


def nothing_comes(relay, sender, receiver, packets=(b"x", disco(), b"")):
    """What the sender sends is dropped, the receiver sees nothing of it; what the sender is told of it."""
    before = sum(v for k, v in relay.counters().items() if k.startswith("drop_"))
    for p in packets:
        sender.send_to(receiver.key, p)
    end = time.monotonic() + 20
    while sum(v for k, v in relay.counters().items() if k.startswith("drop_")) < before + len(packets):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert receiver.is_alive() and not receiver.seen and sender.is_alive()
    return [(f.type, f.payload) for f in sender.seen]


@pytest.mark.parametrize("workers", [1, 4])
def test_closed_peering_lets_no_native_end_talk_to_another(derp, workers):
    relay = derp.start("derp:\n  allow: any\n  peering: closed\n", workers=workers)
    a, b = derp.enter_at(relay, 0), derp.enter_at(relay, workers - 1)
    for x, y in ((a, b), (b, a)):
        assert nothing_comes(relay, x, y) == [(PEER_GONE, y.key.public + bytes([NOT_HERE]))]  # as if nobody were there
    a.send_to(a.key, b"myself")
    assert a.packet() == (a.key.public, b"myself")


def test_peering_of_keys_is_among_those_keys(derp):
    a, b, c = (NodeKey() for _ in range(3))
    relay = derp.start(f"derp:\n  allow: any\n  peering: ['{a.text}', '{b.text}']\n")
    a, b, c = (derp.enter(relay, key=k) for k in (a, b, c))
    exchange(a, b)
    for x, y in ((a, c), (c, a), (b, c), (c, b)):
        assert nothing_comes(relay, x, y)


def test_peering_changes_with_a_reload(derp):
    relay = derp.start()
    a, b = derp.enter(relay), derp.enter(relay)
    exchange(a, b)
    for words, talk in (("closed", False), ("open", True)):
        write(relay.config, f"derp:\n  allow: any\n  peering: {words}\n")
        at = relay.count()
        relay.p.send_signal(signal.SIGHUP)
        relay.wait_for("reload", after=at)
        exchange(a, b) if talk else nothing_comes(relay, a, b)


def tunnel(world, relay, worker, port, me, peers, *args):
    peers = [peers] if isinstance(peers, str) else peers
    words = [w for p in peers[1:] for w in ("--peer", p)]
    if worker is None:
        return world.end(relay, port, me, peers[0], *words, *args, "--transport", "grpc")
    return world.end_at(relay, worker, port, me, peers[0], *words, *args, "--transport", "grpc")


def tunnel_key(name, account="main"):
    return bytes.fromhex(key_of(account, name))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_tunnel_that_names_a_node_key_and_that_node_exchange_datagrams(world, derp, workers):
    relay = derp.start(workers=workers)
    key, s = NodeKey(), world.socket()
    laptop = tunnel(world, relay, 0, free_port(), "laptop", key.text, "--listen")
    native = derp.enter_at(relay, workers - 1, key=key)
    laptop.wait_for(rf"{key.text[:16]}\S* is up")
    for size in (1, 62, 1400, 60000):
        data = os.urandom(size)
        s.sendto(data, endpoint(laptop))
        assert native.packet() == (tunnel_key("laptop"), data)
        native.send_to(tunnel_key("laptop"), data)
        assert answered(s, data, 20)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_node_speaks_first_to_a_forwarding_tunnel(world, derp, workers):
    relay = derp.start(workers=workers)
    key, echo = NodeKey(), world.echo()
    native = derp.enter_at(relay, workers - 1, key=key)
    tunnel(world, relay, 0, echo.port, "home", key.text, "--forward").wait_for("is up")
    for size in (0, 1, 1400):
        data = os.urandom(size)
        native.send_to(tunnel_key("home"), data)
        assert native.packet() == (tunnel_key("home"), data)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_node_cannot_reach_a_tunnel_that_has_not_named_it_and_learns_nothing_of_it(world, derp, workers):
    relay = derp.start(workers=workers)
    echo = world.echo()
    home = tunnel(world, relay, 0, echo.port, "home", ["laptop", NodeKey().text], "--forward")
    home.wait_for("connected as home")
    native = derp.enter_at(relay, workers - 1)
    for packet in (b"", b"x", disco(), os.urandom(1400)):
        native.send_to(tunnel_key("home"), packet)
    until(relay, "drop_not_mutual", 4)
    assert echo.n == 0 and native.key.hex[:8] not in home.text()


def test_what_a_node_is_told_of_a_tunnel_is_what_it_is_told_of_nobody(world, derp):
    relay = derp.start()
    echo = world.echo()
    tunnel(world, relay, None, echo.port, "home", "laptop", "--forward").wait_for("connected as home")
    told = collections.defaultdict(list)
    for name in ("home", "nobody"):
        native = derp.enter(relay)
        for packet in (b"x", disco(), disco(), disco(100), disco()):
            native.send_to(tunnel_key(name), packet)
        assert native.is_alive()
        told[name] = [(f.type, f.payload.replace(tunnel_key(name), b"")) for f in native.seen]
    assert told["home"] == told["nobody"] == [(PEER_GONE, bytes([NOT_HERE]))] * 3
    assert echo.n == 0


@pytest.mark.parametrize("workers", [1, 4])
def test_nothing_passes_before_a_tunnel_names_the_node_or_after(world, derp, workers):
    relay = derp.start(workers=workers)
    key, echo = NodeKey(), world.echo()
    native = derp.enter_at(relay, workers - 1, key=key)
    without = tunnel(world, relay, 0, echo.port, "home", "laptop", "--forward")
    without.wait_for("connected as home")
    native.send_to(tunnel_key("home"), b"before")
    until(relay, "drop_not_mutual", 1)
    without.stop()
    within = tunnel(world, relay, 0, echo.port, "home", key.text, "--forward")
    within.wait_for("is up")
    native.send_to(tunnel_key("home"), b"now")
    assert native.packet() == (tunnel_key("home"), b"now") and echo.n == 1
    within.stop()
    tunnel(world, relay, 0, echo.port, "home", "laptop", "--forward").wait_for("connected as home")
    native.send_to(tunnel_key("home"), b"after")
    until(relay, "drop_not_mutual", 2)
    assert native.is_alive() and not native.saw(RECV) and echo.n == 1


def test_a_tunnel_is_told_of_its_node_that_comes_and_goes(world, derp):
    relay = derp.start(workers=4)
    key = NodeKey()
    laptop = tunnel(world, relay, 0, free_port(), "laptop", key.text, "--listen")
    laptop.wait_for("connected as laptop")
    for worker in (0, 3):
        at = laptop.count()
        native = derp.enter_at(relay, worker, key=key)
        laptop.wait_for("is up", after=at)
        native.close()
        laptop.wait_for("is gone|is not there|left", after=at)


# -- several workers, several connections

def test_duplicates_of_a_key_at_different_workers_take_turns(derp):
    relay = derp.start(workers=4)
    key, other = NodeKey(), derp.enter_at(relay, 2)
    a, b, c = (derp.enter_at(relay, n, key=key) for n in (0, 1, 3))
    until(relay, "derp_duplicate_connections", 3)

    def has(one):
        """It has all packets, once the worker that sends them has heard so from the others."""
        end = time.monotonic() + 20
        while not one.comes(0.2):
            assert time.monotonic() < end
            other.send_to(key, b"until it is known")
        assert other.is_alive()
        while one.comes(0.2):
            one.read()
        before = relay.counters()["packets_out_total"]
        for n in range(10):
            other.send_to(key, bytes([n]))
        assert [one.packet()[1] for _ in range(10)] == [bytes([n]) for n in range(10)]
        assert relay.counters()["packets_out_total"] == before + 10
    has(c)
    for one in (a, b, c):
        one.send_to(other.key, b"I spoke")
        assert other.packet() == (key.public, b"I spoke")
        other.send_to(key, b"to who spoke last")
        assert one.packet() == (other.key.public, b"to who spoke last")
    a.frame(0x7f, b"any frame counts")
    has(a)
    a.close()
    until(relay, "derp_duplicate_connections", 2)
    has(c)
    c.close()
    until(relay, "derp_duplicate_connections", 0)
    has(b)
    counters = relay.counters()
    assert counters["derp_duplicate_keys"] == 0 and counters["derp_duplicate_connections_total"] >= 2


@pytest.mark.parametrize("workers", [(0, 0), (0, 3), (3, 1)], ids=str)
def test_who_has_heard_from_a_key_is_told_when_it_is_gone(derp, workers):
    relay = derp.start(workers=4)
    speaker, listener = (derp.enter_at(relay, n) for n in workers)
    stranger = derp.enter_at(relay, workers[1])
    second = derp.enter_at(relay, 2, key=speaker.key)
    speaker.send_to(listener.key, b"hello")
    assert listener.packet()[0] == speaker.key.public
    speaker.close()
    until(relay, "derp_connections_open", 3)
    assert listener.is_alive() and not listener.seen  # its second connection is here
    second.close()
    assert listener.read_a(PEER_GONE) == speaker.key.public + bytes([DISCONNECTED])
    assert stranger.is_alive() and not stranger.seen
    listener.send_to(speaker.key, disco())
    assert listener.read_a(PEER_GONE) == speaker.key.public + bytes([NOT_HERE])
    c = relay.counters()
    assert (c["derp_peer_gone_disconnected_frames_total"], c["derp_peer_gone_not_here_frames_total"]) == (1, 1)


# -- the mesh

def present(payload):
    """Key, address, port and flags of a PeerPresent."""
    assert len(payload) == 51
    ip = ipaddress.IPv6Address(payload[32:48])
    return payload[:32], str(ip.ipv4_mapped or ip), int.from_bytes(payload[48:50], "big"), payload[50]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_watcher_sees_all_native_ends_and_never_a_tunnel(world, derp, workers):
    relay = derp.start(workers=workers, mesh=True)
    key = NodeKey()
    tunnel(world, relay, None, world.echo().port, "home", ["laptop", key.text], "--forward").wait_for("connected as home")
    before = [derp.enter(relay, key=key), derp.enter(relay, info={"version": 2, "IsProber": True}),
              derp.enter(relay, fields=("Upgrade: DERP", "Ideal-Node: 1a"))]
    until(relay, "derp_connections_open", 3)
    watcher = derp.watch(relay)
    flags = {before[0].key.public: REGULAR, before[1].key.public: PROBER, before[2].key.public: NOT_IDEAL, watcher.key.public: MESH}
    seen = dict()
    while len(seen) < 4:
        who, ip, port, flag = present(watcher.read_a(PEER_PRESENT))
        seen[who] = flag
        assert ip == "127.0.0.1"
        assert port in [e.s.getsockname()[1] for e in (*before, watcher)]
    assert seen == flags
    exchange(before[0], before[1])
    native = derp.enter(relay)
    assert present(watcher.read_a(PEER_PRESENT))[0] == native.key.public
    laptop = tunnel(world, relay, None, free_port(), "laptop", ["home", native.key.text], "--listen")
    laptop.wait_for("home is up")
    laptop.wait_for(r"nodekey:\S+ is up")
    native.send_to(tunnel_key("laptop"), b"x")
    laptop.stop()
    native.close()
    assert watcher.read_a(PEER_GONE) == native.key.public + bytes([DISCONNECTED])
    assert watcher.is_alive() and not watcher.seen
    tunnels = [tunnel_key("home"), tunnel_key("laptop")]
    assert not [t for t in tunnels if t in watcher.heard]


@pytest.mark.parametrize("workers", [1, 4])
def test_T18_T34_a_mate_cannot_speak_for_a_tunnel(world, derp, workers):
    relay = derp.start(workers=workers, mesh=True)
    native = derp.enter_at(relay, workers - 1)
    echo = world.echo()
    tunnel(world, relay, 0, echo.port, "home", native.key.text, "--forward").wait_for("is up")
    mate = derp.watch(relay)
    far = NodeKey()
    mate.frame(FORWARD, tunnel_key("home") + native.key.public + b"forged")
    until(relay, "derp_forwards_refused_total", 1)
    mate.frame(FORWARD, far.public + tunnel_key("home") + b"to a tunnel")
    mate.frame(FORWARD, native.key.public + tunnel_key("home") + b"to a tunnel in the name of its peer")
    mate.frame(FORWARD, far.public + native.key.public + b"real")
    assert native.packet() == (far.public, b"real")
    assert native.is_alive() and not native.saw(RECV) and mate.is_alive()
    assert echo.n == 0 and relay.counters()["derp_packets_forwarded_in_total"] == 4


def test_a_mate_may_close_all_connections_of_a_key_and_no_tunnel(world, derp):
    relay = derp.start(workers=4, mesh=True)
    home = tunnel(world, relay, 0, world.echo().port, "home", "laptop", "--forward")
    home.wait_for("connected as home")
    key, other = NodeKey(), derp.enter(relay)
    several = [derp.enter_at(relay, n, key=key) for n in (0, 1, 3)]
    until(relay, "derp_duplicate_connections", 3)
    mate = derp.watch(relay)
    mate.frame(CLOSE_PEER, tunnel_key("home"))
    mate.frame(CLOSE_PEER, key.public)
    assert all(e.ended() for e in several)
    assert mate.is_alive() and other.is_alive()
    assert "reconnecting" not in home.text() and relay.counters()["sessions_open"] == 3


# -- who does not read, who sends much

def flood(sender, to, packets, size=65536):
    for _ in range(packets):
        assert sender.send_to(to, os.urandom(size))


@pytest.mark.parametrize("workers", [1, 4])
def test_who_does_not_read_harms_nobody_and_is_cut_after_2_s(world, derp, workers):
    relay = derp.start(workers=workers)
    slow = derp.enter_at(relay, 0, receive_buffer=4096)
    sender, others = derp.enter_at(relay, workers - 1), [derp.enter(relay) for _ in range(3)]
    stop, sent = threading.Event(), [0]

    def pour():
        while not stop.is_set() and sender.send_to(slow.key, bytes(65536)):
            sent[0] += 1
            for o in others[:1]:
                sender.send_to(o.key, b"between")
    pourer = threading.Thread(target=pour)
    eater = threading.Thread(target=lambda: [others[0].packet() for _ in range(100)])
    began = time.monotonic()
    pourer.start()
    eater.start()
    try:
        while not re.search(rf"end left id=nodekey:{slow.key.hex[:8]}\. .* reason=stalled", relay.text()):
            assert time.monotonic() - began < 15
            at = time.monotonic()
            exchange(others[1], others[2], os.urandom(1000))
            assert time.monotonic() - at < 1
        assert 1.9 < time.monotonic() - began < 8
        eater.join(20)
        assert not eater.is_alive()
    finally:
        stop.set()
        pourer.join(20)
    assert sent[0] > 100 and not sender.closed  # nobody made it wait
    c = relay.counters()
    assert c["drop_queue_full"] + c["drop_link_closed"] + c["drop_no_route"] > 0


def test_a_mate_that_does_not_read_has_30_s(derp):
    """Here: it is still there after 6 s, three times what another end has."""
    relay = derp.start(mesh=True)
    mate = derp.enter(relay, info={"version": 2, "meshKey": SECRET}, receive_buffer=4096)
    other, sender = derp.enter(relay, receive_buffer=4096), derp.enter(relay)
    for slow in (mate, other):
        flood(sender, slow.key, 100)
    relay.wait_for(rf"end left id=nodekey:{other.key.hex[:8]}\. .* reason=stalled")
    time.sleep(4)
    assert mate.is_alive() and mate.saw(RECV)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("websocket", [False, True], ids=["raw", "websocket"])
def test_30_packets_of_64_kib_in_flight_arrive_all_and_in_order(derp, workers, websocket):
    relay = derp.start(workers=workers)
    receiver = derp.enter_at(relay, workers - 1, receive_buffer=16384, websocket=websocket)
    sender = derp.enter_at(relay, 0)
    for _ in range(3):
        packets = [n.to_bytes(2, "big") + os.urandom(65534) for n in range(30)]
        before = relay.counters()["packets_in_total"]
        for p in packets:
            sender.send_to(receiver.key, p)
        until(relay, "packets_in_total", before + 30)  # the receiver has not read anything yet
        assert [receiver.packet() for _ in packets] == [(sender.key.public, p) for p in packets]
    assert sum(v for k, v in relay.counters().items() if k.startswith("drop_")) == 0


# -- what the operator sees

def test_counters_are_the_twins_of_derpers(derp):
    relay = derp.start(mesh=True)
    assert refused(derp.start("", name="closed"))
    a, b = derp.enter(relay), derp.enter(relay, websocket=True)
    far = derp.enter(relay, fields=("Upgrade: DERP", "Ideal-Node: 1a"))
    twin = derp.enter(relay, key=a.key)
    mate = derp.watch(relay)
    a.frame(NOTE_PREFERRED, b"\1")
    a.frame(NOTE_PREFERRED, b"\1")
    b.frame(NOTE_PREFERRED, b"\1")
    b.frame(NOTE_PREFERRED, b"\0")
    a.frame(0x7f, b"what")
    a.send_to(b.key, b"12345")
    b.packet()
    a.send_to(b.key, disco(70))
    b.packet()
    a.send_to(NodeKey(), disco())
    a.send_to(NodeKey(), b"x")
    a.read_a(PEER_GONE)
    mate.frame(FORWARD, NodeKey().public + b.key.public + b"from afar")
    b.packet()
    assert all(e.is_alive() for e in (a, b, far, twin, mate))
    c = relay.counters()
    assert {k: c[k] for k in c if k.startswith("derp_")} | {"derp_tcp": 0} == {
        "derp_tcp": 0, "derp_accepts_total": 5, "derp_websocket_accepts_total": 1, "derp_connections_open": 5, "derp_home_connections": 1,
        "derp_not_ideal_connections": 1, "derp_clients": 4, "derp_duplicate_keys": 1, "derp_duplicate_connections": 2,
        "derp_duplicate_connections_total": 1, "derp_watchers": 1, "derp_disco_packets_in_total": 2, "derp_peer_gone_not_here_frames_total": 1,
        "derp_pings_total": 5, "derp_pongs_total": 5, "derp_unknown_frames_total": 1, "derp_packets_forwarded_in_total": 1}
    assert (c["packets_in_total"], c["drop_no_route"], c["packets_out_total"], c["sessions_open"]) == (4, 2, 3, 5)
    for e in (b, far, mate, twin):
        e.close()
    until(relay, "derp_connections_open", 1)
    c = relay.counters()
    assert {k: c[k] for k in ("derp_clients", "derp_duplicate_keys", "derp_duplicate_connections", "derp_watchers", "derp_home_connections",
                              "derp_not_ideal_connections")} == {"derp_clients": 1, "derp_duplicate_keys": 0, "derp_duplicate_connections": 0,
                                                                 "derp_watchers": 0, "derp_home_connections": 1, "derp_not_ideal_connections": 0}


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


def test_the_first_that_a_silent_end_hears_is_a_keepalive_after_60_to_65_s(waiting):
    for e in waiting:
        e.listener.join(80)
        [(kind, payload, seconds)] = e.all
        assert (kind, payload) == (KEEP_ALIVE, b"") and 59 < seconds < 67.5
        assert e.is_alive() and not e.seen
