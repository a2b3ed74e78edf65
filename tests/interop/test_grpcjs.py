"""@grpc/grpc-js, generated from our proto at run time, as one end of a tunnel."""
import os
import time

from harness import ROOT, ask, endpoint, free_port

SECONDS = float(os.environ.get("FULL_RATE_SECONDS") or 5)


def stock(world, relay, me, peer, *mode):
    return world.program(["sh", "-c", 'cd build/interop && exec node "$@"', "sh", f"{ROOT}/tests/interop/grpcjs/end.mjs",
                          f"{ROOT}/proto/tunn.proto", str(relay.port), f"{relay.state}/tls-cert.pem", relay.token, me, peer, *mode])


def test_G7_grpc_js_sends_every_size_and_gets_it_back(world, relay):
    echo = world.echo()
    world.end(relay, echo.port, "home", "js", "--forward").wait_for("connected")
    end = stock(world, relay, "js", "home")
    end.wait_for("registered account main")
    end.wait_for("sizes ok", 30)


def test_G7_grpc_js_answers_our_end_and_leaves_in_order(world, relay):
    laptop = world.end(relay, free_port(), "laptop", "js", "--listen")
    address, s = endpoint(laptop), world.socket()
    end = stock(world, relay, "js", "laptop", "echo")
    laptop.wait_for("js is up")
    for size in (0, 1, 1420, 65507):
        ask(s, address, os.urandom(size))
    s.sendto(b"bye", address)
    end.wait_for("status 0")
    laptop.wait_for("js left")


def test_grpc_js_with_a_wrong_token_sees_unauthenticated(world, relay):
    other = world.relay(name="other")
    relay.token = other.token
    stock(world, relay, "js", "home").wait_for("status 16")


def test_full_rate_of_grpc_js_with_its_64_KiB_windows_trips_no_limit(world, relay):
    ends = [stock(world, relay, me, peer, "full") for me, peer in ("ab", "ba")]
    for end in ends:
        end.wait_for("registered account main")
    time.sleep(SECONDS)  # the length is the point
    c = relay.counters()
    tripped = {k: v for k, v in c.items() if v and (k.startswith("close_") or k in ("refusals_total", "connections_turned_away_total"))}
    assert not tripped and c["connections_accepted_total"] == c["connections_open"] == 2, dict(c)
    for end in ends:
        assert int(end.wait_for(r"received (\d+)", after=end.count()).group(1)) > 100 * SECONDS
        assert "status" not in end.text()


def test_grpc_js_passes_the_interop_cases(world, service):
    cases = world.program(["sh", "-c", 'cd build/interop && exec node "$@"', "sh", f"{ROOT}/tests/interop/grpcjs/cases.mjs",
                           str(service.port), f"{service.state}/tls-cert.pem"])
    cases.wait_for("^all ok", 60)
    assert cases.exit_code() == 0
