"""The interop client of grpc-go against our test service (gRPC's interop test descriptions)."""
import os
import subprocess

import pytest
from harness import ROOT

CLIENT = f"{ROOT}/build/interop/grpcgo"
CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "custom_metadata",
         "status_code_and_message", "special_status_message", "unimplemented_method", "unimplemented_service",
         "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server", "rpc_soak", "channel_soak"]


@pytest.mark.skipif(not os.path.exists(CLIENT) and not os.environ.get("CI"), reason="no Go here to build grpc-go with")
@pytest.mark.parametrize("case", CASES)
def test_grpc_go(service, wide, case):
    if case == "channel_soak":  # leaves each of its channels open, and none of them is an end
        service = wide
    run = subprocess.run([CLIENT, "-use_tls", "-use_test_ca", "-ca_file", f"{service.state}/tls-cert.pem", "-server_host",
                          "localhost", "-server_port", str(service.port), "-test_case", case, "-soak_iterations", "100",
                          "-soak_overall_timeout_seconds", "50", "-soak_per_iteration_max_acceptable_latency_ms", "20000"],
                         capture_output=True, text=True, timeout=60, check=False)
    # (channel_soak: closing takes grpc-go 5 s now and then, with its own server too)
    assert run.returncode == 0, run.stdout + run.stderr
