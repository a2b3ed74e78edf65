"""The relay as a DERP server, by the real binary: who reaches whom, and what the operator sees (derp.md 3, product.md section 4)."""
import collections
import ipaddress
import os
import re
import signal
import threading
import time

import pytest
from derp_fixtures import SECRET, derp, exchange, refused, until, who_stays, write  # noqa: F401
from harness import answered, endpoint, free_port
from scripted_derp import (CLOSE_PEER, FORWARD, NOT_HERE, NOTE_PREFERRED, PEER_GONE, PEER_PRESENT, RECV, TUNN, WATCH_CONNS, NodeKey, disco, frame)
from test_cross_tenant import key_of

pytestmark = pytest.mark.usefixtures("silent_ends")

DISCONNECTED = 0
MESH, PROBER, NOT_IDEAL, REGULAR = 2, 4, 8, 1


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


def test_a_mate_is_told_of_more_ends_than_fit_into_its_queue(derp):
    """Here 100 ends, 400 times over: two megabytes, which nobody else may leave unread."""
    relay = derp.start(workers=1, mesh=True)
    ends = {derp.enter(relay).key.public for _ in range(100)}
    mate = derp.enter(relay, info={"version": 2, "meshKey": SECRET}, receive_buffer=4096)
    mate.raw_send(frame(WATCH_CONNS) * 400)
    told = collections.Counter(mate.read_a(PEER_PRESENT)[:32] for _ in range(400 * 101))
    assert set(told.values()) == {400} and set(told) == ends | {mate.key.public}


# -- the relay stops

@pytest.mark.parametrize("workers", [1, 4])
def test_native_ends_are_not_waited_for_since_nobody_can_tell_them_to_leave(derp, workers):
    relay = derp.start(workers=workers, args=("--drain", "8s"))
    ends = [derp.enter(relay, websocket=n == 2) for n in range(3)]
    began = time.monotonic()
    relay.p.terminate()
    assert all(e.ended() for e in ends) and relay.exit_code() == 0
    assert time.monotonic() - began < 6


def test_native_ends_are_served_as_long_as_a_tunnel_is_waited_for(derp):
    relay = derp.start(workers=1, args=("--drain", "8s"))
    a, b, tunnel = derp.enter(relay), derp.enter(relay), who_stays(relay)
    began = time.monotonic()
    relay.p.terminate()
    relay.wait_for("draining: ends are told")
    assert tunnel.read_a(TUNN)
    exchange(a, b)
    tunnel.close()
    assert a.ended() and b.ended() and relay.exit_code() == 0
    assert time.monotonic() - began < 6


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
