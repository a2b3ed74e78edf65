"""The penalty box: networks from which tokens are guessed or connections flooded are refused before TLS for a while (T15, A13).

127.0.0.0/24 has the ends here; whoever offends comes from another /24 of the loopback network where nothing else is said."""
import re
import signal
import time

import pytest
from harness import free_port
from scripted import DATA, PING, Peer, register, token_with, varied
from scripted_derp import PING as DERP_PING
from scripted_derp import Client, NodeKey, frame

GUESSER, OTHER = "127.66.6.6", "127.77.7.7"
UNAUTHENTICATED, UNAVAILABLE = "16", "14"


def wrong(relay):
    with open(relay.token) as f:
        return token_with(f.read().strip(), lambda kid, secret: (kid, varied(secret)))


def guess(relay, source=GUESSER, token=None):
    p = Peer(relay.port, source=source)
    p.call()
    p.frame(DATA, 0, 1, register(wrong(relay) if token is None else token, b"guesser"))
    status = p.answer()["grpc-status"]
    p.close()
    return status


def gets_in(relay, source):
    try:
        Peer(relay.port, source=source).close()
    except OSError:
        return False
    return True


def close_the_box(relay, source=GUESSER):
    at = relay.count()
    for _ in range(10):
        assert guess(relay, source) == UNAUTHENTICATED
    return relay.wait_for(r"refusing connections network=(\S+) for=(\d+)s", after=at)


def wait_until_it_opens(relay, source, seconds):
    end = time.monotonic() + seconds
    while not gets_in(relay, source):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_A13_T15_ten_wrong_tokens_and_their_network_is_refused_before_tls(world):
    relay = world.relay(args=["--workers", "2"])
    said = close_the_box(relay)
    closed = time.monotonic()
    assert said.groups() == ("127.66.6.0/24", "5") and "limits: {penalty: off}" in said.string
    at = relay.count()
    for host in range(1, 41):  # at whichever worker
        assert not gets_in(relay, f"127.66.6.{host}")
    assert time.monotonic() - closed < 5
    assert gets_in(relay, OTHER)
    counters = relay.counters()
    assert (counters["connections_penalised_total"], counters["penalties_total"]) == (40, 1)
    assert not [line for line in relay.lines[at:] if "msg=" in line]  # it was said
    wait_until_it_opens(relay, GUESSER, 10)
    assert time.monotonic() - closed > 4.5
    assert close_the_box(relay).group(2) == "10"



def test_T15_a_connection_that_is_open_has_no_more_guesses_than_a_new_one(relay):
    held = [Peer(relay.port, source=GUESSER) for _ in range(3)]
    token, answers = wrong(relay), []
    for p in held:
        with p.at_once():
            for stream in range(1, 101, 2):
                p.call(stream)
                p.frame(DATA, 0, stream, register(token, b"guesser"))
    for p in held:
        while f := p.read():
            if f.fields and "grpc-status" in f.fields:
                answers.append(f.fields["grpc-status"])
    assert answers.count(UNAUTHENTICATED) >= 10
    assert set(answers) <= {UNAUTHENTICATED, UNAVAILABLE}  # an honest end among them comes again
    relay.wait_for("refusing connections network=127.66.6.0/24")
    assert relay.counters()["penalties_total"] == 1
    assert not gets_in(relay, GUESSER)


def test_A13_a_network_with_a_tunnel_is_exempt_as_long_as_it_is_there(world, relay):
    end = world.end(relay, free_port(), "a", "b", "--listen")
    end.wait_for("b is not there")
    for _ in range(25):
        assert guess(relay, "127.0.0.9") == UNAUTHENTICATED
    assert gets_in(relay, "127.0.0.9")
    end.stop()
    relay.wait_for("end left id=a")
    close_the_box(relay, "127.0.0.9")
    assert not gets_in(relay, "127.0.0.1")


def test_an_honest_end_of_a_refused_network_waits_and_gets_in_and_its_network_with_it(world, relay):
    close_the_box(relay, "127.0.0.9")
    end = world.end(relay, free_port(), "a", "b", "--listen")
    end.wait_for("connected as a", seconds=30)
    for _ in range(12):
        guess(relay, "127.0.0.9")
    assert gets_in(relay, "127.0.0.9")


def test_A01_typing_errors_in_a_token_are_no_guesses(relay):
    with open(relay.token) as f:
        token = f.read().strip()
    for text in (token[:-1] + varied(token[-1]), token[:-1], token.lower(), "", "x"):
        for _ in range(10):
            assert guess(relay, token=text) == UNAUTHENTICATED
    assert gets_in(relay, GUESSER)


def ping_flood(relay, source):
    p = Peer(relay.port, source=source)
    for _ in range(100):
        p.frame(PING, 0, 0, b"flooding")
    assert p.goaway() == 11
    p.close()


def test_three_floods_close_the_box_and_protocol_errors_never_do(relay):
    for _ in range(30):
        p = Peer(relay.port, source=OTHER)
        p.frame(PING, 0, 1, b"12345678")
        p.goaway()
        p.close()
    assert gets_in(relay, OTHER)
    for n in range(3):
        assert gets_in(relay, GUESSER), n
        ping_flood(relay, GUESSER)
    relay.wait_for("refusing connections network=127.66.6.0/24 for=5s: 3 connections that flooded")
    assert not gets_in(relay, GUESSER)


def end_that_floods(relay, kind, key=None):
    """It is in, by its token or by its node key, before it floods."""
    at = relay.count()
    if kind == "derp":
        c = Client(relay.port, key, source=GUESSER)
        relay.wait_for("end joined id=nodekey:", after=at)
        for _ in range(100):
            if not c.closed:
                c.send(frame(DERP_PING, bytes(8)) * 1000)
        c.close()
    else:
        p = Peer(relay.port, source=GUESSER)
        with open(relay.token) as f:
            p.call()
            p.frame(DATA, 0, 1, register(f.read().strip(), b"flooder"))
        relay.wait_for("end joined id=flooder ", after=at)
        for _ in range(1200):
            p.frame(PING, 0, 0, b"flooding")
        p.goaway()
        p.close()
    return relay.wait_for("end left id=(.*) account=(.*) from=.* reason=flood", after=at)


@pytest.mark.parametrize("kind", ["grpc", "derp"])
def test_an_authenticated_end_that_floods_is_cut_each_time_and_its_network_stays(world, kind):
    key = NodeKey()
    relay = world.relay(args=["--derp.allow", f"nodekey:{key.hex}"])
    for _ in range(4):
        said = end_that_floods(relay, kind, key)
    assert said[2] == ("derp" if kind == "derp" else "main")  # whom to suspend
    for n in range(2):
        ping_flood(relay, GUESSER)
        assert gets_in(relay, GUESSER), n
    assert relay.counters()["penalties_total"] == 0
    ping_flood(relay, GUESSER)  # the third of strangers
    relay.wait_for("refusing connections network=127.66.6.0/24")
    assert not gets_in(relay, GUESSER)


def test_a_derp_client_that_anybody_could_be_is_not_exempt(world):
    relay = world.relay(args=["--derp.allow", "any"])
    for _ in range(3):
        assert gets_in(relay, GUESSER)
        end_that_floods(relay, "derp")
    relay.wait_for("refusing connections network=127.66.6.0/24")
    assert not gets_in(relay, GUESSER)


def test_through_a_socket_of_both_families_an_ipv4_network_is_still_a_24(world):
    config = world.tmp / "server.yaml"
    config.write_text("limits: {newcomers-per-network: 2}\n")
    relay = world.relay(listen=":0", args=["--config", str(config)])
    held = [Peer(relay.port, source=f"127.66.6.{n}") for n in (1, 2)]
    assert not gets_in(relay, "127.66.6.3") and gets_in(relay, OTHER)
    for p in held:
        p.close()
    wait_until_it_opens(relay, GUESSER, 20)
    assert close_the_box(relay).group(1) == "127.66.6.0/24"
    assert not gets_in(relay, "127.66.6.200") and gets_in(relay, OTHER)


@pytest.mark.parametrize("how", ["word", "file"])
def test_it_can_be_switched_off(world, how):
    words = ["--limits.penalty", "off"]
    if how == "file":
        (world.tmp / "server.yaml").write_text("limits: {penalty: off}\n")
        words = ["--config", str(world.tmp / "server.yaml")]
    relay = world.relay(args=words)
    for _ in range(15):
        assert guess(relay) == UNAUTHENTICATED
    assert gets_in(relay, GUESSER)


def test_a_reload_switches_it_off_and_on(world):
    config = world.tmp / "server.yaml"
    config.write_text("limits: {penalty: on}\n")
    relay = world.relay(args=["--config", str(config)])
    close_the_box(relay)
    for state in ("off", "on"):
        config.write_text(f"limits: {{penalty: {state}}}\n")
        at = relay.count()
        relay.p.send_signal(signal.SIGHUP)
        relay.wait_for("reloaded", after=at)
        for _ in range(9):
            assert guess(relay) == UNAUTHENTICATED
    assert guess(relay) == UNAUTHENTICATED
    relay.wait_for("refusing connections", after=at)
    assert not gets_in(relay, GUESSER)


def test_no_secret_stands_in_what_is_said(world):
    relay = world.relay(args=["--log-level", "debug"])
    close_the_box(relay)
    gets_in(relay, GUESSER)
    secret = wrong(relay).split("_")[2]
    assert not re.search(secret[:12], relay.text())
