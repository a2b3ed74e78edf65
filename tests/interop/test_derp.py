"""What Tailscale's own DERP client, prober and netcheck demand of a DERP server: of the real derper, to know that the demand is right, and of
ours. The cases are Go (tests/interop/derp), built with the pinned tailscale.com; `derpcheck -list` names them."""
import http.server
import json
import os
import socket
import subprocess
import threading

import pytest
from derp_servers import HTTP, MESH, PROGRAMS, Authority, Server, World, can_mesh, check
from harness import ROOT

BUILT = all(os.path.exists(f"{PROGRAMS}/{p}") for p in ("derpcheck", "derper", "derpprobe"))
pytestmark = pytest.mark.skipif(not BUILT and not os.environ.get("CI"), reason="no Go here to build derper and derpcheck with")

CASES = {}
if BUILT:
    LISTED = subprocess.run([f"{PROGRAMS}/derpcheck", "-list"], capture_output=True, text=True, check=True).stdout
    CASES = {words[0]: words[1:] for words in map(str.split, LISTED.splitlines())}

KINDS = ["derper", "tunn"]
ELSEWHERE = ("slow", "two", "pair", "refused", "echo")

# Where ours may do otherwise than derper (docs/DERP.md): the notes of a case, by server.
DIFFERENT = {
    "client_info_that_is_accepted": {"derper": {"200000_bytes": "accepted"}, "tunn": {"200000_bytes": "refused"}},
    "peer_gone_disconnected_once_and_to_those_who_heard": {"derper": {"told_in_two_comings": 1}, "tunn": {"told_in_two_comings": 2}},
    "client_info_with_an_empty_mesh_key": {"derper": {"empty": "refused", "null": "refused"},
                                           "tunn": {"empty": "accepted", "null": "accepted"}},
    "packets_through_websocket": {"tunn": {"65536_to_websocket": "delivered", "65536_from_websocket": "derp.ReceivedPacket"}},
    "alpn": {"derper": {"h2_and_http/1.1": "http/1.1"}, "tunn": {"h2_and_http/1.1": "h2"}},
}


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def derp_world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("derp"))
    yield w
    w.close()


@pytest.fixture(scope="session", params=KINDS)
def server(request, derp_world, authority):
    return Server(request.param, derp_world, authority)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def waiting(server, derp_world, authority):
    """The slow cases, which begin before the others and are asked at the end."""
    own = Server(server.kind, derp_world, authority)
    began = {c: subprocess.Popen([f"{PROGRAMS}/derpcheck", "-server", own.describe(), c], stdout=subprocess.PIPE, text=True)
             for c, needs in CASES.items() if "slow" in needs}
    yield began
    for p in began.values():
        p.kill()
        p.wait()


@pytest.mark.parametrize("case", [c for c, needs in CASES.items() if not set(needs) & set(ELSEWHERE)])
def test_derp(server, waiting, case):
    if "port80" in CASES[case] and server.kind == "tunn":
        with pytest.raises(ConnectionRefusedError):  # ours serves no plain HTTP
            socket.create_connection((server.host, HTTP))
        return
    env = {**server.authority.env, "TUNN_DERP_MAP": f"{ROOT}/docs/derp-map"}
    notes = check(case, server, env=env)
    want = DIFFERENT.get(case, {}).get(server.kind, {})
    assert {k: notes.get(k) for k in want} == want


@pytest.mark.parametrize("case", [c for c, needs in CASES.items() if "slow" in needs])
def test_derp_that_takes_its_time(waiting, case):
    out, _ = waiting[case].communicate(timeout=90)
    said = json.loads(out.splitlines()[-1])
    assert said["ok"], said


def test_the_key_is_the_same_after_a_restart(kind, derp_world, authority):
    first = Server(kind, derp_world, authority)
    key = check("handshake_with_fast_start", first)["server_key"]
    first.program.stop()
    second = Server(kind, derp_world, authority, again=first)
    assert check("handshake_with_fast_start", second)["server_key"] == key
    second.program.stop()


def test_a_key_file_of_derper_is_a_key_file(kind, derp_world, authority):
    key = "e0" * 31 + "5f"
    s = Server(kind, derp_world, authority, key_file='{\n\t"PrivateKey": "privkey:%s"\n}' % key)
    assert check("handshake_with_fast_start", s)["server_key"] == subprocess.run(
        [f"{PROGRAMS}/derpcheck", "-public", key], capture_output=True, text=True, check=True).stdout.strip()
    s.program.stop()


def test_its_own_certificate_is_pinned_by_its_hash(kind, derp_world, authority):
    s = Server(kind, derp_world, authority, own_certificate=True)
    check("handshake_with_fast_start", s)
    check("packets_of_every_size_both_ways", s)
    s.program.stop()


def test_a_mesh_key_file_is_trimmed_and_of_either_case(kind, derp_world, authority):
    s = Server(kind, derp_world, authority, mesh_text=f"\n {MESH.upper()}\t\r\n")
    check("client_info_finds_the_mesh_key_in_any_case", s)
    s.program.stop()


@pytest.mark.parametrize("text", ["badf00d", MESH + "00", MESH[:-2] + "zz"])
def test_a_bad_mesh_key_file_ends_the_start(kind, derp_world, authority, text):
    s = Server(kind, derp_world, authority, mesh_text=text, wait=False)
    assert s.program.exit_code() != 0
    assert text not in s.program.text()


@pytest.mark.parametrize("case", [c for c, needs in CASES.items() if "pair" in needs])
def test_beside_derper(kind, derp_world, authority, case):
    """The same is done with a derper and with the other, derper itself once to know that the comparison holds."""
    servers = [Server(k, derp_world, authority, workers=1) for k in ("derper", kind)]
    check(case, servers[0], other=servers[1], seconds=120)
    for s in servers:
        s.program.stop()


class Admission:
    """The URL that is asked whether a key may enter."""

    def __init__(self, world):
        self.asked, self.answer = [], (200, b'{"Allow":true}')
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                status, body = outer.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/admit"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        world.cleanups.append(self.close)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


ADMISSION = {"derper": lambda url: [f"-verify-client-url={url}", "-verify-client-url-fail-open=false"],
             "tunn": lambda url: ["--derp.verify-url", url]}


def test_an_url_is_asked_who_may_enter(kind, derp_world, authority):
    admission = Admission(derp_world)
    s = Server(kind, derp_world, authority, admission=ADMISSION[kind](admission.url))
    for answer in (b'{"Allow":true}', b'{"allow": true, "more": [1]}'):
        admission.answer = 200, answer
        check("packets_reach_only_whom_they_name", s)
    assert all(a["NodePublic"].startswith("nodekey:") and a["Source"] == "127.0.0.1" for a in admission.asked), admission.asked
    for answer in ((200, b'{"Allow":false}'), (200, b"{}"), (200, b"yes"), (200, b""), (403, b'{"Allow":true}'), (500, b'{"Allow":true}'),
                   (200, b'{"Allow":true}'.rjust(4097)), (200, b'{"Allow":1}')):
        admission.answer, before = answer, len(admission.asked)
        key = check("who_is_refused_is_cut_without_a_frame", s)["key"]
        assert [a["NodePublic"] for a in admission.asked[before:]] == [key]  # once, and mesh peers not at all
    admission.close()
    check("who_is_refused_is_cut_without_a_frame", s)
    s.program.stop()


PAIRS = [("derper", "derper")] + ([("derper", "tunn"), ("tunn", "derper"), ("tunn", "tunn")] if can_mesh() else [])


@pytest.fixture(scope="session", params=PAIRS, ids="-".join)
def mesh(request, derp_world, authority):
    """Two servers, each of which watches the other and itself."""
    hosts = [Server.new_host(), Server.new_host()]
    with_both = [f"{h}:{Server.PORT}" for h in hosts]
    return [Server(kind, derp_world, authority, host=h, mesh_with=with_both) for kind, h in zip(request.param, hosts)]


@pytest.mark.parametrize("case", [c for c, needs in CASES.items() if "two" in needs])
@pytest.mark.parametrize("way", [(0, 1), (1, 0)], ids=["there", "back"])
def test_mesh(mesh, case, way):
    check(case, mesh[way[0]], other=mesh[way[1]])


def probe(world, authority, nodes, *words):
    """The probes that derpprobe calls good; there are no others."""
    path = f"{world.tmp}/derpmap.json"
    with open(path, "w", encoding="ascii") as f:
        json.dump({"Regions": {"900": {"RegionID": 900, "RegionCode": "test", "RegionName": "Test", "Nodes": nodes}}}, f)
    run = subprocess.run([f"{PROGRAMS}/derpprobe", "-once", "-spread=false", f"-derp-map=file://{path}", *words], capture_output=True, text=True,
                         timeout=120, check=False, env=authority.env)
    assert run.returncode == 0, run.stderr
    return {line.split("good: ")[1].rsplit(": ", 1)[0] for line in run.stderr.splitlines() if "good: " in line}


BANDWIDTH = ("-tls-interval=0", "-bw-interval=15s", "-bw-probe-size-bytes=10000000")


def test_derpprobe_is_content(server, derp_world, authority):
    # Its mesh probe wants a server name in the handshake; its TLS probe looks the name up, and an address is one already.
    assert probe(derp_world, authority, [server.node("900a")], *BANDWIDTH) == {"derpmap-probe"} | {
        f"derp/test/900a/{what}" for what in ("udp", "900a/mesh", "900a/bw")}
    assert probe(derp_world, authority, [server.node("900a", server.host)], "-mesh-interval=0") == {
        "derpmap-probe", "derp/test/900a/tls", "derp/test/900a/udp"}


def test_derpprobe_is_content_with_a_mesh(mesh, derp_world, authority):
    check("a_mesh_of_two_carries_packets_both_ways", *mesh)  # the links are up
    good = probe(derp_world, authority, [mesh[0].node("900a"), mesh[1].node("900b")], *BANDWIDTH, "-mesh-psk-file", mesh[0].mesh)
    assert good == {"derpmap-probe", "derp/test/900a/udp", "derp/test/900b/udp"} | {
        f"derp/test/{a}/{b}/{what}" for a in ("900a", "900b") for b in ("900a", "900b") for what in ("mesh", "bw")}


def test_the_load_of_the_benchmark_loses_nothing(server, authority):
    words = [f"{PROGRAMS}/derpload", "-server", server.describe()]
    run = subprocess.run([*words, "-pairs", "4", "-window", "8", "-seconds", "1", "-warm", "0.2"], capture_output=True, text=True, timeout=60,
                         check=False, env=authority.env)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    print(said)
    assert said["lost"] == 0 and said["received"] > 100 and 0 < said["p50_us"] <= said["p99_us"], said
    with subprocess.Popen([*words, "-idle", "200"], stdout=subprocess.PIPE, text=True, env=authority.env) as idle:
        assert json.loads(idle.stdout.readline())["idle"] == 200
        idle.kill()
