"""A relay as a DERP server, beside Tailscale's derper: the same load, certificate and cipher, in turns.

The load is tests/interop/derp/derpload. Tailscale's client costs four times what a server does, so that for what a server
can do a cheaper one takes its place (-bare): it keeps 16 packets of each of ten pairs on their way and writes all that
it may at once. Where packets go one by one nothing can be done together, neither by us nor by derper: most is the kernel's.
"""
import functools
import json
import os
import subprocess
import sys
import time

from bench import ONE_WORKER, Disturbed, Missing, check, cpu_us, resident_kb

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "interop"))
from derp_servers import PROGRAMS, ROOT, Authority, Server  # noqa: E402

DERPER = "derper"
SECONDS = 2
IDLE, SETTLE_S = 2000, 8  # two of our ticks until it naps, and some for Go's collector
CIPHER = "TLS 1.3, TLS_AES_128_GCM_SHA256"

LOADS = {  # what derpload does: its words
    "1280 bytes": ("-bare", "-size", "1280"),
    "100 bytes": ("-bare", "-size", "100"),
    "64 KiB": ("-bare", "-size", "65536", "-pairs", "1", "-window", "8"),
    "1280 bytes one by one": ("-bare", "-size", "1280", "-pairs", "50", "-window", "1"),
    "1280 bytes by Tailscale's client": ("-size", "1280"),
    "64 KiB by Tailscale's client": ("-size", "65536", "-pairs", "1", "-window", "8"),
    "1280 bytes, 1,000/s": ("-bare", "-size", "1280", "-rate", "100"),
}
CALM = "1280 bytes, 1,000/s"
GOALS = {"1280 bytes": "at most 0.333", "100 bytes": "at most 0.333"}  # of the CPU
KINDS = ("one worker", "one per core")
UNITS = {"CPU per packet": "us", "packets": "1/s", "one way p50": "us", "one way p99": "us"}
MEASURED = {f"{what}, {load}, {kind}": (what, load, kind)
            for load in LOADS for what in UNITS if (load == CALM) == (what != "packets") or what == "CPU per packet" for kind in KINDS}
FIGURES = {
    **{name: (UNITS[what], DERPER, GOALS.get(load) if what == "CPU per packet" else None) for name, (what, load, _) in MEASURED.items()},
    "resident memory per idle client": ("kB", DERPER, "at most 1"),
}


@functools.cache
def build():
    """Its programs, once; by the rules of the interop tests."""
    code = subprocess.run([f"{ROOT}/tests/interop/derp/build"], check=False).returncode
    check(code != 3, "no Go, or not the one that tests/interop/derp/go.mod names", Missing)
    check(code == 0, "derper or derpload cannot be built")


def derpload(world, server, *words):
    return world.program([f"{PROGRAMS}/derpload", "-server", server.describe(), *words], env=server.authority.env)


def put_load(world, server, words):
    """CPU of the server for each packet, and what the load tells of itself."""
    p = derpload(world, server, "-warm", "0", "-seconds", str(SECONDS), *words)
    tls = json.loads(p.wait_for('"connected"').string)["tls"]
    check(tls.startswith(CIPHER), f"{server.kind} negotiated {tls}")
    before = cpu_us(server.program.p.pid)
    r = json.loads(p.wait_for('"received"', SECONDS + 20).string)
    spent = cpu_us(server.program.p.pid) - before
    check(p.exit_code() == 0, "derpload failed: " + p.text())
    check(r["received"] > 100 and r["lost"] <= 0.01 * r["sent"], f"{server.kind} lost packets: {r}", Disturbed)
    return {"CPU per packet": spent / r["received"], "packets": r["packets_per_s"], "one way p50": r["p50_us"], "one way p99": r["p99_us"]}


def loads(world, number, servers):
    """{load: {kind: what it was}}; who is first changes."""
    names = list(servers)
    names = names[number % len(names):] + names[:number % len(names)]
    for server in servers.values():
        put_load(world, server, LOADS["1280 bytes"])  # warm
    return {load: {name: put_load(world, servers[name], words) for name in names} for load, words in LOADS.items()}


def idle_kb(world, server):
    """What a client that says nothing adds to the server, after a while."""
    before = resident_kb(server.program.p.pid)
    p = derpload(world, server, "-idle", str(IDLE))
    p.wait_for('"idle"', 120)
    time.sleep(SETTLE_S)
    grown = resident_kb(server.program.p.pid) - before
    p.stop()
    server.program.stop()
    return grown / IDLE


def measure(world, number):
    build()
    authority = Authority(world.tmp)
    kb = idle_kb(world, Server("tunn", world, authority)), idle_kb(world, Server(DERPER, world, authority))
    servers = {DERPER: Server(DERPER, world, authority), KINDS[0]: Server("tunn", world, authority, workers=ONE_WORKER[1]),
               KINDS[1]: Server("tunn", world, authority)}
    seen = loads(world, number, servers)
    return {"resident memory per idle client": kb,
            **{name: (seen[load][kind][what], seen[load][DERPER][what]) for name, (what, load, kind) in MEASURED.items()}}
