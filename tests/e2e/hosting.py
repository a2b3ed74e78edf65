"""A relay with accounts, as its operator and its users see it."""
import json
import os
import subprocess
import threading
import time
from collections import namedtuple

from harness import TUNN, endpoint, free_port

MBIT = 125_000


class Counter:
    """A UDP program that counts what comes, with the time."""

    def __init__(self, world):
        self.s, self.at = world.socket(), []
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while data := self.s.recv(70000):
                self.at.append((time.monotonic(), len(data)))
        except OSError:
            pass

    def bytes(self, start=0.0, end=1e18):
        return sum(n for at, n in list(self.at) if start <= at < end)

    def settle(self, n):
        """Waits for so many, but for none that is not there a second after another came: it was dropped."""
        came, end = len(self.at), time.monotonic() + 1
        while came < n and time.monotonic() < end:
            time.sleep(0.01)
            if len(self.at) > came:
                came, end = len(self.at), time.monotonic() + 1

    def wait_for(self, n, seconds=20):
        end = time.monotonic() + seconds
        while len(self.at) < n:
            assert time.monotonic() < end, f"{len(self.at)} of {n} datagrams came"
            time.sleep(0.01)


class Hosted:
    """binary: what runs the operator's commands. env: of the ends."""

    def __init__(self, world, relay, binary=TUNN, env=None):
        self.world, self.relay, self.binary, self.env, self.tokens = world, relay, binary, env, {}

    def run(self, *words):
        r = subprocess.run([self.binary, *words, "--state", self.relay.state], capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
        return r.stdout

    def account(self, name, *terms):
        self.run("account", "add", name)
        if terms:
            self.run("account", "set", name, *terms)
        path = f"{self.world.tmp}/token-of-{name}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(self.run("token", "new", name))
        self.tokens[name] = path
        return path

    def show(self, name):
        return json.loads(self.run("account", "show", name, "--json"))["account"]

    def used(self, name):
        return self.show(name)["usage"]

    def end(self, account, me, peer, port, *words, worker=None):
        if worker is None:
            return self.world.end(self.relay, port, me, peer, *words, token=self.tokens[account], env=self.env)
        return self.world.end_at(self.relay, worker, port, me, peer, *words, token=self.tokens[account], env=self.env)

    def way(self, sender, receiver, name="", far=None, workers=(None, None)):
        """From an end of one account to one of another: where to send, what counts, both ends."""
        far = far or Counter(self.world)
        a, b = "a" + name, "b" + name
        home = self.end(receiver, b, f"{sender}/{a}", far.port, "--forward", worker=workers[1])
        laptop = self.end(sender, a, f"{receiver}/{b}", free_port(), "--listen", worker=workers[0])
        home.wait_for("is up")
        laptop.wait_for("is up")
        return endpoint(laptop), far, laptop, home


def flood(s, address, rate, seconds, size=1200):
    """Bytes that were sent, evenly."""
    start, n = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        while n < now * rate / size:
            s.sendto(bytes(size), address)
            n += 1
        time.sleep(0.002)
    return n * size


class Moved(namedtuple("Moved", "came sent")):
    """Bytes. They differ where the machine had no time: what waits for longer than 100 ms is dropped."""

    def __add__(self, other):
        return Moved(self.came + other.came, self.sent + other.sent)


def trickle(s, address, far, total, size):
    """Sends until so many bytes have come; waits for what was sent before more is."""
    first, n, end = len(far.at), 0, time.monotonic() + 20
    while (missing := first + total // size - len(far.at)) > 0:
        came = len(far.at)
        for _ in range(min(50, missing)):
            s.sendto(bytes(size), address)
            n += 1
        far.settle(came + min(50, missing))
        end = time.monotonic() + 20 if len(far.at) > came else end
        assert time.monotonic() < end, f"nothing comes any more after {came - first} datagrams"
    return Moved((len(far.at) - first) * size, n * size)
