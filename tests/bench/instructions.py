#!/usr/bin/env python3
"""Instructions and allocations per datagram of the relay's way through memory (relay_path.c), by callgrind.

Two lengths of run, and the difference of both: what is done once does not count. Compares with instructions.json and
ends with 1 when a case costs more than 5 % more, or takes memory from the heap; RECORD=1 writes the file anew.
Copies are counted as loops, not as one instruction a byte (`rep movsb`).
"""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
RECORD = f"{HERE}/instructions.json"
PATH = f"{os.environ.get('TUNN_BUILD', 'build/release')}/bench/relay_path"
ALLOWED = 1.05
ALLOCATIONS = 0.01  # nghttp2 takes memory for a WINDOW_UPDATE now and then
ROUNDS = (50, 250)
CASES = {  # name: transport, datagrams that are there at once, bytes of each, further words
    "44 datagrams of 1420 bytes at once": ("grpc", 44, 1420),
    "one datagram of 1420 bytes at a time": ("grpc", 1, 1420),
    "440 datagrams of 128 bytes at once": ("grpc", 440, 128),
    "44 of 1420 bytes at once, accounts with limits": ("grpc", 44, 1420, "limits"),
    "one of 1420 bytes at a time, accounts with limits": ("grpc", 1, 1420, "limits"),
    "440 of 128 bytes at once, accounts with limits": ("grpc", 440, 128, "limits"),
    "DERP: 44 of 1280 bytes at once": ("derp", 44, 1280),
    "DERP: one of 1280 bytes at a time": ("derp", 1, 1280),
    "DERP: 440 of 100 bytes at once": ("derp", 440, 100),
    "DERP: 44 of 1280 bytes at once, accounts with limits": ("derp", 44, 1280, "limits"),
}
NO_REP = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_non_temporal_threshold=1000000000"


def run(rounds, transport, packets, size, *words):
    """Instructions, allocations, datagrams."""
    with tempfile.TemporaryDirectory() as tmp:
        r = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={tmp}/out", "--toggle-collect=relay_turn", PATH, transport,
                            str(rounds), str(packets), str(size), *words], capture_output=True, text=True, check=False,
                           env={**os.environ, "GLIBC_TUNABLES": NO_REP})
    if r.returncode:
        sys.exit(f"instructions: {r.stderr}")
    did = json.loads(r.stdout)
    return int(re.search(r"Collected : (\d+)", r.stderr).group(1)), did["allocations"], did["datagrams"]


def per_datagram(*case):
    a, b = (run(n, *case) for n in ROUNDS)
    instructions, allocations, datagrams = (y - x for x, y in zip(a, b))
    return {"instructions": round(instructions / datagrams, 1), "allocations": round(allocations / datagrams, 4)}


def main():
    found = {name: per_datagram(*case) for name, case in CASES.items()}
    if os.environ.get("RECORD"):
        with open(RECORD, "w", encoding="utf-8") as f:
            json.dump(found, f, indent=1)
            f.write("\n")
    with open(RECORD, encoding="utf-8") as f:
        record = json.load(f)
    worse = False
    for name, now in found.items():
        was = record[name]["instructions"]
        print(f"{name:52} {now['instructions']:9,.1f} instructions, recorded {was:9,.1f} ({now['instructions'] / was - 1:+.1%}), "
              f"{now['allocations']:.4f} allocations")
        worse |= now["instructions"] > ALLOWED * was or now["allocations"] > ALLOCATIONS
    sys.exit("instructions: a datagram costs more than what is recorded" if worse else 0)


main()
