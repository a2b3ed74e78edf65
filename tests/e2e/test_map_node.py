"""The node for a DERP map that `tunn server` prints."""
import http.server
import json
import os
import re
import threading

import pytest
from harness import TUNN, ask, endpoint, free_port
from scripted_derp import NodeKey

PRINTED = "node for a DERP map: (.*)"


def node_of(relay):
    return json.loads(relay.wait_for(PRINTED).group(1))


def key_file(world, name):
    key, path = NodeKey(), f"{world.tmp}/{name}.key"
    with open(path, "x", encoding="ascii") as f:
        f.write("privkey:" + key.secret.hex())
    (world.tmp / f"{name}.key").chmod(0o600)
    return key, path


def test_a_map_of_what_is_printed_leads_to_the_relay_without_any_other_word_of_trust(world):
    node = node_of(world.relay(args=["--derp.allow", "any"]))
    assert node["HostName"] == "127.0.0.1" and node["STUNPort"] == -1
    with open(f"{world.tmp}/map.json", "w", encoding="ascii") as f:
        json.dump({"Regions": {"900": {"RegionID": 900, "RegionCode": "home", "Nodes": [node]}}}, f)
    (home, home_file), (laptop, laptop_file) = key_file(world, "home"), key_file(world, "laptop")
    echo, words = world.echo(), ["--derp-map", f"{world.tmp}/map.json"]
    world.program([TUNN, "relay", str(echo.port), *words, "--key-file", home_file, "--peer", laptop.text, "--forward"]).wait_for("connected")
    end = world.program([TUNN, "relay", str(free_port()), *words, "--key-file", laptop_file, "--peer", home.text, "--listen"])
    ask(world.socket(), endpoint(end), b"through the map")


def two_regions(world):
    """Relays and a map of them; the first is nearer by its score, whatever is measured."""
    relays = [world.relay(name=n, args=["--derp.allow", "any", "--stun", f"127.0.0.1:{free_port()}"]) for n in ("near", "far")]
    regions = {str(900 + i): {"RegionCode": f"r{i}", "Nodes": [node_of(r)]} for i, r in enumerate(relays)}
    with open(f"{world.tmp}/map.json", "w", encoding="ascii") as f:
        json.dump({"Regions": regions, "HomeParams": {"RegionScore": {"900": 0.001, "901": 1000}}}, f)
    return relays


def end_of_map(world, name="own"):
    _, own = key_file(world, name)
    return world.program([TUNN, "relay", str(free_port()), "--derp-map", f"{world.tmp}/map.json", "--key-file", own,
                          "--peer", NodeKey().text, "--listen"])


def udp_ports(end):
    """Local ports of all its UDP sockets."""
    fds, mine = f"/proc/{end.p.pid}/fd", set()
    for fd in os.listdir(fds):
        mine.update(re.findall(r"socket:\[(\d+)\]", os.readlink(f"{fds}/{fd}")))
    ports = []
    for family in ("udp", "udp6"):
        with open(f"/proc/{end.p.pid}/net/{family}", encoding="ascii") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        ports += [int(row[1].split(":")[1], 16) for row in rows if row[9] in mine]
    return ports


def test_what_measured_the_regions_does_not_stay(world):
    two_regions(world)
    end = end_of_map(world)
    end.wait_for("region 900, r0\\) over derp \\(nearest by STUN")
    end.wait_for("connected as")
    assert set(udp_ports(end)) == {endpoint(end)[1]}


def test_when_its_region_is_gone_an_end_goes_to_the_next(world):
    near, far = two_regions(world)
    end = end_of_map(world)
    end.wait_for("connected as")
    near.stop()
    end.wait_for(f"relay 127.0.0.1:{far.port} \\(region 901, r1\\) over derp from now on")
    end.wait_for("connected again")


def test_a_node_that_no_authority_vouches_for_is_told_without_options_that_do_not_go_with_a_map(world):
    node = node_of(world.relay(args=["--derp.allow", "any"]))
    del node["CertName"]
    with open(f"{world.tmp}/map.json", "w", encoding="ascii") as f:
        json.dump({"Regions": {"900": {"Nodes": [node]}}}, f)
    end = end_of_map(world)
    end.wait_for("not trusted: .*; --ca FILE names authorities to trust")
    assert "--pin" not in end.text()


@pytest.fixture(name="maps")
def _maps():
    """An HTTP server that gives out a map with the status that it is told."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(b'{"Regions":{"7":{"Nodes":[{"HostName":"127.0.0.1","DERPPort":1}]}}}')

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/map"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def end_of_url(world, maps, status, *more):
    maps.status = status
    _, own = key_file(world, "own")
    return world.program([TUNN, "relay", str(free_port()), "--derp-map", maps.url, "--key-file", own, "--peer", NodeKey().text,
                          "--listen", "--proxy", "none", *more])


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_map_that_is_not_there_now_is_asked_for_again(world, maps, status):
    end = end_of_url(world, maps, status)
    end.wait_for(f"reconnecting in 10 s because: --derp-map {maps.url}: HTTP {status} instead of a DERP map")
    end.stop()
    assert end.exit_code() == 0


@pytest.mark.parametrize("status, words", [(302, ", redirects are not followed"), (403, ""), (404, "")])
def test_a_map_that_is_not_there_for_good_ends_it(world, maps, status, words):
    end = end_of_url(world, maps, status)
    assert end.exit_code() == 2
    end.wait_for(f"ended: --derp-map {maps.url}: HTTP {status} instead of a DERP map{words}$")


def test_once_does_not_wait_for_a_map(world, maps):
    end = end_of_url(world, maps, 503, "--once")
    assert end.exit_code() == 4
    end.wait_for(f"cannot reach the relay: --derp-map {maps.url}: HTTP 503")


def test_a_file_that_is_no_map_is_told_before_anything_is_opened(world):
    with open(f"{world.tmp}/map.json", "w", encoding="ascii") as f:
        f.write('{"Regions":{"7":{"Nodes":[{}]}}}')
    end = end_of_map(world)
    assert end.exit_code() == 2
    end.wait_for('map.json: node 1 of region "7": HostName is missing')
    assert "listening" not in end.text()


@pytest.mark.parametrize("args, said", [
    (["--name", "relay.example.org"], {"HostName": "relay.example.org", "STUNPort": -1}),
    (["--stun", "127.0.0.1:34789"], {"HostName": "127.0.0.1", "STUNPort": 34789}),
    (["--name", "a.example", "--name", "b.example"], {"HostName": "a.example", "STUNPort": -1}),
], ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_the_node_has_the_name_and_the_ports_that_clients_use(world, args, said):
    relay = world.relay(args=["--derp.allow", NodeKey().text, *args])
    node = node_of(relay)
    assert node.pop("CertName").startswith("sha256-raw:")
    assert node == {"Name": "900a", "RegionID": 900, "DERPPort": relay.port, **said}


def test_a_certificate_that_was_given_is_not_pinned(world):
    relay = world.relay()
    relay.stop()
    given = world.relay(name="other", args=["--cert", f"{relay.state}/tls-cert.pem", "--key", f"{relay.state}/tls-key.pem", "--derp.allow", "any"])
    assert "CertName" not in node_of(given)


def test_nothing_is_printed_where_no_derp_client_is_let_in(world):
    relay = world.relay()
    relay.stop()
    assert "DERP map" not in relay.text()


def test_a_relay_that_has_no_name_says_that_it_needs_one(world):
    relay = world.relay(listen=":0", args=["--derp.allow", "any"])
    relay.wait_for("DERP clients need our name: --name HOST")
