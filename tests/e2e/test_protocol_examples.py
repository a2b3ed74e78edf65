"""The conversation over DERP that docs/PROTOCOL.md shows is the one that the relay has."""
import json
import os
import re

from harness import ROOT
from scripted_derp import UPGRADE, Client, NodeKey, frame


def lines():
    """Who and what, and the bytes (of texts: the text)."""
    with open(f"{ROOT}/docs/PROTOCOL.md", encoding="utf-8") as f:
        block = re.search(r"```\n(relay  ServerKey.*?)```", f.read(), re.S).group(1)
    for line in block.splitlines():
        name, rest = line[:27].strip(), line[27:].strip()
        yield name, rest if rest.startswith("{") else bytes.fromhex(rest)


def next_of(end):
    f = end.read()
    return frame(f.type, f.payload)


def test_the_conversation_over_derp_is_as_the_document_shows_it(world):
    shown = iter(lines())

    def example(name):
        said, what = next(shown)
        assert said == name
        return what

    path, key = f"{world.tmp}/derp.key", NodeKey(bytes(range(0x20, 0x40)))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write("privkey:" + key.secret.hex())
    relay = world.relay(args=["--derp.key", path, "--node", "r1"])
    with open(relay.token, encoding="ascii") as f:
        token = f.read().strip()

    def greeted():
        c = Client(relay.port, enter=False)
        c.ask((*UPGRADE, "Tunn-Version: 1"))
        return c, next_of(c)

    laptop, greeting = greeted()
    assert greeting == example("relay  ServerKey")
    laptop.relay_key = key.public
    laptop.introduce(json.loads(example("end    ClientInfo, the text").replace("tunn_…", token)))
    assert laptop.admitted() == json.loads(example("relay  ServerInfo, the text"))
    assert next_of(laptop) == example("relay  home-wg: ABSENT")
    home, _ = greeted()
    home.relay_key = key.public
    home.introduce({"version": 2, "tunnPeers": ["laptop-wg"], "tunnId": "home-wg", "tunnToken": token, "tunnRole": 2})
    assert home.admitted()["tunnId"] == "home-wg"
    assert next_of(laptop) == example("relay  home-wg: UP, FORWARD")
    next_of(home)  # that laptop-wg is up
    for n in (1, 0):
        laptop.send(example(f"end    hello, of flow {n}"))
        assert next_of(home) == example("to home-wg")
    relay.p.terminate()
    assert next_of(laptop) == example("relay  draining, 2000 ms")
    f = laptop.read_until(lambda f: f.payload[:32] == bytes(32))
    assert frame(f.type, f.payload) == example("relay  UNAVAILABLE")
    assert laptop.ended() and next(shown, None) is None
