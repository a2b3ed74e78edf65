"""Hundreds of ends of one relay, played by tests/support/ends.c."""
import json
import os
import re
import resource
import time

from harness import BUILD


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))


class Herd:
    """`total` ends of several accounts in processes of `sizes` ends each."""

    def __init__(self, world, relay, sizes, seed, n_accounts=10, one_source=False):
        raise_descriptor_limit()
        self.relay, self.total, self.parts = relay, sum(sizes), []
        assert self.total % 4 == 0, "every end has a partner and an opposite"
        tokens = f"{world.tmp}/tokens"
        with open(os.open(tokens, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            for account in ["main", *(f"tenant-{i}" for i in range(1, n_accounts))]:
                with open(relay.token if account == "main" else world.new_account(relay, account)) as t:
                    f.write(f"{account} {t.read().strip()}\n")
        first = 0
        for n in sizes:
            argv = [f"{BUILD}/support/ends", str(relay.port), f"{relay.state}/tls-cert.pem", tokens, str(self.total),
                    str(first), str(n), str(seed + first)] + (["one"] if one_source else [])
            self.parts.append(world.program(argv, interactive=True))
            first += n

    def tell(self, line):
        for p in self.parts:
            p.tell(line)

    def talk(self, pps):
        self.tell(f"talk {pps // len(self.parts)}")

    def reports(self):
        """What the parts count, summed up; their drops too."""
        at = [p.count() for p in self.parts]
        self.tell("report")
        total = {"dropped": 0}
        for p, n in zip(self.parts, at):
            for key, value in json.loads(p.wait_for(r"^report (.*)$", 60, after=n).group(1)).items():
                total[key] = total.get(key, 0) + value
            counters = p.wait_for(r"^tunn: counters (.*)$", 60, after=n).group(1)
            for reason, value in re.findall(r"\bdrop_(\w+)=(\d+)", counters):
                total["dropped"] += int(value)
                total["drop_" + reason] = total.get("drop_" + reason, 0) + int(value)
        return total

    def all_ready(self, seconds):
        """Waits until every end is connected, and gives how long that took."""
        start = time.monotonic()
        while True:
            r = self.reports()
            if r["ready"] == r["uplinks"] == self.total:
                return time.monotonic() - start
            assert time.monotonic() - start < seconds, f"not all ends are there after {seconds} s: {r}"
            time.sleep(0.1)

    def leave(self):
        """All ends go. Gives for each part the number of its first line afterwards."""
        at = [p.count() for p in self.parts]
        self.tell("leave")
        for p, n in zip(self.parts, at):
            p.wait_for("^left$", 60, after=n)
        return at
