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
def test_F35_500_ends_are_back_within_30_s_of_a_killed_relay(world, relay, one_source):
    herd = Herd(world, relay, [125] * 4, random.getrandbits(32), one_source=one_source)
    herd.tell("start")
    first = herd.all_ready(60)
    herd.talk(500)
    relay.p.send_signal(signal.SIGKILL)
    relay.exit_code()
    relay = world.relay(listen=f"127.0.0.1:{relay.port}")
    seconds = herd.all_ready(60)
    r = herd.reports()
    print(f"all there in {first:.1f} s, all back in {seconds:.1f} s; {r}; {dict(relay.counters())}")
    assert seconds <= 30
    assert r["refused"] == 0, "an end that is told to stay away does not come back"
    assert relay.counters()["sessions_open"] == 500
    delivered, end = r["delivered"], time.monotonic() + 20
    while herd.reports()["delivered"] <= delivered:
        assert time.monotonic() < end, "they are back, but nothing flows"
