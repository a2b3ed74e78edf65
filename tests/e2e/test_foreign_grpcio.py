"""A stock gRPC client (grpcio, C-core) made from proto/tunn.proto is an end like any other."""
import importlib
import os
import queue
import select
import socket
import ssl
import subprocess
import sys
import threading

import grpc
import pytest
from harness import ROOT, endpoint, free_port


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("stubs"))
    subprocess.run(["protoc", f"--proto_path={ROOT}/proto", f"--python_out={out}", f"--grpc_python_out={out}",
                    "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", "tunn.proto", "health.proto"], check=True)
    sys.path.insert(0, out)
    os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    names = ("tunn_pb2", "tunn_pb2_grpc", "health_pb2", "health_pb2_grpc")
    yield {n: importlib.import_module(n) for n in names}
    sys.path.remove(out)


@pytest.fixture
def channel(world, relay):
    with open(f"{relay.state}/tls-cert.pem", "rb") as f:
        credentials = grpc.ssl_channel_credentials(f.read())
    c = grpc.secure_channel(f"localhost:{relay.port}", credentials)
    world.cleanups.append(c.close)
    return c


def token_of(relay):
    with open(relay.token) as f:
        return f.read().strip()


class Stranger:
    """One stream of a stock client."""

    def __init__(self, pb, channel, metadata=(), **register):
        self.pb, self.out = pb["tunn_pb2"], queue.Queue()
        relay = self.pb.RelayConfig(peer_ids=register.pop("peers"), **register.pop("relay", {}))
        first = self.pb.TunnelMessage(register_client=self.pb.RegisterClient(relay=relay, **register))
        self.out.put(first)
        self.call = pb["tunn_pb2_grpc"].TunnelServiceStub(channel).EstablishTunnel(iter(self.out.get, None),
                                                                                   metadata=metadata)

    def until(self, kind):
        for m in self.call:
            if m.WhichOneof("message") == kind:
                return getattr(m, kind)
        raise AssertionError(f"the stream ended without {kind}")

    def send(self, data, **fields):
        self.out.put(self.pb.TunnelMessage(udp_packet=self.pb.UdpPacket(data=data, **fields)))

    def status(self):
        with pytest.raises(grpc.RpcError) as e:
            for _ in self.call:
                pass
        return e.value.code(), e.value.details()

    def close(self):
        self.out.put(None)


def test_G7_stock_client_exchanges_datagrams_of_every_size_with_our_end(world, relay, stubs, channel):
    echo = world.echo()
    world.end(relay, echo.port, "home", "stock", "--forward").wait_for("connected")
    s = Stranger(stubs, channel, tunnel_id="stock", auth_token=token_of(relay), peers=["home"])
    answer = s.until("register_response")
    assert (answer.success, answer.account, answer.max_payload, answer.tunnel_id) == (True, "main", 65507, "stock")
    assert s.until("peer_status").state == s.pb.PeerStatus.UP
    for size in (0, 1, 127, 128, 1420, 16384, 65507):
        data = os.urandom(size)
        s.send(data, peer_id="home")
        got = s.until("udp_packet")
        assert (got.data, got.tunnel_id) == (data, "home")
    s.close()


def test_G7_our_end_reaches_a_stock_client(world, relay, stubs, channel):
    stock = Stranger(stubs, channel, tunnel_id="stock", auth_token=token_of(relay), peers=["laptop"])
    stock.until("register_response")
    laptop = world.end(relay, free_port(), "laptop", "stock", "--listen")
    address, u = endpoint(laptop), world.socket()
    laptop.wait_for("stock is up")
    u.sendto(b"question", address)
    got = stock.until("udp_packet")
    assert got.data == b"question"
    stock.send(b"answer", peer_id="laptop", flow=got.flow)
    u.settimeout(10)
    assert u.recv(100) == b"answer"
    stock.close()


def test_token_may_travel_as_metadata(relay, stubs, channel):
    s = Stranger(stubs, channel, metadata=(("authorization", f"Bearer {token_of(relay)}"),), tunnel_id="meta", peers=["x"])
    assert s.until("register_response").account == "main"
    s.close()


class PlainDoor:
    """Takes HTTP/2 without TLS and passes it on with TLS. C-core channels share a connection only where
    their credentials are one object, which Python gives to plain channels alone."""

    def __init__(self, relay):
        self.context = ssl.create_default_context(cafile=f"{relay.state}/tls-cert.pem")
        self.context.set_alpn_protocols(["h2"])
        self.to, self.server = relay.port, socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                plain, _ = self.server.accept()
                threading.Thread(target=self.serve, args=(plain,), daemon=True).start()
        except OSError:
            pass

    def serve(self, plain):
        with plain, self.context.wrap_socket(socket.create_connection(("127.0.0.1", self.to)),
                                             server_hostname="localhost") as sealed:
            sealed.settimeout(0)
            while True:
                readable = select.select([plain, sealed], [], [])[0]
                if plain in readable:
                    if not (data := plain.recv(65536)):
                        return
                    sealed.settimeout(None)
                    sealed.sendall(data)
                    sealed.settimeout(0)
                try:
                    while sealed in readable:
                        if not (data := sealed.recv(65536)):
                            return
                        plain.sendall(data)
                except ssl.SSLWantReadError:
                    pass


def test_two_channels_that_share_one_connection_are_two_ends(world, relay, stubs):
    door, token = PlainDoor(relay), token_of(relay)
    world.cleanups.append(door.server.close)
    channels = [grpc.insecure_channel(f"127.0.0.1:{door.port}") for _ in range(2)]
    world.cleanups += [c.close for c in channels]
    a, b, c = (Stranger(stubs, ch, tunnel_id=n, auth_token=token, peers=[p for p in "abc" if p != n])
               for n, ch in zip("abc", (*channels, channels[0])))  # the third: a second stream of the first
    ends = {"a": a, "b": b, "c": c}
    for end in ends.values():
        end.until("register_response")
    assert relay.counters()["connections_accepted_total"] == 1
    for x, y in ("ab", "ba", "ac", "ca", "bc", "cb"):
        ends[x].send(f"{x} to {y}".encode(), peer_id=y)
        got = ends[y].until("udp_packet")
        assert (got.data, got.tunnel_id) == (f"{x} to {y}".encode(), x)
    for end in ends.values():
        end.close()


def test_forged_source_in_a_packet_changes_nothing(relay, stubs, channel):
    token = token_of(relay)
    a = Stranger(stubs, channel, tunnel_id="a", auth_token=token, peers=["b"])
    a.until("register_response")
    b = Stranger(stubs, channel, tunnel_id="b", auth_token=token, peers=["a", "victim"])
    b.until("register_response")
    a.send(b"forged", peer_id="b", tunnel_id="victim", source_addr="169.254.169.254:80")
    got = b.until("udp_packet")
    assert (got.tunnel_id, got.source_addr) == ("a", "")
    a.close()
    b.close()


@pytest.mark.parametrize("fields,code", [
    ({"tunnel_id": "a", "auth_token": "tunn_wrong", "peers": ["b"]}, "UNAUTHENTICATED"),
    ({"tunnel_id": "a", "auth_token": "", "peers": ["b"]}, "UNAUTHENTICATED"),
    ({"tunnel_id": "A", "auth_token": None, "peers": ["b"]}, "INVALID_ARGUMENT"),
    ({"tunnel_id": "a", "auth_token": None, "peers": []}, "INVALID_ARGUMENT"),
    ({"tunnel_id": "a", "auth_token": None, "peers": ["a"]}, "INVALID_ARGUMENT"),
    ({"tunnel_id": "a", "auth_token": None, "peers": ["b\0c"]}, "INVALID_ARGUMENT"),
    ({"tunnel_id": "a", "auth_token": None, "peers": ["b"], "instance": b"short"}, "INVALID_ARGUMENT"),
    ({"tunnel_id": "a", "auth_token": None, "peers": [f"p{i}" for i in range(513)]}, "RESOURCE_EXHAUSTED"),
])
def test_bad_registrations_get_their_status(relay, stubs, channel, fields, code):
    if fields["auth_token"] is None:
        fields = fields | {"auth_token": token_of(relay)}
    assert Stranger(stubs, channel, **fields).status()[0].name == code


def test_superseded_stream_is_aborted_with_the_stable_word(relay, stubs, channel):
    token = token_of(relay)
    old = Stranger(stubs, channel, tunnel_id="a", auth_token=token, peers=["b"])
    old.until("register_response")
    new = Stranger(stubs, channel, tunnel_id="a", auth_token=token, peers=["b"])
    new.until("register_response")
    code, text = old.status()
    assert code.name == "ABORTED" and text.startswith("superseded")
    new.close()


def test_fight_over_an_id_makes_both_wait(relay, stubs, channel):
    token = token_of(relay)
    codes = []
    streams = [Stranger(stubs, channel, tunnel_id="a", auth_token=token, peers=["b"])]
    streams[0].until("register_response")
    for _ in range(4):
        streams.append(Stranger(stubs, channel, tunnel_id="a", auth_token=token, peers=["b"]))
        codes.append(streams[-2].status()[0].name)
    codes.append(streams[-1].status()[0].name)
    assert codes == ["ABORTED"] * 3 + ["UNAVAILABLE"] * 2


def test_health_check_and_watch_follow_the_drain(world, relay, stubs, channel):
    pb, stub = stubs["health_pb2"], stubs["health_pb2_grpc"].HealthStub(channel)
    assert stub.Check(pb.HealthCheckRequest(), timeout=10).status == pb.HealthCheckResponse.SERVING
    assert stub.Check(pb.HealthCheckRequest(service="tunn.v1.TunnelService"), timeout=10).status == 1
    with pytest.raises(grpc.RpcError) as e:
        stub.Check(pb.HealthCheckRequest(service="nobody"), timeout=10)
    assert e.value.code() == grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(pb.HealthCheckRequest())
    unknown = stub.Watch(pb.HealthCheckRequest(service="nobody"))
    assert next(watch).status == pb.HealthCheckResponse.SERVING
    assert next(unknown).status == pb.HealthCheckResponse.SERVICE_UNKNOWN
    end = Stranger(stubs, channel, tunnel_id="a", auth_token=token_of(relay), peers=["b"])
    end.until("register_response")
    relay.p.terminate()
    assert next(watch).status == pb.HealthCheckResponse.NOT_SERVING
    assert end.until("notice").draining.within_ms == 2000
    assert relay.exit_code(10) == 0


def test_unknown_methods_are_unimplemented(relay, channel):
    for path in ("/tunn.v1.TunnelService/Nope", "/nope.Service/EstablishTunnel", "/tunn.v1.tunnelservice/EstablishTunnel"):
        with pytest.raises(grpc.RpcError) as e:
            channel.unary_unary(path)(b"", timeout=10)
        assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_flow_number_is_echoed_by_our_forwarding_end(world, relay, stubs, channel):
    echo = world.echo()
    world.end(relay, echo.port, "home", "stock", "--forward").wait_for("connected")
    s = Stranger(stubs, channel, tunnel_id="stock", auth_token=token_of(relay), peers=["home"])
    s.until("register_response")
    for flow in (7, 0, 4000000000):
        s.send(b"f", peer_id="home", flow=flow)
        assert s.until("udp_packet").flow == flow
    assert len(echo.senders) == 3
    s.close()
