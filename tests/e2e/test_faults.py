"""Faults of machines, networks and operators (table F): what recovers, and within which bound."""
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from harness import RELAY_IP, SANITIZED, TUNN, Net, ask, endpoint, free_port, sh
from herd import Herd
from scripted import ACK, DATA, SETTINGS, WINDOW_UPDATE, Peer, register

# -- F03: another binary takes over

HANDOVER = """
import os, sys
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.argv[2], sys.argv[2:])
"""


def handed_over(world, listening, name="state", *args):
    """`tunn server` as a service manager starts it, with its socket."""
    words = ["/usr/bin/python3", "-c", HANDOVER, str(listening.fileno()), TUNN, "server", "--listen", "127.0.0.1:1", "--state",
             f"{world.tmp}/{name}", *args]
    p = world.program(words, pass_fds=[listening.fileno()])
    p.port = int(p.wait_for(r"listening on \S*:(\d+), handed over by the service manager").group(1))
    p.pin = p.wait_for(r"--pin (sha256:[0-9a-f]{64})").group(1)
    p.url, p.state = f"https://127.0.0.1:{p.port}", f"{world.tmp}/{name}"
    p.token = f"{p.state}/first-token"
    return p


class Knocker(threading.Thread):
    """Connects again and again; how it was refused."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.n, self.refused, self.over = port, 0, [], threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.005):
            try:
                socket.create_connection(("127.77.0.1", self.port), 20).close()
                self.n += 1
            except OSError as e:
                self.refused.append(repr(e))


def test_F03_an_upgrade_under_a_thousand_connections_refuses_none(world):
    listening = socket.create_server(("0.0.0.0", 0), backlog=4096)
    world.cleanups.append(listening.close)
    config = f"{world.tmp}/many.yaml"
    with open(config, "w") as f:  # who knocks leaves at once, and may be the 17th of its network before that is seen
        f.write("limits:\n  newcomers: 10000\n  newcomers-per-network: 10000\n")
    old = handed_over(world, listening, "state", "--config", config)
    herd = Herd(world, old, [500, 500], seed=3)
    herd.tell("start")
    herd.all_ready(60)
    knocker = Knocker(old.port)
    at = time.monotonic()
    old.p.terminate()
    assert old.exit_code() == 0
    new = handed_over(world, listening, "state", "--config", config)
    assert new.pin == old.pin
    herd.all_ready(60)
    knocker.over.set()
    knocker.join(30)
    assert not knocker.refused and knocker.n > 20, time.monotonic() - at
    new.wait_for_counter("sessions_open", 1000, 60)  # an end that has not yet seen the old one go calls itself ready


def test_F03_what_is_handed_over_must_be_a_listening_socket(world):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        r = subprocess.run(["/usr/bin/python3", "-c", HANDOVER, str(s.fileno()), TUNN, "server", "--state", f"{world.tmp}/s"],
                           pass_fds=[s.fileno()], capture_output=True, text=True, check=False)
    assert r.returncode == 2
    assert "descriptor 3, handed over by the service manager, is no listening TCP socket" in r.stderr


# -- F04, F05: a relay that stands still

def test_F04_an_end_that_is_stopped_again_and_again_is_not_taken_for_a_flood(world, relay):
    """As on a machine that has no time for it: each time it asks where what waited for it ends."""
    pair, s = world.pair(relay), world.socket()
    ask(s, pair.address, b"before")
    for _ in range(6):  # in less than ten seconds, of which two such questions are forgiven
        pair.laptop.p.send_signal(signal.SIGSTOP)
        time.sleep(0.9)  # the length of the stop is the point
        pair.laptop.p.send_signal(signal.SIGCONT)
        pair.laptop.counters()  # it has run
    ask(s, pair.address, b"after")
    assert "reconnecting" not in pair.laptop.text()
    assert relay.counters()["close_flood"] == 0


def test_F04_a_relay_that_stood_still_delivers_nothing_old_and_loses_nobody(world):
    relay = world.relay()
    home_port, s = world.socket(), world.socket()
    home_port.settimeout(0.5)
    home = world.end(relay, home_port.getsockname()[1], "home", "laptop", "--forward")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen")
    address = endpoint(laptop)
    laptop.wait_for("home is up")
    ages, over = [], threading.Event()

    def receive():
        while not over.is_set():
            try:
                ages.append((time.monotonic(), time.monotonic() - struct.unpack("d", home_port.recv(2000)[:8])[0]))
            except TimeoutError:
                pass

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    start, stopped = time.monotonic(), None
    while (now := time.monotonic()) - start < 14:
        s.sendto(struct.pack("d", now) + bytes(1400), address)
        if stopped is None and now - start > 1:
            relay.p.send_signal(signal.SIGSTOP)
            stopped = now
        if stopped and now - stopped > 10:
            relay.p.send_signal(signal.SIGCONT)
            stopped = float("inf")
        time.sleep(0.001)
    over.set()
    receiver.join(5)
    before = [a for t, a in ages if t < start + 1]
    after = [a for t, a in ages if t > start + 11]
    assert len(before) > 300 and len(after) > 300
    assert max(after) < 0.25 + 0.1, sorted(after)[-10:]  # the bound, and the machine's own pauses
    assert "reconnecting" not in home.text() + laptop.text()
    assert relay.counters()["drop_stale"] > 0


def test_F05_a_relay_that_stands_still_for_good_is_given_up(world):
    relay = world.relay()
    pair = world.pair(relay)
    at = time.monotonic()
    relay.p.send_signal(signal.SIGSTOP)
    pair.laptop.wait_for("reconnecting|not reachable|no sign of life", 30)
    pair.home.wait_for("reconnecting|not reachable|no sign of life", 30)
    assert time.monotonic() - at < 25 + 3
    relay.p.send_signal(signal.SIGCONT)
    ask(world.socket(), pair.address, os.urandom(100), 30)


# -- F09: another address

@pytest.mark.root
def test_F09_an_end_whose_address_changes_is_back_with_its_ports(world, request):
    net = Net(world, ["a"], f"{os.getpid() % 10000}x")
    relay = world.relay(f"{RELAY_IP}:443", ns=net.ns["r"])
    url = f"https://{RELAY_IP}"
    echo = world.program(["/usr/bin/python3", "-u", "-c", ECHO], ns=net.ns["r"])
    port = int(echo.wait_for(r"port (\d+)").group(1))
    home = world.end(relay, port, "home", "laptop", "--forward", url=url, ns=net.ns["r"])
    laptop = world.end(relay, 5000, "laptop", "home", "--listen", url=url, ns=net.ns["a"])
    laptop.wait_for("home is up")
    talker = world.program(["/usr/bin/python3", "-u", "-c", TALKER], ns=net.ns["a"])
    talker.wait_for(r"answer \d+ from 127.0.0.1:5000")
    sh("ip", "addr", "add", "10.9.1.77/24", "dev", "up0", ns=net.ns["a"])
    sh("ip", "addr", "del", "10.9.1.2/24", "dev", "up0", ns=net.ns["a"])
    sh("ip", "addr", "add", "10.9.1.77/24", "dev", "up0", ns=net.ns["a"], check=False)  # the second may go with the first
    sh("ip", "route", "replace", "default", "via", "10.9.1.1", ns=net.ns["a"])
    at, n = time.monotonic(), talker.count()
    relay.wait_for(r"end joined id=laptop .*from=10.9.1.77", 10)
    talker.wait_for(r"answer \d+ from 127.0.0.1:5000", 10, after=n + 2)
    assert time.monotonic() - at < 3 + 3
    assert len(set(line.split()[-1] for line in echo.lines if line.startswith("from"))) == 1  # one local source port at home
    assert home.p.poll() is None and laptop.p.poll() is None


ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print("port", s.getsockname()[1])
seen = set()
while True:
    d, who = s.recvfrom(2000)
    if who not in seen: seen.add(who); print("from", who[1])
    s.sendto(d, who)
"""
TALKER = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.1)
for i in range(1000):
    s.sendto(b"%d" % i, ("127.0.0.1", 5000))
    try:
        d, who = s.recvfrom(2000); print("answer", d.decode(), "from", "%s:%d" % who); time.sleep(0.05)
    except (TimeoutError, ConnectionError):
        pass
"""


# -- F13, T10: who asks for datagrams and takes none

def rss_kb(p):
    with open(f"/proc/{p.p.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("how", ["F13_reads_nothing", "T10_opens_no_window", "T10_opens_a_window_of_bytes"])
def test_F13_T10_a_receiver_that_takes_nothing_is_cut_and_nobody_notices(world, how):
    relay = world.relay()
    pair, s = world.pair(relay), world.socket()
    feeder = world.end(relay, free_port(), "feeder", "stuck", "--listen")
    address = endpoint(feeder)
    p = Peer(relay.port, greet=False)
    p.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    window = {"F13_reads_nothing": 1 << 30, "T10_opens_no_window": 0, "T10_opens_a_window_of_bytes": 200}[how]
    p.frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
    p.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
    p.read_until(lambda f: f.type == SETTINGS and not f.flags & ACK)
    p.frame(SETTINGS, ACK)
    p.call()
    p.frame(DATA, 0, 1, register(open(relay.token).read().strip(), b"stuck", (b"feeder",)))
    feeder.wait_for("stuck is up")
    before = rss_kb(relay)
    at, closed, most, slow = time.monotonic(), None, 0, []
    while time.monotonic() - at < 20 and not closed:
        for _ in range(100):
            s.sendto(bytes(1400), address)
        if how == "T10_opens_a_window_of_bytes":
            p.frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))
        most = max(most, rss_kb(relay) - before)
        slow.append(ask(world.socket(), pair.address, os.urandom(100)))
        closed = any("id=stuck" in line and "end left" in line for line in relay.lines)
        time.sleep(0.02)
    assert closed, relay.text()
    assert time.monotonic() - at < 6 + 3
    # One connection's queue, and what the threads keep ready for all: packets and blocks of records, 1 MiB of each at most.
    assert SANITIZED or most < 1024 + 3 * 1024
    assert sorted(slow)[len(slow) // 2] < 0.1 and "reconnecting" not in pair.home.text() + pair.laptop.text()


# -- F21, F22: certificates

def openssl_cert(directory, name, days):
    """A certificate of its own making, valid for so many days (negative: expired)."""
    cert, key = f"{directory}/{name}.pem", f"{directory}/{name}-key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", str(days)],
                   check=True, capture_output=True)
    os.chmod(key, 0o600)
    return cert, key


def test_F22_a_reload_with_a_broken_certificate_fails_no_handshake(world):
    cert, key = openssl_cert(world.tmp, "relay", 30)
    relay = world.relay(args=["--cert", cert, "--key", key])
    pair = world.pair(relay)
    with open(cert, "w") as f:
        f.write("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    for n in range(1, 4):
        relay.p.send_signal(signal.SIGHUP)
        relay.wait_for("reload refused, the old configuration stays", after=relay.count() - 1 if n > 1 else 0)
        for _ in range(5):
            Peer(relay.port).close()
    assert relay.counters()["reload_failures_total"] >= 1
    ask(world.socket(), pair.address, os.urandom(100))
    assert "reconnecting" not in pair.home.text() + pair.laptop.text()


def test_F21_a_certificate_that_runs_out_is_told_and_a_reload_mends_it(world):
    cert, key = openssl_cert(world.tmp, "relay", 5)  # whole days: the last one has begun
    relay = world.relay(args=["--cert", cert, "--key", key])
    relay.wait_for("level=warn.*the certificate expires in [45] days: renew it and send SIGHUP")
    assert relay.counters()["certificate_days_left"] in (4, 5)
    pair = world.pair(relay)
    fresh, fresh_key = openssl_cert(world.tmp, "fresh", 90)
    os.rename(fresh_key, key)
    os.rename(fresh, cert)
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded certificate")
    assert relay.counters()["certificate_days_left"] in (89, 90)
    Peer(relay.port).close()
    ask(world.socket(), pair.address, os.urandom(100))
    assert "reconnecting" not in pair.home.text() + pair.laptop.text()
