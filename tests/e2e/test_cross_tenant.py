"""Tenants are apart: nothing reaches an end that its sender did not declare or that did not declare its sender (T18)."""
import hashlib
import os
import random
import struct
import threading
import time

import grpc
import pytest
from harness import free_port
from scripted import DATA, Peer, register
from scripted_derp import RECV, Client, NodeKey
from test_foreign_grpcio import Stranger, stubs  # noqa: F401

NAMES = ["home", "laptop", "nas", "phone"]  # the same in every account
ACCOUNTS = ["main", "red", "green", "blue"]
ROUNDS, CHANNELS = 2000, 3
HEAD = struct.Struct(">8sII")
NODES = [NodeKey() for _ in range(4)]  # of native DERP ends; the first three may talk to each other
PAIRED = [("nodekey", node.hex) for node in NODES[:3]]


class Tenants:
    """Accounts with tokens, free and bound; channels that streams of all accounts share."""

    def __init__(self, world, relay, pb):
        self.pb, self.relay = pb, relay
        self.free, self.bound = {}, {}
        for account in ACCOUNTS:
            path = relay.token if account == "main" else world.new_account(relay, account)
            self.free[account] = self.read(path)
            for name in NAMES[:2]:
                self.bound[account, name] = self.read(world.new_token(relay, account, "--id", name))
        with open(f"{relay.state}/tls-cert.pem", "rb") as f:
            credentials = grpc.ssl_channel_credentials(f.read())
        self.channels = [grpc.secure_channel(f"localhost:{relay.port}", credentials) for _ in range(CHANNELS)]
        world.cleanups += [c.close for c in self.channels]

    @staticmethod
    def read(path):
        with open(path) as f:
            return f.read().strip()


def resolve(account, written):
    """Whom an end of this account means."""
    if written.startswith("nodekey:"):
        return tuple(written.split(":"))
    return tuple(written.split("/")) if "/" in written else (account, written)


def key_of(account, name):
    """What PROTOCOL.md says the key of a named tunnel is; a node's is what it is."""
    if account == "nodekey":
        return name
    key = bytearray(hashlib.blake2b(f"tunn/v1/tunnel-id\0{account}/{name}".encode(), digest_size=32).digest())
    key[31] |= 0x80
    return key.hex()


class End(Stranger):
    """A stream that remembers whom it declared; every datagram says which stream sent it."""

    all = []

    def __init__(self, tenants, channel, account, name, token, peers, one_way, **register):
        self.account, self.name, self.peers, self.one_way = account, name, peers, one_way
        self.declared = {resolve(account, p) for p in peers}
        self.number, self.got, self.code, self.answer = len(End.all), set(), None, None
        self.registered, self.wrong, self.last = threading.Event(), [], ""
        End.all.append(self)
        super().__init__(tenants.pb, channel, tunnel_id=register.pop("claim", name), auth_token=token, peers=peers,
                         relay={"bidirectional": not one_way}, **register)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def who(self):
        return self.account, self.name

    def listen(self):
        try:
            for m in self.call:
                kind = m.WhichOneof("message")
                if kind == "register_response":
                    self.answer = m.register_response
                    self.registered.set()
                elif kind == "udp_packet":
                    self.take(m.udp_packet)
                elif kind == "health_check":
                    self.out.put(self.pb.TunnelMessage(health_check_response=self.pb.HealthCheckResponse()))
            self.code = "OK"
        except grpc.RpcError as e:
            self.code = e.code().name
        self.registered.set()

    def take(self, p):
        self.last = p.tunnel_id or self.last
        magic, sender, serial = HEAD.unpack(p.data[:HEAD.size])
        s = End.all[sender]
        told = resolve(self.account, self.last)
        checks = {"not ours": magic == b"datagram", "stamped as somebody else": told == s.who(),
                  "receiver has not declared the sender": s.who() in self.declared,
                  "sender has not declared the receiver": self.who() in s.declared,
                  "receiver takes nothing": not self.one_way,
                  "source address passed on": p.source_addr == ""}
        self.wrong += [f"{what}: {s.who()} #{s.number} -> {self.who()} #{self.number}, told {self.last!r}"
                       for what, true in checks.items() if not true]
        self.got.add((sender, serial))

    def is_active(self):
        return self.answer is not None and self.code is None

    def leave(self, gently):
        self.close() if gently else self.call.cancel()

    def poll(self):
        """Its thread does."""

    def send_to(self, written, serial, **forged):
        fields = {"peer_id": written} if written is not None else {}
        self.send(HEAD.pack(b"datagram", self.number, serial), **fields, **forged)


class WhomNativesDeclare:
    """All tunnels; of the other nodes those that derp.peering names."""

    def __init__(self, who):
        self.who = who

    def __contains__(self, other):
        return other[0] != "nodekey" or self.who == other or (self.who in PAIRED and other in PAIRED)


class Native:
    """A native DERP end: it names nobody, and the tunnels that name it are its peers. Read when it is asked about."""

    one_way = False

    def __init__(self, relay, node, peers):
        self.node, self.account, self.name, self.peers = node, "nodekey", node.hex, peers
        self.declared, self.number, self.got, self.wrong = WhomNativesDeclare(self.who()), len(End.all), set(), []
        End.all.append(self)
        self.client = Client(relay.port, key=node)
        assert self.client.info, "derp.allow lets all in"

    def who(self):
        return self.account, self.name

    def is_active(self):
        self.poll()
        return not self.client.closed

    def leave(self, gently):
        self.client.close() if gently else self.client.drop()
        self.client.closed = True

    def poll(self):
        while not self.client.closed and self.client.comes(0):
            f = self.client.read()
            if f and f.type == RECV:
                self.take(f.payload[:32].hex(), f.payload[32:])

    def take(self, source, data):
        magic, sender, serial = HEAD.unpack(data[:HEAD.size])
        s = End.all[sender]
        checks = {"not ours": magic == b"datagram", "stamped as somebody else": source == key_of(*s.who()),
                  "derp.peering forbids it": s.who() in self.declared, "sender has not declared the receiver": self.who() in s.declared}
        self.wrong += [f"{what}: {s.who()} #{s.number} -> {self.who()} #{self.number}" for what, true in checks.items() if not true]
        self.got.add((sender, serial))

    def send_to(self, written, serial, **forged):
        to = key_of(*resolve("main", written or "nobody"))
        self.client.send_to(bytes.fromhex(to), HEAD.pack(b"datagram", self.number, serial))


class Play:
    """Random steps of random tenants, and of native ends beside them."""

    def __init__(self, tenants, rng):
        self.t, self.rng, self.serial, self.refusals = tenants, rng, 0, 0
        self.instances = {(a, n): rng.randbytes(16) for a in ACCOUNTS for n in NAMES}
        End.all = []

    def anybody(self, account):
        if self.rng.random() < 0.15:
            return self.rng.choice(NODES).text
        other, name = self.rng.choice(ACCOUNTS), self.rng.choice(NAMES)
        return name if other == account and self.rng.random() < 0.7 else f"{other}/{name}"

    def peers(self, account, name):
        found = {}
        for _ in range(self.rng.randint(1, 6)):
            written = self.anybody(account)
            if resolve(account, written) != (account, name):
                found.setdefault(resolve(account, written), written)
        return list(found.values()) or ["nobody"]

    def join_native(self):
        here = {e.who() for e in End.all if isinstance(e, Native) and e.is_active()}
        node = self.rng.choice(NODES)
        if ("nodekey", node.hex) in here:
            return
        others = [f"{a}/{n}" for a in ACCOUNTS for n in NAMES] + [n.text for n in NODES if n is not node]
        Native(self.t.relay, node, self.rng.sample(others, 12))

    def join(self):
        if self.rng.random() < 0.15:
            self.join_native()
            return
        account, name = self.rng.choice(ACCOUNTS), self.rng.choice(NAMES)
        claim, token, want = name, self.t.free[account], None
        if self.rng.random() < 0.3:
            bound = self.rng.choice(NAMES[:2])
            token = self.t.bound[account, bound]
            if self.rng.random() < 0.5:
                name, claim = bound, self.rng.choice(["", bound])
            elif bound != name:
                want = "PERMISSION_DENIED"
        instance = self.instances[account, name] if self.rng.random() < 0.9 else self.rng.choice([b"", self.rng.randbytes(16)])
        end = End(self.t, self.rng.choice(self.t.channels), account, name, token, self.peers(account, name),
                  self.rng.random() < 0.1, claim=claim, instance=instance, version=self.rng.choice([0, 1]))
        assert end.registered.wait(20), "no answer to a registration"
        if want:
            assert (end.answer, end.code) == (None, want)
            self.refusals += 1
        elif end.answer:
            assert (end.answer.account, end.answer.tunnel_id) == (account, name)
        else:
            assert end.code == "UNAVAILABLE", "only a fight over an id keeps a good registration out"

    def leave(self, end):
        end.leave(self.rng.random() < 0.5)

    def send(self, end):
        for _ in range(self.rng.randint(1, 8)):
            self.serial += 1
            to = self.rng.choice([self.rng.choice(end.peers), self.rng.choice(end.peers), self.anybody(end.account), None])
            forged = {}
            if self.rng.random() < 0.5:
                forged = {"tunnel_id": self.anybody(end.account), "source_addr": self.rng.choice(["127.0.0.1:53", "x" * 50])}
            end.send_to(to, self.serial, **forged)

    def step(self):
        active = [e for e in End.all if e.is_active()]
        what = self.rng.random()
        if not active or what < 0.25:
            self.join()
        elif what < 0.32:
            self.leave(self.rng.choice(active))
        else:
            self.send(self.rng.choice(active))


def mutual_pairs(ends):
    by_key = {e.who(): e for e in ends}
    for s in ends:
        for p in s.peers:
            r = by_key.get(resolve(s.account, p))
            if r and s.who() in r.declared and not r.one_way:
                yield s, r, p


def settled(relay):
    """The ends that the relay has too, once both agree."""
    end = time.monotonic() + 30
    while True:
        active = [e for e in End.all if e.is_active()]
        if relay.counters()["sessions_open"] == len(active):
            return active
        assert time.monotonic() < end, "relay and ends do not agree who is there"
        time.sleep(0.1)


def enough(pairs):
    """Between tunnels, and between a tunnel and a node both ways."""
    kinds = [(s.account == "nodekey", r.account == "nodekey") for s, r, _ in pairs]
    return len(kinds) >= 4 and (True, False) in kinds and (False, True) in kinds and (False, False) in kinds


def everything_mutual_arrives(active):
    """Sends both what must arrive and what must not; the former is waited for."""
    pairs = list(mutual_pairs(active))
    assert enough(pairs), "nobody could have received anything: the test proves nothing"
    serial, deadline, missing = 1 << 30, time.monotonic() + 30, pairs
    while missing:
        assert time.monotonic() < deadline, f"never arrived: {[(s.who(), r.who()) for s, r, _ in missing]}"
        for e in active:
            for name in NAMES:
                for account in ACCOUNTS:
                    e.send_to(f"{account}/{name}", serial)
            for node in NODES:
                e.send_to(node.text, serial)
        for s, r, p in missing:
            serial += 1
            s.send_to(p, serial)
        time.sleep(0.3)
        for e in active:
            e.poll()
        missing = [(s, r, p) for s, r, p in pairs if not any(n == s.number and at >= 1 << 30 for n, at in list(r.got))]
    return len(pairs)


def wrong():
    return [w for e in End.all for w in e.wrong]


def test_T18_random_tenants_and_nodes_never_see_what_they_and_their_peers_did_not_declare(world, stubs):
    relay = world.relay(args=["--derp.allow", "any", *(w for n in NODES[:3] for w in ("--derp.peering", n.text))])
    seed = int(os.environ.get("TUNN_SEED") or random.SystemRandom().getrandbits(32))
    print(f"TUNN_SEED={seed}")
    tenants = Tenants(world, relay, stubs)
    play = Play(tenants, random.Random(seed))
    for _ in range(ROUNDS):
        play.step()
        assert not wrong(), f"TUNN_SEED={seed}: {wrong()[:5]}"
    while not enough(list(mutual_pairs(settled(relay)))):  # counted when those who leave have left
        play.join()
    n = everything_mutual_arrives(settled(relay))
    assert not wrong(), f"TUNN_SEED={seed}: {wrong()[:5]}"
    c = relay.counters()
    print(f"{len(End.all)} streams, {play.serial} datagrams, {n} mutual pairs at the end, {play.refusals} refused; {dict(c)}")
    assert play.refusals > 0 and c["takeovers_total"] > 0
    assert min(c["drop_not_declared"], c["drop_not_mutual"], c["drop_no_route"]) > 0, "the attempts must be counted"


# -- the same, one attempt at a time

@pytest.fixture
def tenants(world, relay, stubs):
    return Tenants(world, relay, stubs)


def enter(t, account, name, peers, **register):
    end = End(t, t.channels[0], account, name, t.free[account], peers, False, **register)
    assert end.registered.wait(20)
    return end


def counted(relay, counter, n):
    end = time.monotonic() + 20
    while relay.counters()[counter] < n:
        assert time.monotonic() < end, f"{counter} stays below {n}"
        time.sleep(0.05)


def test_T18_sending_to_another_tenants_end_delivers_nothing_and_is_counted(relay, tenants):
    a = enter(tenants, "red", "home", ["laptop", "blue/friend"])
    b = enter(tenants, "blue", "home", ["red/home", "laptop"])
    for serial in range(10):
        b.send_to("red/home", serial)  # declared here, not there
        b.send_to("red/laptop", serial)  # declared by nobody
    counted(relay, "drop_not_mutual", 10)
    counted(relay, "drop_not_declared", 10)
    assert not a.got and relay.counters()["packets_out_total"] == 0


def test_T18_a_name_equal_to_anothers_receives_nothing_of_it(relay, tenants):
    victim = enter(tenants, "red", "home", ["laptop"])
    partner = enter(tenants, "red", "laptop", ["home"])
    double = enter(tenants, "blue", "home", ["laptop", "red/laptop"])
    for serial in range(10):
        partner.send_to("home", serial)
        double.send_to("red/laptop", serial, tunnel_id="red/home")
        double.send_to("laptop", serial, tunnel_id="home")
    counted(relay, "packets_out_total", 10)
    counted(relay, "drop_not_mutual", 10)
    counted(relay, "drop_no_route", 10)
    assert victim.is_active() and double.is_active() and not wrong()
    end = time.monotonic() + 20
    while len(victim.got) < 10:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not double.got and not partner.got


def test_T18_a_forged_source_is_replaced_by_the_real_one(relay, tenants):
    a = enter(tenants, "red", "home", ["laptop", "blue/spy"])
    enter(tenants, "red", "laptop", ["home"])
    spy = enter(tenants, "blue", "spy", ["red/home"])
    for serial in range(10):
        spy.send_to("red/home", serial, tunnel_id=["laptop", "red/laptop", "\0", "x" * 5000][serial % 4])
    counted(relay, "packets_out_total", 10)
    end = time.monotonic() + 20
    while len(a.got) < 10:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not wrong() and a.last == "blue/spy"


def test_T18_the_hash_of_anothers_id_opens_nothing(relay, tenants):
    a = enter(tenants, "red", "home", ["laptop"])
    hashed = key_of("red", "home")
    for fields in ({"peers": ["nodekey:" + hashed]}, {"peers": ["laptop"], "claim": hashed},
                   {"peers": ["laptop"], "claim": "nodekey:" + hashed}, {"peers": ["laptop"], "claim": "red/home"}):
        spy = enter(tenants, "blue", "spy", **fields)
        assert (spy.answer, spy.code) == (None, "INVALID_ARGUMENT")
    spy = enter(tenants, "blue", "spy", ["laptop"])
    for serial, to in enumerate(("nodekey:" + hashed, hashed, "red/home")):
        spy.send_to(to, serial)
    counted(relay, "drop_not_declared", 3)
    assert a.is_active() and not a.got


# -- one id, several holders (T19, F39)

def test_T19_two_clients_of_one_id_leave_exactly_one_active_and_both_are_told(relay, tenants):
    streams, instances = [], [os.urandom(16), os.urandom(16)]
    for n in range(100):
        streams.append(enter(tenants, "red", "home", ["laptop"], instance=instances[n % 2]))
    refused = [s for s in streams if s.code]
    assert len(refused) > 90 and {s.code for s in refused} <= {"UNAVAILABLE", "ABORTED"}
    end = time.monotonic() + 30
    for instance in instances:  # once the id has rested, the newest wins again
        while not (last := enter(tenants, "red", "home", ["laptop"], instance=instance)).is_active():
            assert last.code == "UNAVAILABLE" and time.monotonic() < end
            time.sleep(0.2)
        streams.append(last)
    active = settled(relay)
    assert active == [streams[-1]]
    assert streams[-2].code == "ABORTED"


def test_T19_a_client_that_reconnects_100_times_takes_over_from_itself(relay, tenants):
    mine = os.urandom(16)
    streams = [enter(tenants, "red", "home", ["laptop"], instance=mine) for _ in range(100)]
    assert settled(relay) == [streams[-1]]
    assert {s.code for s in streams[:-1]} == {"CANCELLED"}, "replaced by itself is neither superseded nor a fight"
    assert relay.counters()["takeovers_total"] == 99


def test_F39_clones_that_fight_over_an_id_wait_10_s_and_are_told(world, relay):
    clones = []
    for _ in range(4):
        clones.append(world.end(relay, free_port(), "laptop", "home", "--listen"))
        clones[-1].wait_for("connected as laptop")
    assert [c.exit_code() for c in clones[:3]] == [3, 3, 3]
    clones.append(world.end(relay, free_port(), "laptop", "home", "--listen"))
    for c in clones[3:]:
        seconds = c.wait_for(r"reconnecting in (\d+).* several instances").group(1)
        assert int(seconds) >= 10
    switched = relay.counters()["takeovers_total"]
    end = time.monotonic() + 30
    while relay.counters()["sessions_open"] == 0 or all(c.p.poll() is None for c in clones[3:]):
        assert time.monotonic() < end, "nobody got the id, or both keep trying"
        time.sleep(0.1)
    assert relay.counters()["takeovers_total"] == switched + 1
    assert sorted(c.p.poll() is None for c in clones[3:]) == [False, True]


# -- names that are not what they seem (T14)

NOT_NAMES = {
    "nul": b"alice\0x", "nul_first": b"\0alice", "nul_alone": b"\0", "leading_minus": b"-a", "64_characters": b"a" * 64,
    "upper_case": b"Alice", "underscore": b"al_ice", "dot": b"al.ice", "blank": b"al ice", "newline": b"alice\n", "percent": b"%61lice",
    "cyrillic_a": "\u0430lice".encode(), "fullwidth": "\uff41lice".encode(), "combining": "a\u0301lice".encode(),
    "zero_width": "al\u200bice".encode(), "right_to_left": "ali\u202ece".encode(), "kelvin_sign": "\u212aelvin".encode(),
    "overlong_2": b"\xc1\xa1lice", "overlong_3": b"\xe0\x81\xa1lice", "overlong_nul": b"\xc0\x80", "surrogate": b"\xed\xa0\x80lice",
    "cut_utf8": b"alice\xc3", "beyond_unicode": b"\xf4\x90\x80\x80lice", "byte_order_mark": "\ufeffalice".encode(),
}


@pytest.mark.parametrize("row", NOT_NAMES)
def test_T14_names_outside_the_grammar_are_refused_wherever_they_stand(relay, row):
    token, name = Tenants.read(relay.token), NOT_NAMES[row]
    for fields in (dict(tunnel_id=name), dict(peers=(name,)), dict(peers=(b"good", name)), dict(peers=(name + b"/home",)),
                   dict(peers=(b"red/" + name,))):
        peer = Peer(relay.port)
        peer.call()
        peer.frame(DATA, 0, 1, register(token, **fields))
        assert peer.answer()["grpc-status"] == "3", fields
        assert peer.is_alive()
        peer.close()
    assert relay.counters()["sessions_open"] == 0
