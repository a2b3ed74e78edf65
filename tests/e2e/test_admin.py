"""The admin listener: what an operator sees, and that nobody else does."""
import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import ROOT, TUNN, ask, free_port
from scripted import DATA, Peer, register
from scripted_derp import Client

DEFAULT = {k: v for k, v in os.environ.items() if k != "TUNN_ADMIN"}  # of the environment that the harness made
ROUTES = ["/healthz", "/readyz", "/metrics", "/api/v1/tunnels", "/api/v1/accounts", "/api/v1/nodes", "/api/v1/series"]
TOKEN = "0123456789abcdef" * 2


def admin_relay(world, *args, admin="127.0.0.1:0", **kw):
    """A relay with .admin: the port; .tls: whether it speaks it there."""
    relay = world.relay(args=["--admin", admin, *args], **kw)
    m = relay.wait_for(r"admin on (https?)://\S*:(\d+)/$")
    relay.tls, relay.admin = m[1] == "https", int(m[2])
    return relay


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connect(relay):
    kind = http.client.HTTPSConnection if relay.tls else http.client.HTTPConnection
    return kind("127.0.0.1", relay.admin, timeout=20, **({"context": trusting()} if relay.tls else {}))


def get(relay, path, method="GET", **fields):
    """Status, fields and body; Host and others by their names with _ for -."""
    c = connect(relay)
    c.request(method, path, headers={k.replace("_", "-"): v for k, v in fields.items()})
    r = c.getresponse()
    answer = SimpleNamespace(status=r.status, fields={k.lower(): v for k, v in r.getheaders()}, body=r.read().decode())
    c.close()
    return answer


def get_json(relay, path, **fields):
    a = get(relay, path, **fields)
    assert a.status == 200 and a.fields["content-type"] == "application/json", a
    return json.loads(a.body)


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.05)
    return value


@pytest.fixture
def seen(world):
    relay = admin_relay(world)
    wait_until(lambda: get(relay, "/readyz").status == 200)
    return relay


# -- routes

def test_every_route_answers_with_fields_that_keep_it_to_itself(seen):
    for path in ROUTES:
        a = get(seen, path)
        assert a.status == 200, (path, a)
        assert a.fields["cache-control"] == "no-store" and a.fields["x-content-type-options"] == "nosniff"
        assert a.fields["x-frame-options"] == "DENY" and "default-src 'none'" in a.fields["content-security-policy"]
        assert not [f for f in a.fields if f.startswith("access-control")]
        head = get(seen, path, "HEAD")
        assert head.status == 200 and head.body == "" and int(head.fields["content-length"]) > 0
    assert get(seen, "/healthz").body == "ok\n" and get(seen, "/readyz").body == "ready\n"


def test_nothing_can_be_changed(seen):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/metrics", "/api/v1/tunnels"):
            a = get(seen, path, method)
            assert a.status == 405 and a.fields["allow"] == "GET, HEAD", (method, path)


def test_what_is_not_there_is_404_and_says_what_is(seen):
    for path in ("/index.html", "/page", "/api/v1/", "/api/v1/tunnels/", "/metrics/x", "/../metrics", "/%6detrics"):
        a = get(seen, path)
        assert a.status == 404 and "/api/v1/" in json.loads(a.body)["error"], path


PAGE = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css")} | {
    f"/{name}.js": (f"{name}.js", "text/javascript") for name in ("page", "api", "chart", "tables", "words")}
POLICY = {"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'", "base-uri 'none'",
          "form-action 'none'", "frame-ancestors 'none'"}


def test_the_page_is_in_the_program_and_kept_by_browsers(seen):
    with open(TUNN, "rb") as f:
        program = f.read()
    tags = set()
    for path, (name, kind) in PAGE.items():
        a = get(seen, path)
        with open(f"{ROOT}/server/admin/page/{name}", encoding="utf-8") as f:
            assert a.status == 200 and a.body == f.read() and a.body.encode() in program
        assert a.fields["content-type"] == f"{kind}; charset=utf-8" and set(a.fields["content-security-policy"].split("; ")) == POLICY
        assert a.fields["cache-control"] == "no-cache" and a.fields["x-content-type-options"] == "nosniff" and a.fields["x-frame-options"] == "DENY"
        tag = a.fields["etag"]
        assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
        for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
            again = get(seen, path, If_None_Match=known)
            assert again.status == 304 and again.body == "" and again.fields["etag"] == tag, known
        for unknown in ('"x"', tag[1:-1], tag[:-2] + '"', ""):
            assert get(seen, path, If_None_Match=unknown).status == 200, unknown
        head = get(seen, path, "HEAD")
        assert head.body == "" and int(head.fields["content-length"]) == len(a.body.encode())
        tags.add(tag)
    assert len(tags) == len(PAGE) and len(PAGE) == len(os.listdir(f"{ROOT}/server/admin/page"))


def test_the_page_holds_no_inline_script_or_style_and_names_nobody_else(seen):
    for path in PAGE:
        body = get(seen, path).body
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=\"|javascript:", body), path
        urls = set(re.findall(r"https?://[\w.-]+", body)) - {"http://www.w3.org"}  # the name of SVG
        assert not urls, path


@pytest.mark.parametrize("query,words", [
    ("/api/v1/tunnels?limit=0", "limit must be 1 to 1000"), ("/api/v1/tunnels?limit=1001", "limit must be 1 to 1000"),
    ("/api/v1/tunnels?limit=x", "limit must be"), ("/api/v1/tunnels?cursor=7", "cursor must be"),
    ("/api/v1/tunnels?cursor=99.1", "cursor must be"), ("/api/v1/tunnels?cursor=0.1x", "cursor must be"),
    ("/api/v1/tunnels?q=%00", "printable"), ("/api/v1/tunnels?q=a&q=b", "twice"), ("/api/v1/tunnels?colour=red", "limit, cursor, q"),
    ("/api/v1/tunnels?q=" + "x" * 65, "longer than 64"), ("/api/v1/series?last=601", "1 to 600"), ("/metrics?x=1", "no query"),
    ("/api/v1/nodes?x", "no query"), ("/api/v1/accounts?limit=-1", "limit must be")])
def test_a_bad_query_is_refused_in_words(seen, query, words):
    a = get(seen, query)
    assert a.status == 400 and words in json.loads(a.body)["error"]


def test_the_node_is_described(world):
    relay = admin_relay(world, "--node", "blue", "--workers", "2")
    wait_until(lambda: get(relay, "/readyz").status == 200)
    (node,) = get_json(relay, "/api/v1/nodes")["nodes"]
    version = subprocess.run([TUNN, "version"], capture_output=True, text=True, check=True).stdout
    assert node["name"] == "blue" and node["version"] in version and node["state"] == "ready"
    assert node["listening"] == [f"127.0.0.1:{relay.port}"] and node["admin"] == f"127.0.0.1:{relay.admin}"
    assert [w["worker"] for w in node["workers"]] == [0, 1] and all(w["answers"] for w in node["workers"])
    assert node["limits"]["newcomers"] > 0 and node["uptime_s"] >= 0


def test_accounts_and_their_usage_come_page_by_page(world, seen):
    for name in ("acme", "bolt"):
        world.new_account(seen, name)
    page = get_json(seen, "/api/v1/accounts?limit=2")
    assert [a["name"] for a in page["accounts"]] == ["acme", "bolt"] and page["next"] == "bolt"
    rest = get_json(seen, "/api/v1/accounts?cursor=bolt")
    assert [a["name"] for a in rest["accounts"]] == ["main"] and rest["next"] is None
    assert [a["name"] for a in get_json(seen, "/api/v1/accounts?q=ol")["accounts"]] == ["bolt"]
    pair, s = world.pair(seen), world.socket()
    ask(s, pair.address, b"x" * 1000)
    used = get_json(seen, "/api/v1/usage?q=main")
    assert used["usage"][0]["account"] == "main" and used["usage"][0]["sent_bytes"] >= 2000 and len(used["month"]) == 7
    assert get_json(seen, "/api/v1/usage?q=nobody") == {"usage": [], "month": used["month"], "next": None}
    open_relay = admin_relay(world, "--open", name="open")
    a = get(open_relay, "/api/v1/accounts")
    assert a.status == 404 and "no accounts" in json.loads(a.body)["error"]


# -- tunnels

def row_of(relay, end, q=""):
    rows = [r for r in get_json(relay, f"/api/v1/tunnels?q={q}")["tunnels"] if r["id"] == end]
    return rows[0] if rows else None


def test_a_tunnel_appears_with_its_traffic_and_goes(world, seen):
    pair, s = world.pair(seen), world.socket()
    wait_until(lambda: row_of(seen, "home") and row_of(seen, "laptop"))
    before = row_of(seen, "laptop")
    for _ in range(10):
        ask(s, pair.address, os.urandom(1000))
    # what was asked again before it came back counts too: by the ends' own figures
    sent, back = pair.laptop.counters(), pair.home.counters()
    wait_until(lambda: row_of(seen, "laptop")["in"]["bytes"] - before["in"]["bytes"] == sent["bytes_in_total"])
    laptop, home = row_of(seen, "laptop"), row_of(seen, "home")
    assert laptop["in"] == home["out"] and laptop["out"] == home["in"] and laptop["in"]["packets"] == sent["packets_in_total"]
    assert home["in"]["bytes"] == back["bytes_in_total"] >= 10000
    assert laptop["account"] == "main" and laptop["transport"] in ("grpc", "derp") and laptop["role"] == "listen"
    assert home["role"] == "forward" and laptop["address"].startswith("127.0.0.1:")
    assert laptop["peers"][0] | {"key": ""} == {"key": "", "state": "up", "account": "main", "id": "home"}
    assert abs(laptop["since_unix_s"] - time.time()) < 60 and laptop["queue"] == {"packets": 0, "bytes": 0}
    (usage,) = get_json(seen, "/api/v1/usage?q=main")["usage"]
    for word, ours in (("sent", "in"), ("received", "out")):
        assert usage[f"{word}_bytes"] == laptop[ours]["bytes"] + home[ours]["bytes"]
        assert usage[f"{word}_packets"] == laptop[ours]["packets"] + home[ours]["packets"]
    pair.home.stop()
    wait_until(lambda: row_of(seen, "home") is None)
    wait_until(lambda: row_of(seen, "laptop")["peers"][0]["state"] in ("gone", "absent"))
    assert row_of(seen, "laptop")["peers"][0]["id"] == "home"  # whom it misses is still said


def test_drops_are_told_by_reason(world, seen):
    laptop = world.end(seen, free_port(), "lonely", "nobody", "--listen")
    m = laptop.wait_for(r"Endpoint = ([\d.]+):(\d+)")
    s = world.socket()

    def dropped():
        s.sendto(b"x" * 100, (m[1], int(m[2])))
        row = row_of(seen, "lonely")
        return row and row["drops"].get("no_route")
    n = wait_until(dropped)
    peer = row_of(seen, "lonely")["peers"][0]
    assert n >= 1 and (peer["state"], peer["account"], peer["id"]) == ("absent", "main", "nobody")


class Crowd:
    """Ends that register by hand, 90 on each connection, on a relay that is open."""

    def __init__(self, world, relay):
        self.world, self.relay = world, relay

    def join(self, ids):
        ids, peers = list(ids), []
        while ids:
            part, ids = ids[:90], ids[90:]
            p = Peer(self.relay.port)
            with p.at_once():
                for i, name in enumerate(part):
                    p.call(2 * i + 1)
                    p.frame(DATA, 0, 2 * i + 1, register("", name.encode()))
            for i in range(len(part)):
                p.read_until(lambda f: f.type == DATA)
            peers.append(p)
        return peers


def test_pages_have_every_tunnel_once(world):
    relay = admin_relay(world, "--open", "--workers", "2")
    crowd = Crowd(world, relay).join(f"end-{i:03}" for i in range(250))
    for limit in (1, 7, 125, 249, 250, 1000):
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor:
            page = get_json(relay, f"/api/v1/tunnels?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
            assert len(page["tunnels"]) <= limit and page["unanswered"] == []
            found += [t["id"] for t in page["tunnels"]]
            cursor, pages = page["next"], pages + 1
        assert sorted(found) == [f"end-{i:03}" for i in range(250)], limit
    assert {t["id"] for t in get_json(relay, "/api/v1/tunnels?q=end-12")["tunnels"]} == {f"end-12{i}" for i in range(10)}
    assert len(get_json(relay, "/api/v1/tunnels?q=127.0.0.1&limit=1000")["tunnels"]) == 250
    assert get_json(relay, "/api/v1/tunnels?q=nobody")["tunnels"] == []
    for p in crowd:
        p.close()


def test_ends_that_leave_while_they_are_listed_harm_nobody(world):
    relay = admin_relay(world, "--open", "--workers", "1")
    crowd, stays = Crowd(world, relay), Crowd(world, relay).join(["stays"])
    for _ in range(4):
        peers = crowd.join(f"end-{i}" for i in range(450))
        leaving = threading.Thread(target=lambda these: [p.close() for p in these], args=(peers,))
        leaving.start()
        while leaving.is_alive():
            ids = [t["id"] for t in get_json(relay, "/api/v1/tunnels?limit=1000")["tunnels"]]
            assert len(set(ids)) == len(ids) and "stays" in ids
        wait_until(lambda: [t["id"] for t in get_json(relay, "/api/v1/tunnels")["tunnels"]] == ["stays"])
    for p in stays:
        p.close()


def test_native_ends_come_behind_the_tunnels_of_their_worker(world):
    relay = admin_relay(world, "--open", "--derp.allow", "any", "--workers", "1")
    natives = [Client(relay.port) for _ in range(3)]
    crowd = Crowd(world, relay).join(f"end-{i}" for i in range(3))
    rows, cursor = [], ""
    while cursor is not None:
        page = get_json(relay, f"/api/v1/tunnels?limit=1{cursor and '&cursor=' + cursor}")
        rows, cursor = rows + page["tunnels"], page["next"]
    assert [r["role"] for r in rows] == ["unknown"] * 3 + ["native"] * 3
    assert len({r["id"] for r in rows}) == 6 and all(r["id"].startswith("nodekey:") for r in rows[3:])
    assert rows[3]["transport"] == "derp" and rows[0]["transport"] == "grpc"
    for p in [*crowd, *natives]:
        p.close()


def test_series_have_a_point_for_each_second(world, seen):
    pair, s = world.pair(seen), world.socket()
    sent = 0

    def counted():
        nonlocal sent
        ask(s, pair.address, os.urandom(500))
        sent += 500
        series = get_json(seen, "/api/v1/series")
        assert all(len(series[c]) == series["length"] for c in ("bytes_in", "bytes_out", "packets_in", "packets_out", "tunnels"))
        assert set(series["drops"]) >= {"no_route", "queue_full", "over_limit"}
        return sum(series["bytes_in"]) >= 5000 and series["tunnels"][-1] == 2
    wait_until(counted)
    assert get_json(seen, "/api/v1/series?last=1")["length"] == 1


# -- readiness

def test_draining_shows_in_readyz_and_health_stays(world):
    relay = admin_relay(world, "--open", "--drain", "8s")
    wait_until(lambda: get(relay, "/readyz").status == 200)
    stays = Crowd(world, relay).join(["stays"])
    relay.p.send_signal(signal.SIGTERM)
    a = wait_until(lambda: (a := get(relay, "/readyz")).status == 503 and a)
    assert a.body == "draining\n" and get(relay, "/healthz").status == 200
    assert get_json(relay, "/api/v1/nodes")["nodes"][0]["state"] == "draining"
    for p in stays:
        p.close()
    assert relay.exit_code() == 0


PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


@contextlib.contextmanager
def held(thread):
    """A thread of another process that does not go on."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if ptrace(PTRACE_SEIZE, thread, None, None) < 0:
        pytest.skip("may not hold a thread of another process")
    assert ptrace(PTRACE_INTERRUPT, thread, None, None) == 0
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, thread, None, None)


def test_a_worker_that_hangs_is_named_and_holds_up_nothing_else(world):
    relay = admin_relay(world, "--open", "--workers", "2")
    wait_until(lambda: get(relay, "/readyz").status == 200)
    crowd = Crowd(world, relay)
    ends = [p for n in range(12) for p in crowd.join([f"end-{n}"])]
    workers = {t["id"]: t["worker"] for t in get_json(relay, "/api/v1/tunnels")["tunnels"]}
    threads = sorted(map(int, os.listdir(f"/proc/{relay.p.pid}/task")))  # ..., admin, the two workers
    with held(threads[-2]):
        page = get_json(relay, "/api/v1/tunnels")  # it is waited for
        assert page["unanswered"] == [0]
        assert {t["id"] for t in page["tunnels"]} == {k for k, w in workers.items() if w == 1}
        a = wait_until(lambda: (a := get(relay, "/readyz")).status == 503 and a)
        assert a.body == "worker 0 does not answer\n" and get(relay, "/healthz").status == 200
        wait_until(lambda: 'tunn_worker_answers{worker="0"} 0' in get(relay, "/metrics").body)  # from the next second's look on
        assert get_json(relay, "/api/v1/tunnels")["unanswered"] == [0]
    wait_until(lambda: get(relay, "/readyz").status == 200)
    assert len(get_json(relay, "/api/v1/tunnels")["tunnels"]) == 12
    for p in ends:
        p.close()


# -- who may ask

def test_a_host_that_is_not_ours_is_refused(world):
    relay = admin_relay(world, "--name", "relay.test", "--name", "192.0.2.7")
    for host in ("evil.test", f"evil.test:{relay.admin}", "127.0.0.1.evil.test", "127.0.0.2", "[::1]", "192.0.2.8", ""):
        a = get(relay, "/metrics", Host=host)
        assert a.status == 421 and "tunn_" not in a.body, host
    for host in ("localhost", f"127.0.0.1:{relay.admin}", "relay.test", "Relay.TEST:80", "192.0.2.7", "localhost:8080"):
        assert get(relay, "/healthz", Host=host).status == 200, host


def test_no_other_site_may_ask(seen):
    for fields in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Origin": f"http://localhost:{seen.admin + 1}"},
                   {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}):
        a = get(seen, "/api/v1/tunnels", **fields)
        assert a.status == 403 and "tunnels" not in a.body.replace("/api/v1/tunnels", ""), fields
    assert get(seen, "/healthz", Host=f"localhost:{seen.admin}", Origin=f"http://localhost:{seen.admin}",
               Sec_Fetch_Site="same-origin").status == 200
    assert get(seen, "/healthz", Sec_Fetch_Site="none").status == 200


def token_file(world, text=TOKEN + "\n", mode=0o600):
    path = f"{world.tmp}/admin-token-{len(os.listdir(world.tmp))}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, mode), "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def refused(world, *args):
    p = world.program([TUNN, "server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/refused", *args])
    return p.exit_code(), p.text()


def test_T43_an_address_for_others_needs_a_token(world):
    for admin in ("0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:9180"):
        code, said = refused(world, "--admin", admin)
        assert code == 2 and "--admin-token-file" in said and "--admin 127.0.0.1" in said, admin


@pytest.mark.parametrize("text,mode,words", [
    (TOKEN, 0o644, "chmod 600"), (TOKEN[:31], 0o600, "at least 32"), ("", 0o600, "at least 32"), ("a b" * 20, 0o600, "blanks"),
    ("x" * 5000, 0o600, "longer")])
def test_T43_a_token_that_protects_little_is_refused(world, text, mode, words):
    code, said = refused(world, "--admin", "0.0.0.0:0", "--admin-token-file", token_file(world, text, mode))
    assert code == 2 and words in said and (not text or text[:20] not in said)


def test_T43_a_token_file_that_is_not_there_or_not_used_is_named(world):
    code, said = refused(world, "--admin", "127.0.0.1:0", "--admin-token-file", "/nonexistent/token")
    assert code == 2 and "/nonexistent/token" in said
    code, said = refused(world, "--admin", "off", "--admin-token-file", token_file(world))
    assert code == 2 and "--admin off" in said


def raw(relay, request):
    """The whole answer to these bytes, the time of day taken out."""
    s = socket.create_connection(("127.0.0.1", relay.admin), 20)
    if relay.tls:
        s = trusting().wrap_socket(s)
    with s:
        s.sendall(request)
        got = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := s.recv(65536):
                got += data
    return re.sub(rb"\r\nDate: [^\r]*", b"", got)


def test_wrong_tokens_get_equal_answers_and_are_counted(world):
    relay = admin_relay(world, "--admin-token-file", token_file(world), admin="0.0.0.0:0")
    assert relay.tls
    wait_until(lambda: get(relay, "/readyz", Authorization=f"Bearer {TOKEN}").status == 200)

    def answer(path, line):
        return raw(relay, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{line}Connection: close\r\n\r\n".encode())
    wrong = ["", "Authorization: \r\n", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n", f"Authorization: {TOKEN}\r\n",
             f"Authorization: Basic {TOKEN}\r\n", f"Authorization: Bearer {TOKEN[:-1]}\r\n", f"Authorization: Bearer {TOKEN}0\r\n",
             f"Authorization: Bearer {'f' * 32}\r\n", f"Authorization: Bearer {'x' * 4000}\r\n", f"Authorization: Bearer {TOKEN} \x0b\r\n"[:-3] + "x\r\n"]
    answers = {answer(path, line) for path in ("/metrics", "/api/v1/tunnels", "/nowhere", "/healthz") for line in wrong}
    assert len(answers) == 1
    (only,) = answers
    assert only.startswith(b"HTTP/1.1 401 ") and b"WWW-Authenticate: Bearer" in only and TOKEN.encode() not in only
    assert answer("/healthz", f"Authorization: Bearer {TOKEN}\r\n").startswith(b"HTTP/1.1 200 ")
    n = relay.counters()
    assert n["admin_wrong_tokens_total"] == 4 * len(wrong) and n["admin_answers_4xx_total"] >= 4 * len(wrong)
    assert TOKEN not in relay.text() and "without the token of --admin-token-file from=127.0.0.1" in relay.text()


def test_A11_a_tunnels_token_opens_no_admin_door_and_the_admins_no_tunnel(world):
    relay = admin_relay(world, "--admin-token-file", token_file(world))
    wait_until(lambda: get(relay, "/readyz", Authorization=f"Bearer {TOKEN}").status == 200)
    tenant = open(relay.token).read().strip()
    for path in ROUTES[2:]:
        assert get(relay, path, Authorization=f"Bearer {tenant}").status == 401, path
    p = Peer(relay.port)
    p.call()
    p.frame(DATA, 0, 1, register(TOKEN, b"a"))
    assert p.answer()["grpc-status"] == "16"
    p.call(3, "/tunn.v1.Admin/AddAccount", ("authorization", f"Bearer {TOKEN}"))
    assert p.answer(3)["grpc-status"] == "12"  # nothing is administered on the tunnels' port
    assert tenant[20:40] not in relay.text()


def test_the_page_asks_for_the_token_itself(world):
    """It holds nothing of the relay, so it needs none; but no name of a stranger leads to it."""
    relay = admin_relay(world, "--admin-token-file", token_file(world))
    for path in PAGE:
        assert get(relay, path).status == 200 and get(relay, path, Sec_Fetch_Site="cross-site").status == 200
        assert get(relay, path, Host="evil.test").status == 421
    assert get(relay, "/api/v1/nodes").status == 401


def test_a_token_counts_on_loopback_too(world):
    relay = admin_relay(world, "--admin-token-file", token_file(world))
    assert not relay.tls and get(relay, "/healthz").status == 401
    assert get(relay, "/healthz", Authorization=f"bearer {TOKEN}").status == 200


def test_with_tls_the_certificate_is_the_relays_and_a_reload_changes_it(world):
    relay = admin_relay(world, "--admin-token-file", token_file(world), admin="0.0.0.0:0")

    def shown(port):
        return ssl.get_server_certificate(("127.0.0.1", port))
    assert shown(relay.admin) == shown(relay.port)
    before = shown(relay.port)
    os.remove(f"{relay.state}/tls-cert.pem")
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded certificate")
    wait_until(lambda: shown(relay.admin) != before)
    assert shown(relay.admin) == shown(relay.port)


# -- where it listens

def test_off_leaves_no_trace(world):
    on, off = admin_relay(world, "--open"), world.relay(args=["--open", "--admin", "off"], name="off")

    def threads(p):
        return len(os.listdir(f"/proc/{p.p.pid}/task"))

    def listening(p):
        inodes = {m[1] for n in os.listdir(f"/proc/{p.p.pid}/fd")
                  if (m := re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{p.p.pid}/fd/{n}")))}
        with open("/proc/net/tcp") as f:
            return {int(line.split()[1].split(":")[1], 16) for line in f.readlines()[1:]
                    if line.split()[3] == "0A" and line.split()[9] in inodes}
    assert threads(off) == threads(on) - 1
    assert listening(off) == {off.port} and listening(on) == {on.port, on.admin}
    assert "admin" not in off.text()


def test_a_taken_port_ends_the_start_only_where_it_was_asked_for(world):
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # taken already is as good
            s = stack.enter_context(socket.socket())
            s.bind(("127.0.0.1", 9180))
            s.listen()
        relay = world.relay(env=DEFAULT)
        relay.wait_for("no admin listener on 127.0.0.1:9180: the port is taken")
        Peer(relay.port).close()
        code, said = refused(world, "--admin", "127.0.0.1:9180")
        assert code == 1 and "--admin 127.0.0.1:9180" in said and "taken" in said


# -- the exposition

SAMPLE = re.compile(r'(tunn_[a-z0-9_]+)(?:\{([a-z_]+="[^"\\\n]*"(?:,[a-z_]+="[^"\\\n]*")*)\})? (-?\d+(?:\.\d+)?(?:e[-+]\d+)?)\n')


def series_of(text):
    """Names with labels; after checks of the format (text exposition 0.0.4) that parsers let pass."""
    found, family, kind, done = {}, None, None, set()
    assert text.endswith("\n")
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if line.startswith("# HELP "):
            name, words = line[7:].split(" ", 1)
            assert name not in done and words.strip() and "\\" not in words, line
            family = name
            done.add(name)
            m = re.fullmatch(r"# TYPE (\S+) (counter|gauge|histogram)\n", lines[i + 1])
            assert m and m[1] == name, lines[i + 1]
            kind = m[2]
            assert (kind == "counter") == name.endswith("_total")
        elif not line.startswith("# TYPE "):
            m = SAMPLE.fullmatch(line)
            parts = [family + s for s in ("_bucket", "_sum", "_count")] if kind == "histogram" else [family]
            assert m and m[1] in parts, line
            key = (m[1], m[2])
            assert key not in found and (kind == "gauge" or float(m[3]) >= 0), line
            found[key] = float(m[3])
    for name in {k[0] for k in found if k[0].endswith("_bucket")}:
        buckets = [v for k, v in found.items() if k[0] == name]
        assert buckets == sorted(buckets) and buckets[-1] == found[name.replace("_bucket", "_count"), None]
        assert (name, 'le="+Inf"') in found
    return found


def test_the_exposition_is_one_and_another_parser_agrees(seen):
    a = get(seen, "/metrics")
    assert a.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = series_of(a.body)
    parsed = {(s.name, ",".join(f'{k}="{v}"' for k, v in s.labels.items()) or None): s.value
              for family in text_string_to_metric_families(a.body) for s in family.samples}
    assert found == parsed
    version = subprocess.run([TUNN, "version"], capture_output=True, text=True, check=True).stdout
    (build,) = [k for k in found if k[0] == "tunn_build_info"]
    assert re.fullmatch(r'version="([\d.]+)"', build[1])[1] in version
    assert ("tunn_packets_dropped_total", 'reason="no_route"') in found and ("tunn_connections_closed_total", 'reason="tls"') in found


def test_T24_ten_thousand_ids_add_no_series(world):
    relay = admin_relay(world, "--open")
    wait_until(lambda: get(relay, "/readyz").status == 200)
    before = set(series_of(get(relay, "/metrics").body))
    crowd = Crowd(world, relay)
    for n in range(0, 10000, 900):
        peers = crowd.join(f"id-{i}" for i in range(n, min(n + 900, 10000)))
        if n == 0:
            assert set(series_of(get(relay, "/metrics").body)) == before
            assert len(get_json(relay, "/api/v1/tunnels?limit=1000")["tunnels"]) == 900
        for p in peers:
            p.close()
    after = series_of(get(relay, "/metrics").body)
    assert set(after) == before and after["tunn_registrations_total", None] == 10000
    assert not [k for k in after if "id-" in str(k)]


def test_the_answers_are_counted_by_class(seen):
    before = series_of(get(seen, "/metrics").body)
    for path, times in (("/healthz", 3), ("/nowhere", 2)):
        for _ in range(times):
            get(seen, path)
    after = series_of(get(seen, "/metrics").body)

    def more(name):
        return after[f"tunn_admin_answers_{name}_total", None] - before[f"tunn_admin_answers_{name}_total", None]
    assert (more("2xx"), more("4xx"), more("5xx")) == (4, 2, 0)  # the second scrape sees the first


# -- clients that are slow or broken

BROKEN = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET /metrics HTTP/1.1\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 100,
          b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
          b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n",
          b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
          b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
          b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\n\r\n"]


def test_what_is_no_request_ends_that_connection_and_nothing_else(seen):
    for text in BROKEN:
        got = raw(seen, text + b"\r\n\r\n")
        assert re.match(rb"HTTP/1\.1 (4\d\d|50[15]) ", got) and b"tunn_" not in got, text
        assert get(seen, "/healthz").status == 200


def test_slow_clients_are_cut_and_the_others_do_not_wait(world, seen):
    pair, s = world.pair(seen), world.socket()
    begun, took = time.monotonic(), {}

    def endure(name, first, more):
        c = socket.create_connection(("127.0.0.1", seen.admin))
        c.settimeout(0.25)
        c.sendall(first)
        while time.monotonic() - begun < 40:
            try:
                if not c.recv(65536):
                    break
            except TimeoutError:
                with contextlib.suppress(OSError):
                    c.send(more)
            except OSError:
                break
        took[name] = time.monotonic() - begun
        c.close()
    threads = [threading.Thread(target=endure, args=a) for a in (
        ("silent", b"", b""), ("head", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
        ("body", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n", b"x"),
        ("idle", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b""))]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        assert get(seen, "/healthz").status == 200 and get(seen, "/readyz").status == 200
        ask(s, pair.address, os.urandom(100))
    assert all(seconds < 30 for seconds in took.values()), took


def test_more_connections_than_there_are_places_do_not_keep_others_out(seen):
    held_open = [socket.create_connection(("127.0.0.1", seen.admin)) for _ in range(200)]
    assert get(seen, "/metrics").status == 200
    for c in held_open:
        c.close()
