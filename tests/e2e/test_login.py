"""`tunn login` (RFC 8628) with the real binary: the program on one side, a browser played over HTTP/1.1 and h2 on the other."""
import json
import os
import re
import socket
import ssl
import stat
import subprocess
import urllib.parse

import h2.config
import h2.connection
import h2.events
import pytest
from harness import TUNN, free_port

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body.decode()

    def json(self):
        return json.loads(self.body)

    def hidden(self, name):
        return re.search(rf'name="{name}" value="([^"]*)"', self.body).group(1)


def tls(port, alpn):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    ctx.set_alpn_protocols([alpn])
    return ctx.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))


def by_http1(port, method, path, fields, body):
    with tls(port, "http/1.1") as s:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{k}: {v}" for k, v in fields.items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        s.sendall("\r\n".join(lines + ["", ""]).encode() + (body or b""))
        data = b""
        while piece := s.recv(65536):
            data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return Answer(int(status.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, rest)


def by_h2(port, method, path, fields, body):
    with tls(port, "h2") as s:
        c = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        c.initiate_connection()
        head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", f"127.0.0.1:{port}")]
        c.send_headers(1, head + [(k.lower(), v) for k, v in fields.items()], end_stream=body is None)
        if body is not None:
            c.send_data(1, body, end_stream=True)
        s.sendall(c.data_to_send())
        answer, data = {}, b""
        while piece := s.recv(65536):
            for event in c.receive_data(piece):
                if isinstance(event, h2.events.ResponseReceived):
                    answer = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return Answer(int(answer[":status"]), answer, data)
                assert not isinstance(event, h2.events.StreamReset), event
            s.sendall(c.data_to_send())
    raise AssertionError("the connection ended without an answer")


class Browser:
    """Keeps the cookie; says its origin with forms, as browsers do."""

    def __init__(self, relay, http):
        self.port, self.http, self.cookie = relay.port, http, None
        self.origin = f"https://127.0.0.1:{relay.port}"

    def ask(self, method, path, form=None, **fields):
        body = None if form is None else urllib.parse.urlencode(form).encode()
        if form is not None:
            fields = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin, **fields}
        fields = {k: v for k, v in fields.items() if v is not None}
        if self.cookie:
            fields["Cookie"] = self.cookie
        answer = self.http(self.port, method, path, fields, body)
        if "set-cookie" in answer.fields:
            self.set_cookie = answer.fields["set-cookie"]
            self.cookie = self.set_cookie.split(";")[0]
        return answer

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, form, **fields):
        return self.ask("POST", path, form, **fields)

    def sign_in(self, token_file, code):
        """The page that asks whether to approve the code."""
        with open(token_file) as f:
            moved = self.post("/login", {"token": f.read().strip(), "user_code": code})
        assert moved.status == 303, moved.body
        return self.get(moved.fields["location"])


class Program:
    """What `tunn login` asks, without its waiting."""

    def __init__(self, relay, http=by_http1):
        self.browser = Browser(relay, http)
        self.browser.origin = None

    def codes(self, tunnel_id="home-wg", host="laptop", **more):
        return self.browser.post("/login/device_authorization",
                                 {"client_id": "tunn", "tunnel_id": tunnel_id, "host_name": host, **more})

    def poll(self, device_code):
        return self.browser.post("/login/token", {"client_id": "tunn", "grant_type": GRANT, "device_code": device_code})


@pytest.fixture(params=[by_http1, by_h2], ids=["http1", "h2"])
def http(request):
    return request.param


def start_login(world, relay, *args, config="config"):
    env = {**os.environ, "XDG_CONFIG_HOME": f"{world.tmp}/{config}"}
    env.pop("TUNN_TOKEN", None)
    p = world.program([TUNN, "login", "--relay", relay.url, "--pin", relay.pin, *args], env=env)
    p.path = f"{world.tmp}/{config}/tunn/tokens/127.0.0.1:{relay.port}"
    return p


def code_of(program):
    return program.wait_for(r"user_code=([A-Z]{4}-[A-Z]{4})$").group(1)


def stored(program):
    with open(program.path) as f:
        return f.read().strip()


def approve(browser, page, what="approve", **changes):
    form = {"form": page.hidden("form"), "user_code": page.hidden("user_code"), **changes}
    return browser.post(f"/login/{what}", {k: v for k, v in form.items() if v is not None})


# ---- the whole way


def test_a_login_ends_with_a_token_file_that_works_for_its_id_only(world, http):
    relay = world.relay()
    program = start_login(world, relay, "--id", "laptop-wg")
    code, browser = code_of(program), Browser(relay, http)
    page = browser.sign_in(relay.token, code)
    assert page.status == 200
    for shown in (code, "127.0.0.1", "laptop-wg", socket.gethostname()[:63]):
        assert shown in page.body
    assert approve(browser, page).status == 200
    assert program.exit_code(30) == 0
    assert stat.S_IMODE(os.stat(program.path).st_mode) == 0o600
    token = stored(program)
    assert re.fullmatch(r"tunn_\w{8}_\w{43}_[0-9a-f]{8}", token)
    assert token not in program.text() + relay.text(), "a token is printed nowhere"
    assert "tunn relay 51820 --peer OTHER-ID" in program.text()
    # without --id, the id comes with the token
    env = {**os.environ, "XDG_CONFIG_HOME": f"{world.tmp}/config"}
    end = world.program([TUNN, "relay", str(free_port()), "--peer", "home-wg", "--relay", relay.url, "--pin", relay.pin], env=env)
    relay.wait_for(r"end joined id=laptop-wg account=main")
    end.stop()
    other = world.program([TUNN, "relay", str(free_port()), "--id", "other", "--peer", "home-wg", "--relay", relay.url, "--pin",
                           relay.pin], env=env)
    assert other.exit_code() == 3
    assert "bound to the id laptop-wg" in other.text()


def test_what_was_denied_ends_with_exit_code_3_and_no_file(world, http):
    relay = world.relay()
    program, browser = start_login(world, relay), Browser(relay, http)
    page = browser.sign_in(relay.token, code_of(program))
    assert approve(browser, page, "deny").status == 200
    assert program.exit_code(30) == 3
    assert "denied" in program.text()
    assert not os.path.exists(program.path)


def test_a_stored_token_is_replaced_only_by_force(world):
    relay = world.relay()
    os.makedirs(f"{world.tmp}/config/tunn/tokens")
    path = f"{world.tmp}/config/tunn/tokens/127.0.0.1:{relay.port}"
    with open(path, "w") as f:
        f.write("what was there\n")
    refused = start_login(world, relay)
    assert refused.exit_code() == 2
    assert "--force" in refused.text()
    with open(path) as f:
        assert f.read() == "what was there\n"
    program, browser = start_login(world, relay, "--force"), Browser(relay, by_http1)
    approve(browser, browser.sign_in(relay.token, code_of(program)))
    assert program.exit_code(30) == 0
    assert stored(program).startswith("tunn_")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_two_relays_of_one_host_keep_to_their_own_tokens(world):
    one, two = world.relay(), world.relay(name="other")
    program, browser = start_login(world, one, "--id", "laptop-wg"), Browser(one, by_http1)
    approve(browser, browser.sign_in(one.token, code_of(program)))
    assert program.exit_code(30) == 0
    env = {**os.environ, "XDG_CONFIG_HOME": f"{world.tmp}/config"}
    stranger = world.program([TUNN, "relay", str(free_port()), "--id", "laptop-wg", "--peer", "home-wg", "--relay", two.url, "--pin", two.pin], env=env)
    assert stranger.exit_code() == 3
    assert "none was given, and this relay needs one (tunn login gets one" in stranger.text()
    code_of(start_login(world, two, "--id", "laptop-wg"))  # nothing is in its way


def test_a_wrong_pin_ends_a_login_before_anything_is_said(world):
    relay = world.relay()
    program = world.program([TUNN, "login", "--relay", relay.url, "--pin", "sha256:" + 64 * "0"],
                            env={**os.environ, "XDG_CONFIG_HOME": f"{world.tmp}/config"})
    assert program.exit_code() == 1
    assert "login asked for" not in relay.text()


def test_an_open_relay_has_no_logins(world, http):
    relay = world.relay(args=["--open"])
    assert Browser(relay, http).get("/login").status == 404
    program = start_login(world, relay)
    assert program.exit_code() == 1
    assert "does not offer logins" in program.text()


# ---- the operator


def account(state, *words):
    return subprocess.run([TUNN, "account", *words, "--state", state], capture_output=True, text=True, timeout=30)


def test_the_operator_sees_who_waits_and_approves_by_code(world):
    relay = world.relay()
    program = start_login(world, relay, "--id", "laptop-wg")
    code = code_of(program)
    listed = account(relay.state, "requests")
    assert re.search(rf"^{code} +127\.0\.0\.1 +{re.escape(socket.gethostname()[:63])} +laptop-wg +\d+s$", listed.stdout, re.M), listed
    shown = json.loads(account(relay.state, "requests", "--json").stdout)["requests"][0]
    assert (shown["code"], shown["address"], shown["id"]) == (code, "127.0.0.1", "laptop-wg")
    done = account(relay.state, "approve", code.lower().replace("-", ""))
    assert done.returncode == 0 and "tunnel id laptop-wg, account main" in done.stderr, done
    assert program.exit_code(30) == 0
    assert stored(program).startswith("tunn_")
    again = account(relay.state, "approve", code)
    assert again.returncode == 1 and "work once" in again.stderr
    assert account(relay.state, "requests").stdout.count("\n") <= 1, "nobody waits any more"


def test_the_operator_denies_by_code_and_has_to_say_for_which_account(world):
    relay = world.relay()
    assert account(relay.state, "add", "acme").returncode == 0
    program = start_login(world, relay)
    code = code_of(program)
    refused = account(relay.state, "approve", code)
    assert refused.returncode != 0 and "--account NAME" in refused.stderr
    assert account(relay.state, "deny", code).returncode == 0
    assert program.exit_code(30) == 3
    relay.stop()
    stopped = account(relay.state, "requests")
    assert stopped.returncode == 1 and "no server runs" in stopped.stderr


def test_a_token_of_a_suspended_account_signs_nobody_in_any_more(world, http):
    relay = world.relay()
    program, browser = Program(relay, http), Browser(relay, http)
    page = browser.sign_in(relay.token, program.codes().json()["user_code"])
    assert account(relay.state, "suspend", "main").returncode == 0
    assert approve(browser, page).status == 403
    with open(relay.token) as f:
        again = Browser(relay, http).post("/login", {"token": f.read().strip()})
    assert again.status == 403 and "suspended" in again.body


# ---- codes


def test_a_token_is_fetched_once(world, http):
    relay = world.relay()
    program, browser = Program(relay, http), Browser(relay, http)
    codes = program.codes().json()
    assert codes["expires_in"] == 600 and codes["interval"] == 5
    assert codes["verification_uri"] == f"https://127.0.0.1:{relay.port}/login"
    assert re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", codes["user_code"])
    assert program.poll(codes["device_code"]).json()["error"] == "authorization_pending"
    assert program.poll(codes["device_code"]).json()["error"] == "slow_down"
    page = browser.sign_in(relay.token, codes["user_code"])
    assert approve(browser, page).status == 200
    assert approve(browser, page).status == 404, "a user code works once"
    first = program.poll(codes["device_code"])
    assert first.status == 200 and first.json()["tunnel_id"] == "home-wg" and first.json()["account"] == "main"
    assert first.fields["cache-control"] == "no-store"
    second = program.poll(codes["device_code"])
    assert second.status == 400 and second.json()["error"] == "invalid_grant"


def test_a_sixth_login_from_one_network_has_to_wait(world):
    relay = world.relay()
    program = Program(relay)
    assert [program.codes().status for _ in range(6)] == [200] * 5 + [429]
    started = start_login(world, relay)
    assert started.exit_code(30) == 1
    assert "too many logins wait for approval: try again in some minutes" in started.text(), started.text()
    assert "nobody approved" not in started.text()


def test_what_is_no_id_and_no_client_gets_no_codes(world, http):
    relay = world.relay()
    program = Program(relay, http)
    for form, status, error in (({"tunnel_id": "Home"}, 400, "invalid_request"), ({"host": "a b"}, 400, "invalid_request"),
                                ({"client_id": "other"}, 400, "invalid_client"), ({"scope": "admin"}, 400, "invalid_scope")):
        answer = program.codes(**form)
        assert (answer.status, answer.json()["error"]) == (status, error)


# ---- nobody else approves


def pending(program):
    codes = program.codes().json()

    def still():
        error = program.poll(codes["device_code"]).json().get("error")
        return error in ("authorization_pending", "slow_down")
    return codes, still


def test_nothing_is_approved_by_get(world, http):
    relay = world.relay()
    program, browser = Program(relay, http), Browser(relay, http)
    codes, still = pending(program)
    page = browser.sign_in(relay.token, codes["user_code"])
    query = urllib.parse.urlencode({"form": page.hidden("form"), "user_code": codes["user_code"]})
    assert browser.get(f"/login/approve?{query}").status == 405
    assert browser.get(f"/login?{query}").status == 200
    assert still()


def test_nothing_is_approved_without_cookie_form_token_or_our_origin(world, http):
    relay = world.relay()
    program, browser, stranger = Program(relay, http), Browser(relay, http), Browser(relay, http)
    codes, still = pending(program)
    page = browser.sign_in(relay.token, codes["user_code"])
    assert approve(stranger, page).status == 403
    assert approve(browser, page, form=None).status == 403
    assert approve(browser, page, form="0" * 64).status == 403
    other = Browser(relay, http)
    other_page = other.sign_in(relay.token, codes["user_code"])
    assert approve(browser, page, form=other_page.hidden("form")).status == 403, "of another session"
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{relay.port}", f"https://127.0.0.1:{relay.port}.evil.example",
                   None):
        form = {"form": page.hidden("form"), "user_code": codes["user_code"]}
        assert browser.post("/login/approve", form, Origin=origin).status == 403, origin
    assert still()
    assert approve(browser, page).status == 200
    assert not still()


def test_the_cookie_is_for_nobody_else(world, http):
    relay = world.relay()
    browser = Browser(relay, http)
    browser.sign_in(relay.token, "")
    name, *attributes = re.split("; *", browser.set_cookie)
    assert re.fullmatch("__Host-tunn=[0-9a-f]{64}", name)
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=900"} == set(attributes)


def test_pages_bring_no_scripts_and_nothing_from_elsewhere(world, http):
    relay = world.relay()
    program, browser = Program(relay, http), Browser(relay, http)
    pages = [browser.get("/login"), browser.get("/login/nothing"), browser.sign_in(relay.token, program.codes().json()["user_code"])]
    for page in pages:
        policy = page.fields["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script" not in policy
        assert page.fields["x-frame-options"] == "DENY" and page.fields["cache-control"] == "no-store"
        assert "<script" not in page.body and "http:" not in page.body and "https:" not in page.body
        nonce = re.search(r"style-src 'nonce-([^']+)'", policy).group(1)
        assert f'<style nonce="{nonce}">' in page.body
        assert "prefers-color-scheme:dark" in page.body and 'name="viewport"' in page.body
    assert len({p.fields["content-security-policy"] for p in pages}) == len(pages)


def test_who_did_not_sign_in_learns_nothing_of_codes(world, http):
    relay = world.relay()
    program, browser = Program(relay, http), Browser(relay, http)
    code = program.codes(tunnel_id="secret-wg").json()["user_code"]
    real, wrong = browser.get(f"/login?user_code={code}"), browser.get("/login?user_code=BBBB-BBBB")
    assert "secret-wg" not in real.body
    assert len(real.body) == len(wrong.body) and real.status == wrong.status == 200


def test_a_bound_token_signs_nobody_in(world, http):
    relay = world.relay()
    bound = world.new_token(relay, "main", "--id", "home-wg")
    with open(bound) as f:
        answer = Browser(relay, http).post("/login", {"token": f.read().strip(), "user_code": "BBBB-BBBB"})
    assert answer.status == 403 and "bound to one tunnel id" in answer.body and "set-cookie" not in answer.fields


def test_wrong_codes_and_tokens_are_limited(world, http):
    relay = world.relay()
    program, browser = Program(relay, http), Browser(relay, http)
    code = program.codes().json()["user_code"]
    page = browser.sign_in(relay.token, code)
    assert [browser.get("/login?user_code=BBBB-BBBB").status for _ in range(4)] == [404] * 4
    assert browser.post("/login", {"token": "tunn_no", "user_code": code}).status == 403
    assert browser.get(f"/login?user_code={code}").status == 429
    assert approve(browser, page).status == 429
    with open(relay.token) as f:
        assert Browser(relay, http).post("/login", {"token": f.read().strip()}).status == 429


# ---- what does not belong


def test_A12_a_token_in_an_address_is_refused_and_not_logged(world, http):
    relay = world.relay()
    with open(relay.token) as f:
        token = f.read().strip()
    browser = Browser(relay, http)
    for path in (f"/login?token={token}", f"/login/{token}", f"/?auth={token}", f"/{token}"):
        at = relay.count()
        answer = browser.get(path)
        assert answer.status == 400 and "revoke" in answer.body.lower()
        assert token not in answer.body
        relay.wait_for(rf"revoke it, tunn token revoke {token[5:13]} ", after=at)
    assert token[14:] not in relay.text()


def test_bodies_that_are_no_small_forms_are_refused(world, http):
    relay = world.relay()
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    assert http(relay.port, "POST", "/login/token", fields, b"a" * 8193).status == 413
    assert http(relay.port, "POST", "/login/token", {"Content-Type": "application/json"}, b"{}").status == 415
    assert http(relay.port, "POST", "/login/token", fields, b"a" * 8192).json()["error"] == "invalid_client"


def test_http1_bodies_of_unknown_length_are_refused(world):
    relay = world.relay()
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    assert by_http1(relay.port, "POST", "/login/token", {**fields, "Transfer-Encoding": "chunked"}, None).status == 411
    assert by_http1(relay.port, "POST", "/login/token", {**fields, "Expect": "100-continue"}, b"a=b").status == 417


def test_a_login_survives_who_leaves_while_it_is_answered(world, http):
    relay = world.relay()
    for _ in range(20):
        s = tls(relay.port, "http/1.1")
        s.sendall(b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n")
        s.close()
    assert Browser(relay, http).get("/login").status == 200
