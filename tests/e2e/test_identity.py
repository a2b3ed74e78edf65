"""Who may be whom: accounts, tokens, takeovers, refusals."""
import os

import pytest
from harness import TUNN, answered, ask, endpoint, free_port

pytestmark = pytest.mark.usefixtures("transports")


def test_foreign_account_cannot_reach_without_declaration_nor_learn_who_exists(world, relay):
    stranger = world.new_account(relay, "stranger")
    echo = world.echo()
    world.end(relay, echo.port, "home", "laptop", "--forward").wait_for("connected")
    told = {}
    for name in ("home", "nobody"):
        end = world.end(relay, free_port(), f"spy-{name}", f"main/{name}", "--listen", token=stranger)
        address = endpoint(end)
        told[name] = end.wait_for(rf"tunn: main/{name}(.*)").group(1).split(";")[0]
        s = world.socket()
        s.sendto(b"knock", address)
        assert not answered(s, b"knock", 0.5)
    assert echo.n == 0
    assert told["home"] == told["nobody"]


def test_same_id_in_two_accounts_are_two_ends(world, relay):
    other = world.new_account(relay, "other")
    echo, s = world.echo(), world.socket()
    world.end(relay, echo.port, "home", "laptop", "--forward").wait_for("connected")
    mine = world.end(relay, free_port(), "laptop", "home", "--listen")
    mine.wait_for("home is up")
    theirs = world.end(relay, free_port(), "laptop", "main/home", "--listen", token=other)
    theirs.wait_for("connected as laptop")
    ask(s, endpoint(mine), b"still mine")
    assert mine.p.poll() is None


def test_accounts_that_declare_each_other_exchange_datagrams(world, relay):
    other = world.new_account(relay, "other")
    echo, s = world.echo(), world.socket()
    home = world.end(relay, echo.port, "home", "other/laptop", "--forward")
    laptop = world.end(relay, free_port(), "laptop", "main/home", "--listen", token=other)
    home.wait_for("other/laptop is up")
    ask(s, endpoint(laptop), b"across")


def test_second_instance_takes_over_and_the_older_exits_3(world, relay):
    first = world.end(relay, free_port(), "laptop", "home", "--listen")
    first.wait_for("connected as laptop")
    second = world.end(relay, free_port(), "laptop", "home", "--listen")
    second.wait_for("connected as laptop")
    assert first.exit_code() == 3
    assert "another instance" in first.text() or "superseded" in first.text()
    assert second.p.poll() is None


def test_token_bound_to_an_id_claims_only_that_and_needs_no_id(world, relay):
    token = world.new_token(relay, "main", "--id", "kitchen")
    wrong = world.end(relay, free_port(), "garage", "home", "--listen", token=token)
    assert wrong.exit_code() == 3
    assert "bound to the id kitchen" in wrong.text()
    world.end(relay, free_port(), None, "home", "--listen", token=token).wait_for("connected as kitchen")


def test_unbound_token_without_id_uses_the_host_name(world, relay):
    host = os.uname().nodename.split(".")[0].lower()
    world.end(relay, free_port(), None, "somebody", "--listen").wait_for(f"connected as {host}")


def test_unknown_and_wrong_tokens_get_the_same_refusal(world, relay):
    other = world.relay(name="other-state")
    unknown = world.end(relay, free_port(), "a", "b", token=other.token)
    assert unknown.exit_code() == 3
    assert "token" in unknown.text()


def test_missing_token_is_refused_with_words(world, relay):
    env = {k: v for k, v in os.environ.items() if k != "TUNN_TOKEN"} | {"XDG_CONFIG_HOME": str(world.tmp)}
    end = world.program([TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay", relay.url, "--pin",
                         relay.pin], env=env)
    assert end.exit_code() == 3
    assert "--token-file" in end.text()


def test_token_from_environment_is_wiped_from_it(world, relay):
    with open(relay.token) as f:
        token = f.read().strip()
    end = world.program([TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay", relay.url, "--pin",
                         relay.pin], env=os.environ | {"TUNN_TOKEN": token})
    end.wait_for("connected as a")
    with open(f"/proc/{end.p.pid}/environ", "rb") as f:
        assert token.encode() not in f.read()


def test_no_log_at_any_level_holds_token_or_payload(world):
    relay = world.relay(args=("--log-level", "debug"))
    with open(relay.token) as f:
        token = f.read().strip()
    secret = b"PAYLOAD-THAT-NOBODY-MAY-LOG"
    echo, s = world.echo(), world.socket()
    home = world.end(relay, echo.port, "home", "laptop", "--forward", "--log-level", "debug")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen", "--log-level", "debug")
    address = endpoint(laptop)
    laptop.wait_for("home is up")
    ask(s, address, secret)
    for p in (home, laptop, relay):
        p.stop()
        assert token[5:40] not in p.text() and secret.decode() not in p.text()
