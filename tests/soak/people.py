"""What people do with a hosted relay all day: an operator's commands, who looks at it, who logs in."""
import json
import random
import socket
import threading
import time

from test_admin import get
from test_login import Browser, Program, approve, by_h2, by_http1

LOOKS = ["/metrics", "/readyz", "/api/v1/tunnels?limit=100", "/api/v1/accounts", "/api/v1/nodes", "/api/v1/series"]
RATES = ["1Mbit", "8Mbit", "100Mbit", "unlimited"]
PAUSE_S = 0.2
GUESTS = 50


class People:
    """A thread that does one thing after the other while it may. .counts: what was done."""

    def __init__(self, relay, seed):
        self.relay, self.rng, self.counts = relay, random.Random(seed), {}
        self.may, self.over, self.is_busy, self.failure = threading.Event(), threading.Event(), False, None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def ask(self, verb, **words):
        """By the control socket, as `tunn account` and `tunn token` do."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(f"{self.relay.state}/control.sock")
            s.sendall(json.dumps({"verb": verb, **words}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                piece = s.recv(65536)
                assert piece, f"{verb} was not answered"
                data += piece
        return json.loads(data)

    def operate(self):
        """Any of these may be refused: the account is there already, or not yet."""
        name = f"guest-{self.rng.randrange(GUESTS)}"
        verb, words = self.rng.choice([
            ("account add", {}), ("account add", {"tier": "pro"}), ("account set", {"tier": "free"}), ("account suspend", {}),
            ("account resume", {}), ("account rm", {"force": True}), ("account show", {}), ("token new", {}), ("token list", {})])
        self.ask(verb, name=name, **words)

    def limit(self):
        """The account of all ends gets another rate."""
        answer = self.ask("account set", name="main", own={"rate": self.rng.choice(RATES)})
        assert answer["ok"], answer

    def look(self):
        assert get(self.relay, self.rng.choice(LOOKS)).status in (200, 503)  # stopped a moment ago: not ready

    def log_in(self):
        http = self.rng.choice([by_http1, by_h2])
        program, browser = Program(self.relay, http), Browser(self.relay, http)
        codes = program.codes(f"login-{self.rng.randrange(GUESTS)}")
        if codes.status == 429:
            return
        page = browser.sign_in(self.relay.token, codes.json()["user_code"])
        assert approve(browser, page, self.rng.choice(["approve", "deny"])).status == 200
        program.poll(codes.json()["device_code"])

    def run(self):
        while not self.over.is_set():
            if not self.may.wait(0.2):
                continue
            self.is_busy = True
            what = self.rng.choice([self.operate, self.operate, self.limit, self.look, self.look, self.log_in])
            self.counts[what.__name__] = self.counts.get(what.__name__, 0) + 1
            try:
                what()
            except TimeoutError:
                pass  # the relay was stopped for as long
            except Exception as e:  # pylint: disable=broad-except
                self.failure = self.failure or f"{what.__name__}: {e!r}"
            self.is_busy = False
            time.sleep(PAUSE_S)

    def rest(self):
        """Until the next storm; the ends' account has no limit then."""
        self.may.clear()
        while self.is_busy:
            time.sleep(0.05)
        assert self.ask("account set", name="main", own={"rate": "unlimited"})["ok"]

    def stop(self):
        self.over.set()
        self.may.set()
        self.thread.join(60)
