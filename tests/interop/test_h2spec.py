"""h2spec against our relay: the same outcome, case by case, as nghttp2's own server."""
import os
import re
import subprocess
import xml.etree.ElementTree as xml

import pytest
from harness import ROOT

H2SPEC = f"{ROOT}/build/interop/h2spec-bin"


@pytest.mark.skipif(not os.path.exists(H2SPEC) and not os.environ.get("CI"), reason="no Go here to build h2spec with")
def test_h2spec_finds_nothing_that_nghttp2s_own_server_would_not_show(world, relay):
    report = f"{world.tmp}/h2spec.xml"
    # Two of its longest header fields make one header list, and ours ends at 8 KiB.
    out = subprocess.run([H2SPEC, "-t", "-k", "-h", "127.0.0.1", "-p", str(relay.port), "-j", report, "--max-header-length",
                          "3900"], capture_output=True, text=True, timeout=300, check=False).stdout
    assert re.search(r"^145 tests, 144 passed, 0 skipped, 1 failed$", out, re.M), out[out.find("Failures:"):]
    failed = [(c.get("package"), c.get("classname")) for c in xml.parse(report).iter("testcase") if len(c)]
    # nghttp2 ignores a stream that is older than the newest, where GOAWAY was expected.
    assert failed == [("http2/5.1.1", "Sends stream identifier that is numerically smaller than previous")]
