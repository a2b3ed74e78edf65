#!/usr/bin/env python3
"""The figures of docs/PERFORMANCE.md, each beside a baseline of the same round.

Picks the modules of figures (ONLY=links,load: just these), interleaves their rounds (ROUNDS=N instead of each
module's own number), writes build/bench.json and prints a table. A measurement that is not valid ends it with 1;
a goal that was missed does not: this machine may be busy.
"""
import glob
import importlib
import json
import operator
import os
import re
import statistics
import sys
import tempfile
import time

from bench import Disturbed, Invalid, Missing, World

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS, TRIES = 5, 3
GOALS = {"at most": operator.le, "below": operator.lt, "at least": operator.ge}


def modules():
    """Every module here that has figures, or those that are asked for."""
    found = {}
    for path in sorted(glob.glob(f"{HERE}/*.py")):
        name = os.path.basename(path)[:-3]
        with open(path, encoding="utf-8") as f:
            if re.search(r"^FIGURES\b", f.read(), re.M):
                found[name] = path
    wanted = os.environ.get("ONLY", "").replace(",", " ").split() or list(found)
    if unknown := set(wanted) - set(found):
        sys.exit(f"bench: no {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return {name: importlib.import_module(name) for name in wanted}


def rounds(module):
    return int(os.environ.get("ROUNDS") or getattr(module, "ROUNDS", ROUNDS))


def one_try(module, number):
    """In a world of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tunn-bench-") as tmp:
        world = World(tmp)
        try:
            return module.measure(world, number)
        except AssertionError as e:
            raise Invalid(str(e)) from e
        finally:
            world.stop()


def one_round(module, number, say):
    for left in reversed(range(TRIES)):
        start = time.monotonic()
        try:
            found = one_try(module, number)
            say(f"{time.monotonic() - start:.0f} s")
            return found
        except Disturbed as e:
            say(f"disturbed: {e}")
            if not left:
                raise
    return None


def measure(found):
    """What was seen of each figure, and of each module what is wrong."""
    seen = {name: [] for m in found.values() for name in m.FIGURES}
    wrong = {}
    last = max(rounds(m) for m in found.values())
    for n in range(last):
        for name, module in found.items():
            if n >= rounds(module) or name in wrong:
                continue
            try:
                for figure, pair in one_round(module, n, lambda words, head=f"round {n + 1} of {rounds(module)}: {name}": print(
                        f"{head}: {words}", file=sys.stderr, flush=True)).items():
                    seen[figure].append(pair)
            except (Invalid, Missing) as e:
                wrong[name] = e
    return seen, wrong


# -- what comes of it

def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def is_reached(goal, median):
    words, bound = re.match(r"(at most|below|at least) ([\d.]+)", goal).groups()
    return GOALS[words](median, float(bound))


def figure(module, name, declared, pairs):
    unit, baseline, goal = declared
    f = {"module": module, "name": name, "unit": unit, "rounds": len(pairs), **spread([v for v, _ in pairs]),
         "ratio": None, "baseline": None, "goal": goal, "reached": None}
    if baseline:
        if not all(b and b > 0 for _, b in pairs):
            raise Invalid(f"no baseline for {name}")
        f["ratio"] = spread([v / b for v, b in pairs])
        f["baseline"] = {"name": baseline, "unit": unit, **spread([b for _, b in pairs])}
    if goal:
        f["reached"] = is_reached(goal, (f["ratio"] or f)["median"])
    return f


def figures(found, seen, wrong):
    """Those that are valid; a module with one that is not gets no figures."""
    good = []
    for name, module in found.items():
        if name in wrong:
            continue
        try:
            good += [figure(name, n, declared, seen[n]) for n, declared in module.FIGURES.items() if seen[n]]
            if missing := [n for n in module.FIGURES if not seen[n]]:
                raise Invalid(f"never measured: {', '.join(missing)}")
        except Invalid as e:
            wrong[name] = e
    return good


def digits(v):
    return f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.3g}" if abs(v) < 10 else f"{v:.1f}"


def table(good):
    rows = [["figure", "unit", "min", "median", "max", "ratio: min", "median", "max", "goal", "reached", "baseline (median)"]]
    for f in good:
        three = [digits(f[k]) for k in ("min", "median", "max")]
        ratio = [digits(f["ratio"][k]) for k in ("min", "median", "max")] if f["ratio"] else ["", "", ""]
        base = f"{f['baseline']['name']} {digits(f['baseline']['median'])}" if f["baseline"] else ""
        reached = {True: "yes", False: "no", None: ""}[f["reached"]]
        rows.append([f["name"], f["unit"], *three, *ratio, f["goal"] or "", reached, base])
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    right = range(2, 8)
    for r in rows:
        print("  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip())


def main():
    found = modules()
    seen, wrong = measure(found)
    good = figures(found, seen, wrong)
    command = " ".join([f"{k}={os.environ[k]}" for k in ("ONLY", "ROUNDS") if os.environ.get(k)] + ["make bench"])
    result = {"command": command, "figures": good,
              "invalid": {n: str(e) for n, e in wrong.items() if isinstance(e, Invalid)},
              "missing": {n: str(e) for n, e in wrong.items() if isinstance(e, Missing)}}
    with open("build/bench.json", "w") as f:
        json.dump(result, f, indent=1)
    table(good)
    for kind, words in (("missing", "not measured"), ("invalid", "not valid")):
        for name, why in result[kind].items():
            print(f"bench: {name}: {words}: {why}", file=sys.stderr)
    sys.exit(1 if result["invalid"] else 0)


if __name__ == "__main__":
    main()
