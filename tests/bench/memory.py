"""What an idle tunnel holds in memory: resident, beside a bare OpenSSL connection, and whose it is."""
import os
import socket
import ssl
import statistics
import struct
import time

from bench import BUILD, check, resident_kb
from herd import Herd, raise_descriptor_limit

ROUNDS = 3
TUNNELS, WAVE = 5000, 500  # a wave at a time: what is measured is rest, not arrival
HEARTBEATS_S = 33  # two of them, at most 16.5 s apart
BARE = "bare OpenSSL connection"
OWNERS = ("tunn's own", "OpenSSL", "nghttp2", "libevent")  # as in preload/owners.c
FIGURES = {
    "resident memory per idle tunnel": ("kB", None, "at most 20"),
    "the same beside a bare OpenSSL connection": ("kB", BARE, None),
    "idle tunnel awake, of all": ("%", None, None),
    **{f"of an idle tunnel: {name}": ("kB", None, None) for name in (*OWNERS, "packed state of OpenSSL and nghttp2",
                                                                     "pages awake, and the allocator's slack")},
}


class Idle:
    """A relay and registered ends that say nothing but heartbeats."""

    def __init__(self, world, name, n, **kw):
        raise_descriptor_limit()
        self.relay = world.relay(name=name, **kw)
        self.herd, self.n = Herd(world, self.relay, [WAVE] * (n // WAVE), 1), 0

    def more(self):
        """The next wave, until it has come and sleeps."""
        self.herd.parts[self.n // WAVE].tell("start")
        self.n += WAVE
        self.wait(lambda c: c["sessions_open"] == self.n == c["connections_open"] and c["dens_asleep"] > 1.9 * self.n)

    def wait(self, true, seconds=60):
        end = time.monotonic() + seconds
        while not true(c := self.relay.counters()):
            check(time.monotonic() < end, f"{self.n} ends are not at rest within {seconds} s: {dict(c)}")
            time.sleep(0.2)
        return c

    def stop(self):
        for p in (*self.herd.parts, self.relay):
            p.stop()


def at_rest(world):
    """Resident kB and share of those awake, over two heartbeats of every end."""
    idle = Idle(world, "idle", TUNNELS)
    before = resident_kb(idle.relay.p.pid)
    for _ in range(TUNNELS // WAVE):
        idle.more()
    kb, awake, end = [], [], time.monotonic() + HEARTBEATS_S
    while time.monotonic() < end:
        kb.append((resident_kb(idle.relay.p.pid) - before) / TUNNELS)
        awake.append(100 - idle.relay.counters()["dens_asleep"] * 50 / TUNNELS)
        time.sleep(0.5)
    c = idle.relay.counters()
    check(c["sessions_open"] == TUNNELS == c["registrations_total"], f"ends came and went: {dict(c)}")
    idle.stop()
    return statistics.mean(kb), statistics.mean(awake)


def bare_kb(world):
    """What each connection costs a server that only holds them."""
    bare = world.program([f"{BUILD}/bench/bare_tls", f"{world.tmp}/idle/tls-cert.pem", f"{world.tmp}/idle/tls-key.pem"])
    port, held = int(bare.wait_for(r"port (\d+)").group(1)), []
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    before = resident_kb(bare.p.pid)
    for i in range(TUNNELS):
        held.append(context.wrap_socket(socket.create_connection(("127.0.0.1", port))))
        bare.wait_for(f"ready {i + 1}$", after=i)
    grown = resident_kb(bare.p.pid) - before
    for s in held:
        s.close()
    bare.stop()
    return grown / TUNNELS


def whose(world):
    """Living kB of a tunnel by owner, the difference of two numbers of tunnels."""
    path, seen = f"{world.tmp}/bytes-of-owners", []
    with open(path, "wb") as f:
        f.write(bytes(8 * len(OWNERS)))
    idle = Idle(world, "owners", 2 * WAVE, env={**os.environ, "LD_PRELOAD": f"{BUILD}/bench/owners.so", "OWNERS": path})
    for _ in range(2):
        idle.more()
        c = idle.wait(lambda c: c["dens_asleep"] == 2 * idle.n)
        with open(path, "rb") as f:
            seen.append((*struct.unpack(f"{len(OWNERS)}q", f.read()), c["dens_packed_bytes"]))
    idle.stop()
    *owners, packed = ((b - a) / WAVE / 1024 for a, b in zip(*seen))
    owners[0] -= packed  # which our own functions keep
    check(min(*owners, packed) > 0, f"somebody has nothing: {seen}")
    return dict(zip((*OWNERS, "packed state of OpenSSL and nghttp2"), (*owners, packed)))


def measure(world, number):
    kb, awake = at_rest(world)
    parts = whose(world)
    parts["pages awake, and the allocator's slack"] = kb - sum(parts.values())
    return {"resident memory per idle tunnel": (kb, None), "the same beside a bare OpenSSL connection": (kb, bare_kb(world)),
            "idle tunnel awake, of all": (awake, None), **{f"of an idle tunnel: {k}": (v, None) for k, v in parts.items()}}
