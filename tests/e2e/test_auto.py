"""`--transport auto`: grpc where it works, else derp, and people are told which and why. Between end and relay are boxes that do not like HTTP/2."""
import asyncio
import os
import socket
import ssl
import threading
import types

import pytest
from harness import Middlebox, ask, endpoint, free_port
from scripted_relay import certificate

ALERT = bytes([21, 3, 3, 0, 2, 2, 120])  # fatal, no_application_protocol (RFC 7301 3.2)


class Box(Middlebox):
    """Looks at ClientHellos, and ends connections that offer h2, with `words`; it ends no TLS, so that the relay's own certificate is seen."""

    def __init__(self, world, relay, words):
        self.words, self.n_refused, self.n_passed = words, 0, 0
        super().__init__(relay.port)
        self.pin = relay.pin
        world.cleanups.append(self.close)

    def _copy(self, x, y):
        with self.lock:
            is_upward = any(pair == (x, y) for pair in self.pairs)
        if is_upward:
            hello = x.recv(5, socket.MSG_WAITALL)
            hello += x.recv(int.from_bytes(hello[3:], "big"), socket.MSG_WAITALL)
            if b"\x02h2" in hello:
                self.n_refused += 1
                x.sendall(self.words)
                for s in (x, y):
                    s.shutdown(socket.SHUT_RDWR)
                return
            self.n_passed += 1
            y.sendall(hello)
        super()._copy(x, y)


class Inspector:
    """Ends TLS with a certificate of its own and offers http/1.1 alone; to the relay it speaks TLS of its own."""

    def __init__(self, world, relay):
        own = certificate(world.tmp)
        self.pin, self.heard, self.to, self.loop = own.pin, [], relay.port, asyncio.new_event_loop()
        self.inner, self.outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        self.inner.load_cert_chain(own.cert, own.key)
        self.inner.set_alpn_protocols(["http/1.1"])
        self.outer.check_hostname, self.outer.verify_mode = False, ssl.CERT_NONE
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.inner))
        self.port = server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        world.cleanups.append(self.close)

    def close(self):
        async def let_go():
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for t in rest:
                t.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
        asyncio.run_coroutine_threadsafe(let_go(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    async def _serve(self, reader, writer):
        from_relay, to_relay = await asyncio.open_connection("127.0.0.1", self.to, ssl=self.outer)

        async def copy(x, y, heard):
            try:
                while data := await x.read(65536):
                    heard.append(data)
                    y.write(data)
                    await y.drain()
            except OSError:
                pass
            y.close()
        await asyncio.gather(copy(reader, to_relay, self.heard), copy(from_relay, writer, []))


def laptop_through(world, relay, box, *args):
    """Home is at the relay itself, over grpc. The laptop's words are the usual ones; the pin is that of who ends its TLS."""
    echo = world.echo()
    world.end(relay, echo.port, "home", "laptop", "--forward", "--transport", "grpc").wait_for("connected")
    known, relay.pin = relay.pin, box.pin
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen", *args, url=f"https://127.0.0.1:{box.port}")
    relay.pin = known
    return laptop


def works(world, laptop):
    for size in (1, 1400, 60000):
        ask(world.socket(), endpoint(laptop), os.urandom(size))


def test_grpc_is_used_where_it_works(world, relay):
    laptop = laptop_through(world, relay, relay)
    works(world, laptop)
    assert f"relay 127.0.0.1:{relay.port} over grpc (auto)" in laptop.text()
    assert "derp" not in laptop.text() and relay.counters()["derp_accepts_total"] == 0


WORDS = {"refuses": (ALERT, "TLS failed: .*no application protocol"), "cuts": (b"", "the connection ended"),
         "answers_http": (b"HTTP/1.1 403 Forbidden\r\n\r\n", "TLS failed: ")}


@pytest.mark.parametrize("row", WORDS)
def test_derp_is_used_where_a_box_ends_what_offers_http2(world, relay, row):
    words, why = WORDS[row]
    box = Box(world, relay, words)
    laptop = laptop_through(world, relay, box)
    at = f"127.0.0.1:{box.port}"
    laptop.wait_for(f"relay {at} over grpc \\(auto\\)")
    laptop.wait_for(f"{at} over grpc does not work, trying the next way: {why}")
    laptop.wait_for(f"relay {at} over derp from now on")
    laptop.wait_for("connected as laptop; the other side needs --peer laptop")
    works(world, laptop)
    assert relay.counters()["derp_accepts_total"] == 1 and box.n_refused == 1


def test_derp_is_used_where_a_box_that_ends_tls_strips_http2(world, relay):
    """The box reads all: what it sees is an upgrade, and inside it a box to which it has no key."""
    box = Inspector(world, relay)
    laptop = laptop_through(world, relay, box)
    laptop.wait_for(r"over grpc does not work, trying the next way: .*HTTP/2 was not agreed in the TLS handshake \(ALPN\)")
    laptop.wait_for("over derp from now on")
    works(world, laptop)
    heard = b"".join(box.heard)
    assert heard.startswith(b"GET /derp HTTP/1.1\r\n")
    with open(relay.token, "rb") as f:
        assert f.read().strip() not in heard


def test_the_way_that_worked_is_the_first_when_the_connection_is_lost(world, relay):
    box = Box(world, relay, ALERT)
    laptop = laptop_through(world, relay, box)
    works(world, laptop)
    at = laptop.count()
    box.finish_all()
    laptop.wait_for("connected again", after=at)
    works(world, laptop)
    assert (box.n_refused, box.n_passed) == (1, 2)
    assert "over derp" not in "\n".join(laptop.lines[at:])


def test_no_other_way_is_tried_where_nobody_answers(world, relay):
    """The relay is not there: another protocol would not find it either."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        nobody = types.SimpleNamespace(port=s.getsockname()[1], pin=relay.pin)
    laptop = laptop_through(world, relay, nobody)
    laptop.wait_for("reconnecting in .* because: ")
    assert "derp" not in laptop.text() and "the next way" not in laptop.text()


def test_grpc_alone_says_why_it_does_not_work_and_goes_on_trying(world, relay):
    laptop = laptop_through(world, relay, Inspector(world, relay), "--transport", "grpc")
    laptop.wait_for("reconnecting in .* because: .*HTTP/2 was not agreed")
    assert "derp" not in laptop.text()


def test_no_other_way_is_tried_with_who_shows_the_wrong_certificate(world, relay):
    box = Inspector(world, relay)
    laptop = laptop_through(world, relay, types.SimpleNamespace(port=box.port, pin=relay.pin))
    laptop.wait_for("reconnecting in .* because: TLS failed: .*which is not the pinned one")
    assert "the next way" not in laptop.text() and not box.heard
