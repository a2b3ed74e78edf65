"""A relay that is killed under load, again and again: what its accounts have used afterwards.

A round: two ends of two accounts come, a generator sends from one to the other, the relay is killed at a random moment and
started again. What the accounts then have more than after the round before is at most what the generator sent, and at
least what had arrived LOST_S before the kill: the second of the journal, and what a busy machine takes to write it.
"""
import json
import random
import signal
import struct
import time
from types import SimpleNamespace

from harness import BUILD, free_port, free_tcp_port
from hosting import Hosted

SIZE, RATE = 1000, 4000
LOST_S = 1.5


class Kills:
    def __init__(self, world, seed=1, args=("--workers", "2")):
        self.world, self.args, self.random = world, args, random.Random(seed)
        self.relay = world.relay(listen=f"127.0.0.1:{free_tcp_port()}", args=args)
        self.hosted = Hosted(world, self.relay)
        self.used = {name: 0 for name in ("acme", "bolt")}
        for name in self.used:
            self.hosted.account(name)

    def sink(self, port, path):
        p = self.world.program([f"{BUILD}/support/udpgen", "sink", f"127.0.0.1:{port}", "--seconds", "0", "--live", "--arrivals", path])
        p.wait_for("port")
        return p

    def restart(self):
        self.relay = self.world.relay(listen=f"127.0.0.1:{self.relay.port}", args=self.args)
        self.hosted.relay = self.relay

    def now_used(self):
        acme, bolt = self.hosted.used("acme"), self.hosted.used("bolt")
        assert acme["received_bytes"] == bolt["sent_bytes"] == 0
        return {"acme": acme["sent_bytes"], "bolt": bolt["received_bytes"]}

    def round(self):
        """One kill. What was lost, in seconds of the traffic: .lost_s; how much the accounts differ: .apart, in datagrams."""
        port, path = free_port(), f"{self.world.tmp}/arrivals-{len(self.world.programs)}"
        sink = self.sink(port, path)
        address, _, laptop, home = self.hosted.way("acme", "bolt", far=SimpleNamespace(port=port))
        generator = self.world.program([f"{BUILD}/support/udpgen", "send", f"{address[0]}:{address[1]}", "--rate", str(RATE), "--size",
                                        str(SIZE), "--seconds", "600"])
        sink.wait_for("  *[1-9][0-9]*/s ")
        time.sleep(self.random.uniform(0, 3))  # the moment is the point
        self.relay.p.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        self.relay.exit_code()
        generator.p.send_signal(signal.SIGTERM)
        assert generator.exit_code() == 0
        for p in (laptop, home):
            p.stop()
        sink.p.send_signal(signal.SIGTERM)
        assert sink.exit_code() == 0
        with open(path, "rb") as f:
            at = sorted(ns / 1e9 for ns, _, _ in struct.iter_unpack("=QII", f.read()))
        self.restart()
        return self.judged(json.loads(generator.lines[-1])["sent"], at, killed)

    def judged(self, sent, at, killed):
        before, self.used = self.used, self.now_used()
        new = {name: (self.used[name] - before[name]) // SIZE for name in before}
        kept, safe = min(new.values()), sum(t < killed - LOST_S for t in at)
        assert max(new.values()) <= sent, f"{new} datagrams were counted, {sent} sent"
        assert kept >= safe, f"{new} datagrams were counted, {safe} had arrived {LOST_S} s before the kill"
        last = at[min(kept, len(at)) - 1] if kept else at[0]
        return SimpleNamespace(sent=sent, arrived=len(at), counted=kept, lost_s=max(0.0, killed - last), apart=abs(new["acme"] - new["bolt"]))
