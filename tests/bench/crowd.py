"""2,000 ends that lose their relay at once: how long until every one is back, and whether one was refused for good."""
import signal

from bench import check
from herd import Herd

ROUNDS = 3
ENDS, PROCESSES = 2000, 8
WAYS = {"each from its own network": False, "all behind one address": True}
FIGURES = {f"2,000 ends back after a relay kill, {way}": ("s", None, "at most 30") for way in WAYS} | {
    f"refused for good, {way}": ("", None, "at most 0") for way in WAYS}


def back(world, number, way, one_source):
    """Seconds from the start of the next relay, and how many ends stay away."""
    state = f"relay-{one_source}"
    relay = world.relay(name=state)
    herd = Herd(world, relay, [ENDS // PROCESSES] * PROCESSES, number + 1, one_source=one_source)
    herd.tell("start")
    herd.all_ready(120)
    relay.p.send_signal(signal.SIGKILL)
    relay.exit_code()
    relay = world.relay(listen=f"127.0.0.1:{relay.port}", name=state)
    seconds = herd.all_ready(120)
    check(relay.counters()["sessions_open"] == ENDS, "the relay counts other ends than there are")
    refused = herd.reports()["refused"]
    for p in (*herd.parts, relay):
        p.stop()
    return {f"2,000 ends back after a relay kill, {way}": (seconds, None), f"refused for good, {way}": (refused, None)}


def measure(world, number):
    found = {}
    for way, one_source in WAYS.items():
        found |= back(world, number, way, one_source)
    return found
