"""What accounts cost: 100,000 in the database beside none, limits beside `--open`.

CPU of a datagram is taken in turns, a second each, of two relays with one worker that run at once: one is `--open`, the other's two
ends are of two accounts that have a rate and a volume they do not reach. Ends are admitted by a crowd (tests/support/ends.c) of 60
accounts among the 100,000; what the accounts thread did meanwhile says how many ends it could admit in a second: the
handshakes of TLS, on the workers, are the larger part by far.
"""
import os
import sqlite3
import statistics
import time
from types import SimpleNamespace

from bench import ONE_WORKER, SIZE, Disturbed, Tunnel, check, resident_kb, start_far, udpgen, whole
from herd import Herd
from hosting import Hosted

ROUNDS = 5
MANY, TURNS, ENDS, PROCESSES, ACCOUNTS = 100_000, 6, 2000, 8, 60
WINDOW = ("--window", "448", "--gso")
MUCH = ("--rate", "100Gbit", "--burst", "10s", "--tunnels", "1000", "--volume", "1000TB")
EMPTY, OPEN = "an empty database", "--open"
FIGURES = {
    "start with 100,000 accounts": ("s", None, "below 2"),
    "the same beside an empty database": ("s", EMPTY, None),
    "resident memory with 100,000 accounts": ("kB", EMPTY, None),
    "relay CPU per datagram, limits and 100,000 accounts": ("us", OPEN, "at most 1.1"),
    "relay CPU per 128-byte datagram, limits and 100,000 accounts": ("us", OPEN, "at most 1.1"),
    "accounts thread's CPU per admitted end": ("us", EMPTY, None),
    "ends that the accounts thread could admit": ("1/s", None, "at least 2000"),
}


def fill(state):
    """Accounts with a token and usage of two months each, as years of hosting leave them."""
    db = sqlite3.connect(f"{state}/accounts.db")
    with db:
        db.executemany("INSERT INTO account (id, name, created, tier) VALUES (?, ?, 0, 'pro')",
                       ((i, f"many-{i}") for i in range(1000, 1000 + MANY)))
        db.executemany("INSERT INTO token (kid, account, hash, created) VALUES (?, ?, ?, 0)",
                       ((f"{i:012d}", i, os.urandom(32)) for i in range(1000, 1000 + MANY)))
        db.executemany("INSERT INTO usage (account, month, boot, sent, received, packets_sent, packets_received) VALUES (?, ?, 0, 1, 2, 3, 4)",
                       ((i, month) for i in range(1000, 1000 + MANY) for month in (202601, 202602)))
    db.close()


def started(world, name, *words):
    """A relay, and the seconds until it listens."""
    begin = time.monotonic()
    relay = world.relay(name=name, args=[*ONE_WORKER, *words])
    return relay, time.monotonic() - begin


class Paying(Tunnel):
    """As a Tunnel is, of two accounts."""

    def __init__(self, world, hosted):
        self.relay = hosted.relay
        self.far, self.echo = start_far(world, "echo", "--gso")
        self.address, _, self.laptop, self.home = hosted.way("one", "other", far=SimpleNamespace(port=self.echo[1]))


def cost(world, tunnel, size):
    """CPU of the relay for one datagram, over a second of load."""
    before = tunnel.usage()
    r = whole(udpgen(world, tunnel.address, "ping", *WINDOW, size=size))
    used = tunnel.usage() - before
    check(r["received"] >= 0.99 * r["sent"], f"more than 1 % lost: {dict(used.drops)}", Disturbed)
    return used.relay_us / used.passed


def in_turns(world, paying, free, size):
    for tunnel in (paying, free):
        udpgen(world, tunnel.address, "ping", *WINDOW, seconds=0.5, size=size)  # warm
    pairs = [[cost(world, tunnel, size) for tunnel in (paying, free)] for _ in range(TURNS)]
    return tuple(statistics.mean(one) for one in zip(*pairs))


def cpu_of_threads(pid):
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            found[task] = int(f.read().split()[0]) / 1000
    return found


def accounts_thread(hosted):
    """The one that answers the operator."""
    before = cpu_of_threads(hosted.relay.p.pid)
    for _ in range(20):
        hosted.run("account", "show", "main")
    after = cpu_of_threads(hosted.relay.p.pid)
    return max(before, key=lambda task: after[task] - before[task])


def admission(world, hosted, number):
    """us of the accounts thread for each of the crowd's ends."""
    herd = Herd(world, hosted.relay, [ENDS // PROCESSES] * PROCESSES, number + 1, n_accounts=ACCOUNTS)
    thread = accounts_thread(hosted)
    before, ends = cpu_of_threads(hosted.relay.p.pid)[thread], hosted.relay.counters()["registrations_total"]
    herd.tell("start")
    herd.all_ready(120)
    us = cpu_of_threads(hosted.relay.p.pid)[thread] - before
    ends = hosted.relay.counters()["registrations_total"] - ends
    check(ends >= ENDS, f"{ends} ends were admitted")
    for p in herd.parts:
        p.stop()
    return us / ends


def measure(world, number):
    world.relay(name="many").stop()
    fill(f"{world.tmp}/many")
    seconds, kb = {}, {}
    for name in ("many", "few") if number % 2 else ("few", "many"):
        world.relay(name=name).stop()  # the page cache has it, and the first token is there
        relay, seconds[name] = started(world, name)
        kb[name] = resident_kb(relay.p.pid)
        relay.stop()
    many = Hosted(world, started(world, "many")[0])
    for name in ("one", "other"):
        many.account(name, *MUCH)
    everybody = started(world, "open", "--open")[0]
    everybody.token = many.relay.token  # an end has one, and it does not look
    free = Tunnel(world, "--gso", relay=everybody)
    paying = Paying(world, many)
    large, small = (in_turns(world, paying, free, size) for size in (SIZE, 128))
    crowded = admission(world, many, number)
    world.stop()
    empty = admission(world, Hosted(world, started(world, "few")[0]), number)
    return {
        "start with 100,000 accounts": (seconds["many"], None),
        "the same beside an empty database": (seconds["many"], seconds["few"]),
        "resident memory with 100,000 accounts": (kb["many"], kb["few"]),
        "relay CPU per datagram, limits and 100,000 accounts": large,
        "relay CPU per 128-byte datagram, limits and 100,000 accounts": small,
        "accounts thread's CPU per admitted end": (crowded, empty),
        "ends that the accounts thread could admit": (1e6 / crowded, None),
    }
