"""WireGuard through tunn beside the same WireGuard without it: two networks, wireguard-go on both sides, iperf3 inside.

The devices stay, only the endpoint of one changes: its tunn, or the other network's address, to which the relay's
namespace routes. So both ways cross the same links with the same MTU, in turns.
"""
import json
import os
import statistics

from bench import ONE_WORKER, Missing, check
from harness import Net, pings, sh, wireguard_pair

SECONDS, TURNS, STREAMS = 3, 3, (1, 4)
DIRECT = "wireguard-go without tunn"
GOALS = {1: "at least 0.7", 4: "at least 0.7"}
FIGURES = {f"WireGuard through tunn, TCP streams: {n}": ("Mbit/s", DIRECT, GOALS[n]) for n in STREAMS}


def mbit(world, net, streams):
    """What arrives at a from b, without the first second."""
    server = world.program(["iperf3", "-s", "-1", "--forceflush"], ns=net.ns["a"])
    server.wait_for("listening")
    out = sh("iperf3", "-c", "10.8.0.1", "-t", str(SECONDS), "-O", "1", "-P", str(streams), "-J", ns=net.ns["b"])
    server.stop()
    return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e6


def use(net, pair, endpoint):
    sh("wg", "set", net.wg("b"), "peer", pair.a.public, "endpoint", endpoint, ns=net.ns["b"])
    check(pings(net.ns["b"], "10.8.0.1", 3) == 3, f"WireGuard does not pass by way of {endpoint}")
    check(endpoint in sh("wg", "show", net.wg("b"), "endpoints", ns=net.ns["b"]), "WireGuard went another way")


def measure(world, number):
    if os.geteuid():
        raise Missing("needs root for network namespaces")
    net = Net(world, ["a", "b"], f"{os.getpid() % 100000}{number}")
    sh("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", ns=net.ns["r"])
    relay = world.relay(":443", ns=net.ns["r"], args=ONE_WORKER)
    pair = wireguard_pair(world, net, relay)
    ways = {"tunn": "127.0.0.1:51820", "direct": "10.9.1.2:51820"}
    seen = {(way, n): [] for way in ways for n in STREAMS}
    for turn in range(TURNS):
        for way in list(ways)[::-1 if turn % 2 else 1]:
            use(net, pair, ways[way])
            passed = relay.counters()["packets_out_total"]
            for n in STREAMS:
                seen[way, n].append(mbit(world, net, n))
            passed = relay.counters()["packets_out_total"] - passed
            check(passed > 1000 if way == "tunn" else passed < 10, f"{passed} datagrams through the relay, {way}")
    middle = {k: statistics.median(v) for k, v in seen.items()}
    return {f"WireGuard through tunn, TCP streams: {n}": (middle["tunn", n], middle["direct", n]) for n in STREAMS}
