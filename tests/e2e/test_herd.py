"""Hundreds of ends at once: all come back together, and full rate trips no limit."""
import json
import os
import random
import signal
import threading
import time

import grpc
import pytest
from harness import BUILD, free_port
from herd import Herd
from test_foreign_grpcio import Stranger, stubs, token_of  # noqa: F401

SECONDS = float(os.environ.get("FULL_RATE_SECONDS") or 5)


@pytest.mark.parametrize("one_source", [False, True], ids=["each_from_its_own_network", "all_behind_one_address"])
def test_F35_500_ends_are_back_within_30_s_of_a_killed_relay(world, lasting, one_source):
    herd = Herd(world, lasting, [125] * 4, random.getrandbits(32), one_source=one_source)
    herd.tell("start")
    first = herd.all_ready(60)
    herd.talk(500)
    lasting.p.send_signal(signal.SIGKILL)
    lasting.exit_code()
    relay = world.relay(listen=f"127.0.0.1:{lasting.port}")
    seconds = herd.all_ready(60)
    r = herd.reports()
    print(f"all there in {first:.1f} s, all back in {seconds:.1f} s; {r}; {dict(relay.counters())}")
    assert seconds <= 30
    assert r["refused"] == 0, "an end that is told to stay away does not come back"
    assert relay.counters()["sessions_open"] == 500
    delivered, end = r["delivered"], time.monotonic() + 20
    while herd.reports()["delivered"] <= delivered:
        assert time.monotonic() < end, "they are back, but nothing flows"


# -- 60 s at full rate (5 in an ordinary run): limits are for those who do harm

def unharmed(relay, connections):
    """No connection was ended, refused or turned away, by whatever limit."""
    c = relay.counters()
    tripped = {k: v for k, v in c.items() if v and (k.startswith("close_") or k in ("refusals_total", "connections_turned_away_total"))}
    assert not tripped and c["connections_accepted_total"] == c["connections_open"] == connections, (tripped, dict(c))
    return c


def generator(world, *words):
    p = world.program([f"{BUILD}/support/udpgen", *words, "--size", "1420", "--seconds", str(SECONDS)])
    assert p.exit_code(int(SECONDS) + 60) == 0
    return json.loads(p.lines[-1])


def test_full_rate_of_our_own_ends_trips_no_limit(world, relay):
    pair = world.pair(relay)
    address = f"{pair.address[0]}:{pair.address[1]}"
    there_and_back = generator(world, "ping", address, "--rate", "0")
    one_way = generator(world, "send", address, "--rate", "0")
    assert there_and_back["received"] > 100 * SECONDS and one_way["sent"] > 100 * SECONDS
    assert "reconnecting" not in pair.home.text() + pair.laptop.text()
    assert unharmed(relay, 2)["packets_in_total"] > 200 * SECONDS


SMALL_WINDOWS = (("grpc.http2.lookahead_bytes", 65535), ("grpc.http2.bdp_probe", 0))


class Talker:
    """A stock end that sends as fast as its library takes, and counts what comes."""

    def __init__(self, world, relay, pb, me, peer, options):
        with open(f"{relay.state}/tls-cert.pem", "rb") as f:
            channel = grpc.secure_channel(f"localhost:{relay.port}", grpc.ssl_channel_credentials(f.read()),
                                          (*options, ("grpc.use_local_subchannel_pool", 1)))
        world.cleanups.append(channel.close)
        self.end = Stranger(pb, channel, tunnel_id=me, auth_token=token_of(relay), peers=[peer])
        self.end.until("register_response")
        self.received, self.over, self.error = 0, threading.Event(), None
        first = self.end.pb.UdpPacket(peer_id=peer, data=os.urandom(1420))
        self.message = self.end.pb.TunnelMessage(udp_packet=first)
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.listen, self.talk)]

    def listen(self):
        try:
            for m in self.end.call:
                self.received += m.WhichOneof("message") == "udp_packet"
        except grpc.RpcError as e:
            self.error = e

    def talk(self):
        while not self.over.is_set():
            if self.end.out.qsize() < 500:
                self.end.out.put(self.message)
            else:
                time.sleep(0.001)
        self.end.out.put(None)


@pytest.mark.parametrize("options", [SMALL_WINDOWS, ()], ids=["windows_of_64_KiB", "as_it_comes"])
def test_full_rate_of_a_stock_client_trips_no_limit(world, relay, stubs, options):
    a, b = (Talker(world, relay, stubs, me, peer, options) for me, peer in ("ab", "ba"))
    for t in a.threads + b.threads:
        t.start()
    time.sleep(SECONDS)  # the length is the point
    assert a.error is None and b.error is None
    assert min(a.received, b.received) > 100 * SECONDS
    c = unharmed(relay, 2)
    print(f"{a.received} and {b.received} datagrams received; {dict(c)}")
    for t in (a, b):
        t.over.set()
    for t in a.threads + b.threads:
        t.join(20)
    assert a.error is None and b.error is None


def test_full_rate_from_our_own_end_to_a_stock_client_with_small_windows_trips_no_limit(world, relay, stubs):
    stock = Talker(world, relay, stubs, "stock", "laptop", SMALL_WINDOWS)
    stock.threads[0].start()
    laptop = world.end(relay, free_port(), "laptop", "stock", "--listen")
    laptop.wait_for("stock is up")
    address = laptop.wait_for(r"Endpoint = ([\d.]+:\d+)").group(1)
    generator(world, "send", address, "--rate", "0")
    assert stock.error is None and stock.received > 100 * SECONDS
    unharmed(relay, 2)
    stock.end.close()
