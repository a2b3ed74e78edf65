#!/usr/bin/env python3
"""Fifty kills of a relay under load (ROUNDS=N, SEED=N): usage is never more than what was sent, and less by a second at most.

Prints a line for each round and what was lost at most. Ends with 1 when a round does not hold (tests/e2e/kills.py).
"""
import os
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
from harness import World  # noqa: E402
from kills import Kills  # noqa: E402


def main():
    rounds, seed = int(os.environ.get("ROUNDS") or 50), int(os.environ.get("SEED") or 1)
    print(f"kills: {rounds} rounds, SEED={seed}", flush=True)
    seen = []
    with tempfile.TemporaryDirectory(prefix="tunn-kills-") as tmp:
        world = World(tmp)
        try:
            kills = Kills(world, seed)
            for n in range(rounds):
                r = kills.round()
                seen.append(r)
                print(f"{n + 1:3}: sent {r.sent}, arrived {r.arrived}, counted {r.counted}: {r.lost_s:.3f} s lost, accounts {r.apart} apart", flush=True)
        finally:
            world.stop()
    lost = [r.lost_s for r in seen]
    print(f"lost: {min(lost):.3f} s at least, {statistics.median(lost):.3f} median, {max(lost):.3f} at most; "
          f"accounts apart by {max(r.apart for r in seen)} datagrams at most")


if __name__ == "__main__":
    main()
