#!/usr/bin/env python3
"""The figures of docs/PERFORMANCE.md, each beside a baseline of the same round.

Rounds are interleaved: every round measures everything once. ROUNDS=N (default 5). Writes
build/bench.json and prints a table; a measurement that is not valid ends it with 1.
"""
import json
import os
import re
import resource
import signal
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time

import h2.config
import h2.connection
import h2.events

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
from harness import BUILD, World, endpoint, free_port  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SIZE, IDLE_TUNNELS = 1420, 500
SEAL = ("16 KiB AES-128-GCM seal", "us")
LOOPBACK = "plain loopback UDP"


class Invalid(Exception):
    pass


def check(true, words):
    if not true:
        raise Invalid(words)


# -- instruments

def cpu_us(pid):
    """CPU time of all threads, from the scheduler."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1000


def resident_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1))


def seal_us(world):
    p = world.program([f"{BUILD}/bench/seal"])
    check(p.exit_code() == 0, "seal failed")
    return float(p.text()) / 1000


def generator(world, address, rate, seconds):
    """What came back of what was sent; all of it, or the round is not valid."""
    p = world.program([f"{BUILD}/support/udpgen", "ping", f"{address[0]}:{address[1]}", "--rate", str(rate),
                       "--size", str(SIZE), "--seconds", str(seconds)])
    check(p.exit_code(60) == 0, "the generator failed: " + p.text())
    r = json.loads(p.lines[-1])
    check(r["sent"] > 100 and r["received"] >= 0.99 * r["sent"], f"datagrams were lost: {r}")
    check(r["corrupt"] == r["duplicated"] == 0, f"datagrams were damaged or doubled: {r}")
    return r


class Tunnel:
    """A relay, two ends, an echo behind one of them."""

    def __init__(self, world):
        self.relay = world.relay()
        echo = world.program([f"{BUILD}/support/udpgen", "echo", "127.0.0.1:0"])
        self.echo = ("127.0.0.1", int(echo.wait_for(r"port (\d+)").group(1)))
        self.home = world.end(self.relay, self.echo[1], "home", "laptop", "--forward")
        self.laptop = world.end(self.relay, free_port(), "laptop", "home", "--listen")
        self.address = endpoint(self.laptop)
        self.home.wait_for("laptop is up")
        self.laptop.wait_for("home is up")

    def usage(self):
        c = self.relay.counters()
        clients = cpu_us(self.home.p.pid) + cpu_us(self.laptop.p.pid)
        return (cpu_us(self.relay.p.pid), clients, c["packets_out_total"], c["tls_bytes_out_total"] - c["bytes_out_total"])


# -- figures: each gives {name: (value, baseline)} of one round

def under_load(world, tunnel):
    seal = seal_us(world)
    before = tunnel.usage()
    through = generator(world, tunnel.address, 0, 3)
    relay, clients, n, added = (b - a for a, b in zip(before, tunnel.usage()))
    check(n >= 2 * through["received"], f"the relay counted {n} datagrams, {through['received']} went there and back")
    plain = generator(world, tunnel.echo, 0, 1)
    return {"relay CPU per datagram": (relay / n, seal), "both clients' CPU per datagram": (clients / n, seal),
            "bytes on the wire added per datagram": (added / n, None),
            "echoes through the relay": (through["pps"], plain["pps"])}


def idle_times(world, tunnel):
    through, plain = (generator(world, a, 500, 2) for a in (tunnel.address, tunnel.echo))
    return {f"round trip {p}, 500/s": (through[f"{p}_us"], plain[f"{p}_us"]) for p in ("p50", "p99")}


def field(number, value):
    head = bytes([number << 3 | 2])
    return head + (bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 127 | 128, len(value) >> 7])) + value


def register(context, port, token, n):
    """An end that is registered and then says nothing."""
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    conn.initiate_connection()
    conn.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "x"),
                          (":path", "/tunn.v1.TunnelService/EstablishTunnel"), ("content-type", "application/grpc"),
                          ("te", "trailers")])
    message = field(1, field(1, f"idle-{n}".encode()) + field(3, token.encode()) + field(9, field(1, b"nobody")) + b"\x50\x01")
    conn.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message)
    s.sendall(conn.data_to_send())
    got = b""
    while len(got) < 6:
        events = conn.receive_data(s.recv(65536))
        check(not any(isinstance(e, h2.events.TrailersReceived) for e in events), f"registration refused: {events}")
        got += b"".join(e.data for e in events if isinstance(e, h2.events.DataReceived))
        s.sendall(conn.data_to_send())
    check(got[5] == 0x12, f"not a register_response: {got[:16]}")
    return s


def client_context(alpn):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT")
    if alpn:
        context.set_alpn_protocols(["h2"])
    return context


def growth_kb(program, connect):
    """Resident memory that each of IDLE_TUNNELS connections costs, the first ones not counted."""
    warm = [connect(i) for i in range(20)]
    before = resident_kb(program.p.pid)
    held = [connect(20 + i) for i in range(IDLE_TUNNELS)]
    grown = resident_kb(program.p.pid) - before
    for s in warm + held:
        s.close()
    return grown / IDLE_TUNNELS


def idle_memory(world, number):
    relay = world.relay(name=f"idle-{number}")
    with open(relay.token) as f:
        token = f.read().strip()
    context = client_context("h2")
    tunnel = growth_kb(relay, lambda i: register(context, relay.port, token, i))
    check(relay.counters()["registrations_total"] == IDLE_TUNNELS + 20, "not all ends registered")
    bare = world.program([f"{BUILD}/bench/bare_tls", f"{relay.state}/tls-cert.pem", f"{relay.state}/tls-key.pem"])
    port, plain = int(bare.wait_for(r"port (\d+)").group(1)), client_context(None)

    def connect(i):
        s = plain.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        bare.wait_for(f"ready {i + 1}$", after=i)
        return s
    baseline = growth_kb(bare, connect)
    for p in (relay, bare):
        p.stop()
    return {"resident memory per idle tunnel": (tunnel, baseline)}


# -- how long nothing passes

class Gap:
    """Sends every 10 ms and takes the longest time between two echoes."""

    def __init__(self, address):
        self.address, self.longest, self.over = address, 0.0, threading.Event()
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.settimeout(0.01)
        self.last = time.monotonic()
        self.echoes = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            self.s.sendto(b"x" * 100, self.address)
            try:
                self.s.recv(2000)
            except TimeoutError:
                continue
            now = time.monotonic()
            self.longest, self.last, self.echoes = max(self.longest, now - self.last), now, self.echoes + 1
            time.sleep(0.01)

    def wait_echoes(self, n, seconds=30):
        end, want = time.monotonic() + seconds, self.echoes + n
        while self.echoes < want:
            check(time.monotonic() < end, f"no echo within {seconds} s")
            time.sleep(0.01)

    def around(self, what):
        """The longest silence while `what` happens, in ms."""
        self.wait_echoes(10)
        self.longest = 0.0
        what()
        self.wait_echoes(20)
        self.over.set()
        self.thread.join()
        self.s.close()
        return self.longest * 1000


def silences(world, number):
    state = f"gap-{number}"
    relay = world.relay(name=state)
    box = world.middlebox(relay.port)
    url = f"https://127.0.0.1:{box.port}"
    echo = world.program([f"{BUILD}/support/udpgen", "echo", "127.0.0.1:0"])
    port = int(echo.wait_for(r"port (\d+)").group(1))
    home = world.end(relay, port, "home", "laptop", "--forward")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen", url=url)
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    address = endpoint(laptop)

    def restart(sig):
        nonlocal relay
        relay.p.send_signal(sig)
        relay.exit_code(12)
        relay = world.relay(listen=f"127.0.0.1:{relay.port}", name=state)
    found = {
        "silence, relay killed and started": (Gap(address).around(lambda: restart(signal.SIGKILL)), None),
        "silence, relay restarted in order": (Gap(address).around(lambda: restart(signal.SIGTERM)), None),
        "silence, connection reset": (Gap(address).around(box.reset_all), None),
    }
    for p in (home, laptop, echo, relay):
        p.stop()
    return found


# -- what comes of it

FIGURES = {  # name: unit, name of the baseline
    "relay CPU per datagram": ("us", SEAL[0]),
    "both clients' CPU per datagram": ("us", SEAL[0]),
    "bytes on the wire added per datagram": ("B", None),
    "echoes through the relay": ("1/s", LOOPBACK),
    "round trip p50, 500/s": ("us", LOOPBACK),
    "round trip p99, 500/s": ("us", LOOPBACK),
    "resident memory per idle tunnel": ("kB", "bare OpenSSL connection"),
    "silence, relay killed and started": ("ms", None),
    "silence, relay restarted in order": ("ms", None),
    "silence, connection reset": ("ms", None),
}


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def figure(name, pairs):
    unit, baseline = FIGURES[name]
    f = {"name": name, "unit": unit, **spread([v for v, _ in pairs]), "ratio": None, "baseline": None}
    if baseline:
        check(all(b > 0 for _, b in pairs), f"no baseline for {name}")
        f["ratio"] = spread([v / b for v, b in pairs])
        f["baseline"] = {"name": baseline, "unit": unit, **spread([b for _, b in pairs])}
    return f


def number(v):
    return f"{v:.0f}" if v >= 1000 else f"{v:.2f}"


def table(figures):
    rows = [["figure", "unit", "min", "median", "max", "ratio: min", "median", "max", "baseline (median)"]]
    for f in figures:
        three = [number(f[k]) for k in ("min", "median", "max")]
        ratio = [number(f["ratio"][k]) for k in ("min", "median", "max")] if f["ratio"] else ["", "", ""]
        base = f"{f['baseline']['name']} {number(f['baseline']['median'])}" if f["baseline"] else ""
        rows.append([f["name"], f["unit"], *three, *ratio, base])
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        left = [r[0].ljust(widths[0]), r[1].ljust(widths[1])]
        print("  ".join(left + [c.rjust(w) for c, w in zip(r[2:8], widths[2:8])] + [r[8]]).rstrip())


def measure():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    seen = {name: [] for name in FIGURES}
    with tempfile.TemporaryDirectory(prefix="tunn-bench-") as tmp:
        world = World(tmp)
        try:
            tunnel = Tunnel(world)
            generator(world, tunnel.address, 0, 1)  # warm
            for n in range(ROUNDS):
                print(f"round {n + 1} of {ROUNDS}", file=sys.stderr, flush=True)
                found = under_load(world, tunnel) | idle_times(world, tunnel) | idle_memory(world, n) | silences(world, n)
                for name, pair in found.items():
                    seen[name].append(pair)
        finally:
            world.stop()
    return [figure(name, pairs) for name, pairs in seen.items()]


def main():
    try:
        figures = measure()
    except Invalid as e:
        sys.exit(f"bench: not valid: {e}")
    with open("build/bench.json", "w") as f:
        json.dump({"command": f"ROUNDS={ROUNDS} make bench", "rounds": ROUNDS, "datagram_bytes": SIZE, "figures": figures},
                  f, indent=1)
    table(figures)


main()
