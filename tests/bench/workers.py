"""Two workers against one: four busy pairs, and with two workers each pair is across them.

The kernel chooses the worker of a connection: an end that came to the wrong one comes again.
"""
import json

from bench import BUILD, SIZE, check, cpu_us, endpoint, free_port, start_far, whole

ROUNDS = 10
PAIRS, SECONDS, WINDOW = 4, 2, 64
ONE = "one worker"
FIGURES = {
    "relay CPU per datagram, two workers": ("us", ONE, "at most 1.15"),
    "echoes of four pairs, two workers": ("1/s", ONE, None),
}


def pairs_of(world, relay, workers, echo):
    found = []
    for i in range(PAIRS):
        home = world.end_at(relay, 0, echo[1], f"home-{i}", f"laptop-{i}", "--forward")
        laptop = world.end_at(relay, workers - 1, free_port(), f"laptop-{i}", f"home-{i}", "--listen")
        home.wait_for("is up")
        laptop.wait_for("is up")
        found.append(laptop)
    return found


def load(world, addresses, seconds):
    """All at once. What came back in a second."""
    running = [world.program([f"{BUILD}/support/udpgen", "ping", f"{a[0]}:{a[1]}", "--rate", "0", "--size", str(SIZE), "--seconds",
                              str(seconds), "--window", str(WINDOW)]) for a in addresses]
    for p in running:
        check(p.exit_code(60) == 0, "the generator failed: " + p.text())
    found = [whole(json.loads(p.lines[-1])) for p in running]
    for r in found:
        check(r["received"] >= 0.99 * r["sent"] > 0, f"datagrams were lost: {r}")
    return sum(r["pps"] for r in found)


def with_workers(world, n):
    """CPU for each datagram, and echoes a second."""
    relay = world.relay(name=f"workers-{n}", args=["--workers", str(n)])
    echo, address = start_far(world, "echo")
    laptops = pairs_of(world, relay, n, address)
    addresses = [endpoint(laptop) for laptop in laptops]
    load(world, addresses, 0.5)  # warm
    before, cpu = relay.counters(), cpu_us(relay.p.pid)
    pps = load(world, addresses, SECONDS)
    after, cpu = relay.counters(), cpu_us(relay.p.pid) - cpu
    passed, forwarded = (after[k] - before[k] for k in ("packets_out_total", "packets_forwarded_total"))
    check(forwarded >= 0.99 * passed if n > 1 else forwarded == 0, f"{forwarded} of {passed} went from worker to worker")
    for p in (*laptops, echo, relay):
        p.stop()
    return cpu / passed, pps


def measure(world, number):
    order = (1, 2) if number % 2 else (2, 1)
    found = {n: with_workers(world, n) for n in order}
    return {"relay CPU per datagram, two workers": (found[2][0], found[1][0]),
            "echoes of four pairs, two workers": (found[2][1], found[1][1])}
