"""What an account has is one, however it is spread (T22, on one node), and another account's is not touched by it (T23)."""
import os
import re
import threading
import time
from types import SimpleNamespace

import pytest
from harness import endpoint, free_port
from hosting import MBIT, Counter, Hosted, flood

WAYS = [("grpc", 0), ("derp", 0), ("grpc", 1), ("derp", 1)]  # by which, and which worker


@pytest.fixture
def spread(world):
    """An account whose tunnels come by four tokens, two transports and two workers, to ends of another one."""
    hosted = Hosted(world, world.relay(args=["--workers", "2"]))

    def ways(*terms):
        hosted.account("spread", *terms)
        hosted.account("far")
        made = []
        for i, (transport, worker) in enumerate(WAYS):
            token = f"{world.tmp}/token-{i}"
            with open(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                f.write(hosted.run("token", "new", "spread"))
            seen = Counter(world)
            home = hosted.end("far", f"b{i}", f"spread/a{i}", seen.port, "--forward")
            laptop = world.end_at(hosted.relay, worker, free_port(), f"a{i}", f"far/b{i}", "--listen", "--transport", transport, token=token)
            home.wait_for("is up")
            laptop.wait_for("is up")
            made.append(SimpleNamespace(address=endpoint(laptop), seen=seen, laptop=laptop, token=token, transport=transport))
        return made
    return hosted, ways


def all_flood(world, ways, rate, seconds):
    threads = [threading.Thread(target=flood, args=(world.socket(), w.address, rate, seconds)) for w in ways]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def test_T22_tokens_tunnels_transports_and_workers_of_an_account_share_one_rate(world, spread):
    ways = spread[1]("--rate", "8Mbit", "--burst", "1s")
    begin = time.monotonic()
    all_flood(world, ways, 8 * MBIT, 5)
    end = time.monotonic()
    got, most = [w.seen.bytes(begin, end) for w in ways], 8 * MBIT * (1 + end - begin)
    assert 0.7 * most <= sum(got) <= most + len(ways) * 65536
    assert min(got) > 0


def test_T22_they_share_one_number_of_tunnels(world, spread):
    hosted, make = spread
    ways = make("--tunnels", "4")
    for transport in ("grpc", "derp"):
        at = hosted.relay.count()
        more = world.end(hosted.relay, free_port(), f"more-{transport}", "far/x", "--listen", "--transport", transport, token=ways[3].token)
        hosted.relay.wait_for(f"refused end id=more-{transport} account=spread .*reason=tunnels", after=at)
        more.stop()
    ways[0].laptop.stop()
    hosted.relay.wait_for("end left id=a0 ")
    world.end(hosted.relay, free_port(), "more", "far/x", "--listen", token=ways[3].token).wait_for("connected as more")


def test_T22_they_share_one_volume(world, spread):
    hosted, make = spread
    ways = make("--volume", "1MB")
    all_flood(world, ways, 8 * MBIT, 1.5)
    for w in ways:
        w.laptop.wait_for("month is used up")
    used = hosted.used("spread")
    assert 1_000_000 <= used["sent_bytes"] + used["received_bytes"] < 1_000_000 + 2 * 1200  # two workers looked at once
    assert sum(w.seen.bytes() for w in ways) <= used["sent_bytes"]


def test_T23_an_account_at_ten_times_its_limit_makes_no_drop_of_anothers_datagrams(world):
    hosted = Hosted(world, world.relay(args=["--workers", "2"]))
    hosted.account("loud", "--rate", "8Mbit", "--burst", "1s")
    hosted.account("quiet")
    loud = [hosted.way("loud", "loud", f"-{i}", workers=(i, i)) for i in range(2)]
    quiet = [hosted.way("quiet", "quiet", f"-quiet-{i}", workers=(i, i)) for i in range(2)]
    begin = time.monotonic()
    threads = [threading.Thread(target=flood, args=(world.socket(), w[0], rate, 5, size))
               for ways, rate, size in ((loud, 5 * 8 * MBIT, 1200), (quiet, MBIT, 500)) for w in ways]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    end = time.monotonic()
    assert 0 < 2 * sum(w[1].bytes(begin, end) for w in loud) <= 8 * MBIT * (1 + end - begin) + 2 * 65536  # sent and received count
    for i, (_, _, laptop, home) in enumerate(quiet):
        left, at = {}, hosted.relay.count()
        for name, program in (("a", laptop), ("b", home)):
            program.stop()
            left[name] = hosted.relay.wait_for(rf"end left id={name}-quiet-{i} .*", after=at)[0]
        counts = {end: dict(re.findall(r"(\w+)=(\d+)", line)) for end, line in left.items()}
        assert int(counts["a"]["packets_in"]) > 1000 and counts["a"]["packets_in"] == counts["b"]["packets_out"]
        assert [c[k] for c in counts.values() for k in ("dropped", "ignored")] == ["0"] * 4
    assert "reconnecting" not in "".join(p.text() for w in quiet for p in w[2:])
