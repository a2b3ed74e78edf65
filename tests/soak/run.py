#!/usr/bin/env python3
"""The soak: 500 ends of a real relay with connects, disconnects, floods, faults and traffic at random, and people at work.

MINUTES=30 SEED=n TUNN_BUILD=build/asan. Storms alternate with calms in which every end is connected and nothing moves:
only such states are compared. At the end all datagrams are accounted for. Writes build/soak-FLAVOUR.json, prints a
table, and ends with 1 when a condition does not hold.
"""
import glob
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=1:detect_leaks=1")
from floods import Floods  # noqa: E402
from harness import BUILD, SANITIZER_REPORT, World  # noqa: E402
from herd import Herd  # noqa: E402
from people import People  # noqa: E402
from test_admin import admin_relay  # noqa: E402

MINUTES = float(os.environ.get("MINUTES") or 30)
SEED = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
ASAN = "asan" in BUILD
SIZES = [120, 120, 120, 120, 20]  # the last is the one whose readers stall for long
STORM_S, PPS, FAULTS_PER_S = 12, (1500 if ASAN else 5000), 4
SLOPE_MAX = 1024  # KiB an hour
# What is left, and what each thread keeps ready for its next burst, bounded by constants: 1 MiB of packets, as many with the mail
# of others, 1 MiB of blocks and 16 buffers of records.
HEAP_LEFT_KB = 2048 + len(os.sched_getaffinity(0)) * (3 * 1024 + 16 * 17)
HEAP_NOISE_KB = 128  # sessions differ a little
NOISE_KB = 512  # what the allocator keeps or gives back by chance
ROUTED = ["no_route", "not_declared", "not_mutual", "one_way", "over_limit"]  # decided between in and out
LEFT = re.compile(r"end left id=(\S+) account=(\S+) from=(\S+) reason=(\S+) packets_in=(\d+) packets_out=(\d+) dropped=(\d+) "
                  r"ignored=(\d+)")
SESSION = re.compile(r"^session id=(\S+) account=(\S+) from=(\S+) handed=(\d+) got=(\d+) ignored=(\d+)$")


class Failed(Exception):
    pass


def check(true, words):
    if not true:
        raise Failed(words)


def resident_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1))


def descriptors(pid):
    """Without the journal of usage, which is opened when there is some."""
    return sum(not os.readlink(path).endswith(".journal") for path in glob.glob(f"/proc/{pid}/fd/*"))


class Soak:
    def __init__(self, world):
        self.rng = random.Random(SEED)
        self.relay = admin_relay(world, "--limits.penalty", "off")  # the floods are to go on
        self.pid = self.relay.p.pid
        with open(self.relay.token) as f:
            token = f.read().strip()
        self.herd = Herd(world, self.relay, SIZES, SEED)
        self.before = self.state()
        self.floods = Floods(self.relay.port, token, SEED)
        self.people = People(self.relay, SEED)
        self.calms, self.done = [], {"stops of the relay": 0, "stops of ends": 0, "reloads": 0}

    def state(self):
        return {"heap_kb": self.relay.counters()["heap_bytes"] // 1024, "resident_kb": resident_kb(self.pid),
                "descriptors": descriptors(self.pid)}

    # -- storm

    def freeze(self, program, seconds):
        program.p.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        program.p.send_signal(signal.SIGCONT)

    def mischief(self):
        what = self.rng.random()
        if what < 0.1:
            self.freeze(self.relay, self.rng.uniform(0.5, 3))
            self.done["stops of the relay"] += 1
        elif what < 0.3:
            part = self.rng.choice(self.herd.parts)
            self.freeze(part, 7 if part is self.herd.parts[-1] else self.rng.uniform(0.5, 2))
            self.done["stops of ends"] += 1
        elif what < 0.35:
            self.relay.p.send_signal(signal.SIGHUP)
            self.done["reloads"] += 1
        else:
            time.sleep(self.rng.uniform(0.2, 1))

    def storm(self):
        self.herd.talk(PPS)
        self.herd.tell(f"wild {FAULTS_PER_S}")
        self.floods.may.set()
        self.people.may.set()
        end = time.monotonic() + STORM_S
        while time.monotonic() < end:
            self.mischief()
        self.floods.may.clear()
        self.people.rest()
        self.herd.tell("wild 0")
        self.herd.tell("talk 0")

    # -- calm

    def counters(self):
        c = self.relay.counters()
        check(self.relay.p.poll() is None, "the relay has ended")
        return c

    def settle(self, sessions, seconds=90):
        """Until only our ends are there and no counter of datagrams moves any more."""
        end, last = time.monotonic() + seconds, None
        while True:
            c = self.counters()
            moving = {k: v for k, v in c.items() if k.startswith("packets_") or k.startswith("drop_")}
            calm = moving == last and c["sessions_open"] == c["connections_open"] == sessions and self.floods.busy == 0
            if calm:
                return c
            last = moving
            check(time.monotonic() < end, f"no calm within {seconds} s: {sessions} ends expected, {dict(c)}")
            time.sleep(0.5)

    def calm(self, started):
        seconds = self.herd.all_ready(90)
        self.settle(self.herd.total)
        time.sleep(4.5)  # the relay gives free memory back after 2 s without traffic, and looks every 2 s
        self.calms.append({"at_s": round(time.monotonic() - started, 1), **self.state(), "all_back_s": round(seconds, 1)})
        print(f"calm {len(self.calms)}: {self.calms[-1]}", file=sys.stderr, flush=True)

    def run(self):
        started = time.monotonic()
        self.herd.tell("start")
        self.calm(started)
        while time.monotonic() - started < MINUTES * 60:
            self.storm()
            self.calm(started)
        self.floods.stop()
        self.people.stop()
        reports = self.herd.reports()
        left_at = self.herd.leave()
        counters = self.settle(0)
        after = self.state()
        for p in self.herd.parts:
            p.p.stdin.close()
            check(p.exit_code(60) == 0, f"the ends ended with {p.p.returncode}:\n" + p.text()[-3000:])
        self.relay.p.terminate()
        check(self.relay.exit_code(60) == 0, f"the relay ended with {self.relay.p.returncode}:\n" + self.relay.text()[-3000:])
        for p in [self.relay, *self.herd.parts]:
            check(not re.search(SANITIZER_REPORT, p.text()), "a sanitizer reported:\n" + p.text()[-5000:])
        return reports, counters, after, left_at


# -- what is found

def slope(points):
    """KiB an hour by Theil and Sen, with the 95 % interval of Kendall's statistic."""
    if len(points) < 3:
        return None
    slopes = sorted((y2 - y1) / (x2 - x1) * 3600 for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1:])
    n = len(points)
    reach = 1.96 * (n * (n - 1) * (2 * n + 5) / 18) ** 0.5
    low = max(0, int((len(slopes) - reach) / 2))
    return {"kb_per_hour": statistics.median(slopes), "low": slopes[low], "high": slopes[len(slopes) - 1 - low], "points": n}


def memory(calms, what, noise_kb):
    """After a warm-up of a third. Growth is proven when even the lower end of the interval exceeds the bound; of the heap,
    which hardly has noise, a quarter of an hour shows the slope itself."""
    warm = calms[len(calms) // 3:]
    found = slope([(c["at_s"], c[what]) for c in warm])
    check(found, "too few calms to say anything of memory")
    hours = (warm[-1]["at_s"] - warm[0]["at_s"]) / 3600
    surely = found["kb_per_hour"] if what == "heap_kb" and hours >= 0.25 else found["low"]
    return found | {"hours": hours, "allowed_kb": SLOPE_MAX * hours + noise_kb, "grown_kb": surely * hours}


def by_connection(soak, left_at):
    """Pairs what the relay logged of each end's session with what the end counted."""
    server = {}
    for line in soak.relay.lines:
        if m := LEFT.search(line):
            server.setdefault(m.groups()[:3], []).append([int(n) for n in m.groups()[4:]])
    rows = []
    for part, at in zip(soak.herd.parts, left_at):
        for n, line in enumerate(part.lines):
            if m := SESSION.match(line):
                handed, got, ignored = (int(n) for n in m.groups()[3:])
                logged = server.get(m.groups()[:3])
                if not logged:
                    check(handed == got == 0, f"the relay never had this session: {line}")
                    continue
                taken, out, dropped, ignored_there = logged.pop(0)
                rows.append({"intact": n >= at, "up": handed - taken - ignored_there, "down": out - dropped - got - ignored,
                             "dropped": dropped, "ignored by the relay": ignored_there, "ignored by ends": ignored, "line": line})
    strangers = [k for k, v in server.items() if v and not k[0].startswith("flood-")]
    check(not strangers, f"sessions that no end knows of: {strangers[:5]}")
    return rows


def account(soak, ends, relay, left_at):
    """Every datagram: delivered, dropped for a reason, or in flight on a connection that broke."""
    drops = {k[5:]: v for k, v in relay.items() if k.startswith("drop_")}
    rows = by_connection(soak, left_at)
    lost_up, lost_down, queue_drops, ignored, ignored_by_ends = (
        sum(r[k] for r in rows) for k in ("up", "down", "dropped", "ignored by the relay", "ignored by ends"))
    routed = relay["packets_in_total"] - relay["packets_out_total"]
    # Not ours: what floods say before they are admitted. On a connection that is dead already: counted for no session.
    rest = sum(drops.values()) - drops.get("not_ready", 0) - routed - queue_drops - ignored
    # What waited for the rate of its account when its end went.
    held = routed - sum(drops.get(k, 0) for k in ROUTED)
    bad = [r["line"] for r in rows if r["up"] < 0 or r["down"] < 0 or (r["intact"] and (r["up"] or r["down"]))]
    found = {
        "sent by ends": ends["sent"], "delivered by ends": ends["delivered"],
        "wrong at ends": {k: ends[k] for k in ("corrupt", "reordered", "foreign", "unwanted")},
        "dropped by ends": {k[5:]: v for k, v in ends.items() if k.startswith("drop_")},
        "into the relay": relay["packets_in_total"], "out of the relay's router": relay["packets_out_total"],
        "dropped by the relay": drops, "held for the rate when its end went": held,
        "in flight on broken connections": {"towards the relay": lost_up, "towards ends": lost_down,
                                            "most on one": max(max(r["up"], r["down"]) for r in rows)},
        "ignored when they came (too old after a stop)": {"by the relay": ignored, "by ends": ignored_by_ends},
        "connections": len(rows), "intact": sum(r["intact"] for r in rows),
    }
    conditions = {
        "ends: sent + received = handed on + delivered + dropped":
            ends["sent"] + ends["got"] + ignored_by_ends == ends["handed"] + ends["delivered"] + ends["dropped"],
        "relay: in = out + dropped by the router + held for the rate": 0 <= held <= drops.get("link_closed", 0),
        "relay: drops of the sessions = counters": 0 <= rest <= drops.get("link_closed", 0),
        "connections: nothing doubled, intact ones lost nothing": not bad,
        "all connections: handed on = in + ignored + in flight": ends["handed"] == relay["packets_in_total"] + ignored + lost_up,
        "all connections: out = received + ignored + dropped + in flight":
            relay["packets_out_total"] == ends["got"] + ignored_by_ends + queue_drops + lost_down,
    }
    return found, conditions, bad


def judge(soak, ends, relay, after, left_at):
    found, conditions, bad = account(soak, ends, relay, left_at)
    rss, heap = memory(soak.calms, "resident_kb", NOISE_KB), memory(soak.calms, "heap_kb", HEAP_NOISE_KB)
    conditions |= {
        "no datagram damaged, reordered, of a stranger or not declared":
            ends["corrupt"] == ends["reordered"] == ends["foreign"] == ends["unwanted"] == 0,
        "no end refused for good": ends["refused"] == 0,
        f"people: {soak.people.failure or 'all were answered'}": not soak.people.failure,
        "descriptors: one for each end, all given back":
            all(c["descriptors"] == soak.before["descriptors"] + soak.herd.total for c in soak.calms)
            and after["descriptors"] == soak.before["descriptors"],
        # AddressSanitizer's allocator gives nothing back: resident memory follows the largest crowd so far.
        f"resident memory: grows less than {SLOPE_MAX} KiB/h beyond noise": ASAN or rss["grown_kb"] <= rss["allowed_kb"],
        f"heap in use: grows less than {SLOPE_MAX} KiB/h beyond noise": heap["grown_kb"] <= heap["allowed_kb"],
        "heap in use: given back when all have left": after["heap_kb"] <= soak.before["heap_kb"] + HEAP_LEFT_KB,
        "traffic flowed": ends["delivered"] > 100 * MINUTES * 60,
    }
    return {"minutes": MINUTES, "seed": SEED, "build": os.path.basename(BUILD), "ends": soak.herd.total, "datagrams": found,
            "resident memory": rss, "heap in use": heap, "before": soak.before, "after": after, "calms": soak.calms, "counters": dict(relay),
            "faults": soak.done | {"of ends": ends["faults"]}, "floods": soak.floods.counts, "people": soak.people.counts, "conditions": conditions,
            "suspect": bad[:20]}


def show(result):
    def rows(what, indent=""):
        for k, v in what.items():
            if isinstance(v, dict):
                print(f"{indent}{k}")
                rows(v, indent + "  ")
            else:
                print(f"{indent}{k:<{58 - len(indent)}} {v:>14}" if not isinstance(v, float) else
                      f"{indent}{k:<{58 - len(indent)}} {v:>14.3f}")
    rows({k: result[k] for k in ("datagrams", "faults", "floods", "people", "resident memory", "heap in use", "before", "after")})
    for words, holds in result["conditions"].items():
        print(f"{'ok    ' if holds else 'FAILED'}  {words}")
    for line in result["suspect"]:
        print("suspect:", line)


def main():
    print(f"soak: {MINUTES:g} minutes, SEED={SEED}, {BUILD}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="tunn-soak-") as tmp:
        world = World(tmp)
        try:
            soak = Soak(world)
            result = judge(soak, *soak.run())
        except (Failed, AssertionError) as e:
            sys.exit(f"soak: SEED={SEED}: {e}")
        finally:
            world.stop()
    with open(f"build/soak-{os.path.basename(BUILD)}.json", "w") as f:
        json.dump(result, f, indent=1)
    show(result)
    sys.exit(0 if all(result["conditions"].values()) else 1)


main()
