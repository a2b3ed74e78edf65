"""grpcurl asks the relay which services there are, and calls one of them by what it was told."""
import json
import os
import subprocess

import pytest
from harness import ROOT

GRPCURL = f"{ROOT}/build/interop/grpcurl"
pytestmark = pytest.mark.skipif(not os.path.exists(GRPCURL) and not os.environ.get("CI"), reason="no Go here to build grpcurl with")


def grpcurl(relay, *words, trust=None):
    trust = trust or ("-cacert", f"{relay.state}/tls-cert.pem")
    return subprocess.run([GRPCURL, "-max-time", "20", *trust, *words], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def curious(world):
    return world.relay(args=["--reflection"])


def test_grpcurl_lists_services_and_methods(curious):
    at = f"127.0.0.1:{curious.port}"
    assert grpcurl(curious, at, "list").stdout.split() == [
        "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
        "tunn.v1.TunnelService"]
    assert grpcurl(curious, at, "list", "grpc.health.v1.Health").stdout.split() == [
        "grpc.health.v1.Health.Check", "grpc.health.v1.Health.Watch"]


def test_grpcurl_describes_every_symbol(curious):
    at = f"127.0.0.1:{curious.port}"
    out = grpcurl(curious, at, "describe", trust=("-insecure",))
    assert "rpc EstablishTunnel ( stream .tunn.v1.TunnelMessage ) returns ( stream .tunn.v1.TunnelMessage );" in out.stdout
    for symbol, words in (("tunn.v1.TunnelService.EstablishTunnel", "is a method"), ("tunn.v1.UdpPacket", "bytes data = 3;"),
                          ("tunn.v1.PeerStatus.State", "NOT_MUTUAL = 3;"), ("tunn.v1.UdpPacket.peer_id", "string peer_id = 2;")):
        assert words in grpcurl(curious, at, "describe", symbol).stdout, symbol
    assert grpcurl(curious, at, "describe", "tunn.v1.Nothing").returncode != 0


def test_grpcurl_calls_health_by_what_reflection_told(curious):
    out = grpcurl(curious, "-d", '{"service": "tunn.v1.TunnelService"}', f"127.0.0.1:{curious.port}", "grpc.health.v1.Health/Check")
    assert json.loads(out.stdout) == {"status": "SERVING"}
    out = grpcurl(curious, "-d", '{"service": "no.such"}', f"127.0.0.1:{curious.port}", "grpc.health.v1.Health/Check")
    assert "NotFound" in out.stderr


def test_without_the_operators_word_there_is_no_reflection(relay):
    out = grpcurl(relay, f"127.0.0.1:{relay.port}", "list")
    assert out.returncode != 0
    assert "does not support the reflection API" in out.stderr
