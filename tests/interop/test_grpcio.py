"""gRPC's interop cases by grpcio (C-core) against our test service; the messages are made from Debian's grpc-proto at run time."""
import queue
import subprocess
import threading
import types

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "/grpc.testing.TestService/"
LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
REQUESTS, RESPONSES = [27182, 8, 1828, 45904], [31415, 9, 2653, 58979]
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


@pytest.fixture(scope="module")
def pb():
    packed = subprocess.run(["protoc", "-I/usr/share/grpc-proto", "--include_imports", "--descriptor_set_out=/dev/stdout",
                             "grpc/testing/messages.proto", "grpc/testing/empty.proto"], capture_output=True, check=True).stdout
    pool = descriptor_pool.DescriptorPool()
    for f in descriptor_pb2.FileDescriptorSet.FromString(packed).file:
        pool.Add(f)
    names = ("Empty", "SimpleRequest", "SimpleResponse", "StreamingInputCallRequest", "StreamingInputCallResponse",
             "StreamingOutputCallRequest", "StreamingOutputCallResponse", "ResponseParameters", "Payload", "EchoStatus", "BoolValue")
    factory = message_factory.MessageFactory(pool)
    return types.SimpleNamespace(**{n: factory.GetPrototype(pool.FindMessageTypeByName(f"grpc.testing.{n}")) for n in names})


class Stub:
    def __init__(self, pb, relay, *options):
        with open(f"{relay.state}/tls-cert.pem", "rb") as f:
            credentials = grpc.ssl_channel_credentials(f.read())
        self.channel = grpc.secure_channel(f"localhost:{relay.port}", credentials, options)

        def call(kind, name, request, response, service=SERVICE):
            return getattr(self.channel, kind)(service + name, request_serializer=request.SerializeToString,
                                               response_deserializer=response.FromString)
        self.empty = call("unary_unary", "EmptyCall", pb.Empty, pb.Empty)
        self.unary = call("unary_unary", "UnaryCall", pb.SimpleRequest, pb.SimpleResponse)
        self.input = call("stream_unary", "StreamingInputCall", pb.StreamingInputCallRequest, pb.StreamingInputCallResponse)
        self.output = call("unary_stream", "StreamingOutputCall", pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse)
        self.duplex = call("stream_stream", "FullDuplexCall", pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse)
        self.unknown_method = call("unary_unary", "UnimplementedCall", pb.Empty, pb.Empty)
        self.unknown_service = call("unary_unary", "UnimplementedCall", pb.Empty, pb.Empty, "/grpc.testing.UnimplementedService/")


@pytest.fixture
def stub(pb, service):
    s = Stub(pb, service)
    yield s
    s.channel.close()


def output_request(pb, sizes, payload=0):
    return pb.StreamingOutputCallRequest(response_parameters=[pb.ResponseParameters(size=n) for n in sizes],
                                         payload=pb.Payload(body=bytes(payload)))


def failure(call):
    with pytest.raises(grpc.RpcError) as e:
        call()
    return e.value.code()


def test_empty_unary(pb, stub):
    assert stub.empty(pb.Empty(), timeout=20) == pb.Empty()


def test_large_unary(pb, stub):
    r = stub.unary(pb.SimpleRequest(response_size=LARGE_RESPONSE, payload=pb.Payload(body=bytes(LARGE_REQUEST))), timeout=20)
    assert r.payload.body == bytes(LARGE_RESPONSE)


def test_client_streaming(pb, stub):
    r = stub.input((pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(n))) for n in REQUESTS), timeout=20)
    assert r.aggregated_payload_size == sum(REQUESTS)


def test_server_streaming(pb, stub):
    assert [len(r.payload.body) for r in stub.output(output_request(pb, RESPONSES), timeout=20)] == RESPONSES


def test_ping_pong(pb, stub):
    turns = queue.Queue()
    answers = stub.duplex(iter(turns.get, None), timeout=20)
    for request, response in zip(REQUESTS, RESPONSES):
        turns.put(output_request(pb, [response], request))
        assert len(next(answers).payload.body) == response
    turns.put(None)
    assert list(answers) == []


def test_empty_stream(stub):
    assert list(stub.duplex(iter(()), timeout=20)) == []


def test_custom_metadata(pb, stub):
    sent = (("x-grpc-test-echo-initial", "test_initial_metadata_value"), ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"))
    request = pb.SimpleRequest(response_size=1)
    _, call = stub.unary.with_call(request, metadata=sent, timeout=20)
    assert sent[0] in call.initial_metadata() and sent[1] in call.trailing_metadata()
    call = stub.duplex(iter([output_request(pb, [1])]), metadata=sent, timeout=20)
    assert len(list(call)) == 1
    assert sent[0] in call.initial_metadata() and sent[1] in call.trailing_metadata()


@pytest.mark.parametrize("words", ["test status message", SPECIAL, "%", "100 % \x7f"], ids=["plain", "special", "percent", "delete"])
def test_status_code_and_message(pb, stub, words):
    status = pb.EchoStatus(code=2, message=words)
    for call in (lambda: stub.unary(pb.SimpleRequest(response_status=status), timeout=20),
                 lambda: list(stub.duplex(iter([pb.StreamingOutputCallRequest(response_status=status)]), timeout=20))):
        with pytest.raises(grpc.RpcError) as e:
            call()
        assert (e.value.code(), e.value.details()) == (grpc.StatusCode.UNKNOWN, words)


def test_unimplemented_method_and_service(pb, stub):
    assert failure(lambda: stub.unknown_method(pb.Empty(), timeout=20)) == grpc.StatusCode.UNIMPLEMENTED
    assert failure(lambda: stub.unknown_service(pb.Empty(), timeout=20)) == grpc.StatusCode.UNIMPLEMENTED


def forever(first=()):
    """Requests that do not end before the call does."""
    yield from first
    threading.Event().wait(20)


def test_cancel_after_begin(pb, stub):
    call = stub.input.future(forever(), timeout=20)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    assert stub.empty(pb.Empty(), timeout=20) == pb.Empty()


def test_cancel_after_first_response(pb, stub):
    call = stub.duplex(forever([output_request(pb, [RESPONSES[0]], REQUESTS[0])]), timeout=20)
    assert len(next(call).payload.body) == RESPONSES[0]
    call.cancel()
    assert failure(lambda: next(call)) == grpc.StatusCode.CANCELLED
    assert stub.empty(pb.Empty(), timeout=20) == pb.Empty()


def test_timeout_on_sleeping_server(pb, stub):
    assert stub.empty(pb.Empty(), timeout=20) == pb.Empty()  # so that it is the server that sleeps
    call = stub.duplex(forever([output_request(pb, [], 27182)]), timeout=0.2)
    assert failure(lambda: next(call)) == grpc.StatusCode.DEADLINE_EXCEEDED


def test_compressed_requests_are_refused_with_what_is_accepted(pb, stub):
    request = pb.SimpleRequest(response_size=10, payload=pb.Payload(body=bytes(1000)))
    with pytest.raises(grpc.RpcError) as e:
        stub.unary(request, compression=grpc.Compression.Gzip, timeout=20)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    big = (pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(1000))) for _ in range(2))
    assert failure(lambda: stub.input(big, compression=grpc.Compression.Gzip, timeout=20)) == grpc.StatusCode.UNIMPLEMENTED
    probe = pb.SimpleRequest(expect_compressed=pb.BoolValue(value=True), response_size=10)
    assert failure(lambda: stub.unary(probe, timeout=20)) == grpc.StatusCode.INVALID_ARGUMENT


def test_a_header_of_63_kB_passes_where_the_limit_allows_it(pb, wide, stub):
    s = Stub(pb, wide)
    assert s.empty(pb.Empty(), metadata=(("x-long", "v" * 63000),), timeout=20) == pb.Empty()
    s.channel.close()
    assert failure(lambda: stub.empty(pb.Empty(), metadata=(("x-long", "v" * 63000),), timeout=20)) != grpc.StatusCode.OK
    assert stub.empty(pb.Empty(), timeout=20) == pb.Empty()  # the call failed, not the connection


def test_thousands_of_calls_on_one_channel(pb, wide):
    s = Stub(pb, wide)
    for i in range(2000):
        assert len(s.unary(pb.SimpleRequest(response_size=i), timeout=20).payload.body) == i
    calls = [s.unary.future(pb.SimpleRequest(response_size=i), timeout=20) for i in range(1000)]
    assert [len(c.result().payload.body) for c in calls] == list(range(1000))
    s.channel.close()


@pytest.mark.parametrize("value", [b"", b"\0", b"ab", b"\xff" * 3, bytes(range(256))], ids=len)
def test_S16_binary_metadata_of_every_length(pb, stub, value):
    _, call = stub.unary.with_call(pb.SimpleRequest(), metadata=(("x-grpc-test-echo-trailing-bin", value),), timeout=20)
    got = dict(call.trailing_metadata()).get("x-grpc-test-echo-trailing-bin", b"")
    assert got == (value if len(value) < 128 else b"")  # the test service echoes no more


def test_the_shipped_program_has_no_test_service(pb, relay):
    s = Stub(pb, relay)
    assert failure(lambda: s.empty(pb.Empty(), timeout=20)) == grpc.StatusCode.UNIMPLEMENTED
    s.channel.close()
