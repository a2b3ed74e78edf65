"""Programs, relays, ends, namespaces for the end-to-end tests. Everything waits for events."""
import collections
import contextlib
import ctypes
import itertools
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import types

BUILD = os.path.abspath(os.environ.get("TUNN_BUILD", "build/release"))
TUNN = f"{BUILD}/tunn"
SANITIZED = os.path.basename(BUILD) in ("asan", "tsan", "fuzz")  # they keep what is freed, and bear little beside them
ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

if os.geteuid() == 0:  # whatever users this machine has; tests of --user take it out again
    os.environ["TUNN_USER"] = "root"

os.environ["TUNN_ADMIN"] = "off"  # likewise
os.environ["TUNN_STUN"] = "off"  # its port is the same for all of a machine; who tests it names another

SANITIZER_REPORT = r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:)"


class Program:
    """A process whose output can be waited for."""

    def __init__(self, argv, ns=None, env=None, stdin=None, interactive=False, pass_fds=()):
        if ns:
            argv = ["ip", "netns", "exec", ns] + argv
        self.argv = argv
        self.p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, pass_fds=pass_fds,
                                  stdin=subprocess.PIPE if interactive or stdin is not None else subprocess.DEVNULL)
        if stdin is not None:
            self.p.stdin.write(stdin)
            self.p.stdin.close()
        self.lines, self.cond, self.ended = [], threading.Condition(), False
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.p.stdout:
            with self.cond:
                self.lines.append(line.rstrip("\n"))
                self.cond.notify_all()
        with self.cond:
            self.ended = True
            self.cond.notify_all()

    def wait_for(self, pattern, seconds=20, after=0):
        """The match of the first line from number `after` on."""
        end, at = time.monotonic() + seconds, after
        with self.cond:
            while True:
                while at < len(self.lines):
                    m = re.search(pattern, self.lines[at])
                    if m:
                        return m
                    at += 1
                left = end - time.monotonic()
                assert not self.ended, f"{self.argv} ended without saying /{pattern}/:\n" + self.text()
                assert left > 0, f"nobody said /{pattern}/ within {seconds} s:\n" + self.text()
                self.cond.wait(left)

    def tell(self, line):
        """Says a line to an interactive program."""
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def text(self):
        return "\n".join(self.lines)

    def count(self):
        with self.cond:
            return len(self.lines)

    def counters(self):
        at = self.count()
        self.p.send_signal(signal.SIGUSR1)
        m = self.wait_for(r"^tunn: counters (.*)$", after=at)
        found = dict(w.split("=") for w in m.group(1).split() if "=" in w)
        return collections.defaultdict(int, {k: int(v) for k, v in found.items() if v.isdigit()})

    def wait_for_counter(self, name, least, seconds=20):
        end = time.monotonic() + seconds
        while self.counters()[name] < least:
            assert time.monotonic() < end, f"{name} did not become {least} within {seconds} s"

    def exit_code(self, seconds=20):
        self.p.wait(seconds)
        self.thread.join(seconds)
        return self.p.returncode

    def stop(self):
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGCONT)
            self.p.terminate()
            try:
                self.p.wait(12)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        self.thread.join(5)


class World:
    """What one test started; stopped at its end, in reverse order."""

    def __init__(self, tmp):
        self.tmp, self.cleanups, self.programs = tmp, [], []
        self.transports = itertools.repeat(None)  # of the ends that are started, one after the other; None: their default

    def program(self, argv, **kw):
        p = Program(argv, **kw)
        self.cleanups.append(p.stop)
        self.programs.append(p)
        return p

    def stop(self):
        while self.cleanups:
            self.cleanups.pop()()

    def close(self):
        self.stop()
        for p in self.programs:  # pytest shows this where the test failed
            print("$", *p.argv, "\n" + p.text())
        broken = [p.argv for p in self.programs if re.search(SANITIZER_REPORT, p.text())]
        assert not broken, f"a sanitizer reported in {broken}"

    def relay(self, listen="127.0.0.1:0", name="state", ns=None, args=(), binary=TUNN, env=None):
        """Starts `tunn server`; .url, .pin, .port, .state, .token say how to reach it."""
        state = f"{self.tmp}/{name}"
        p = self.program([binary, "server", "--listen", listen, "--state", state, *args], ns=ns, env=env)
        p.port = int(p.wait_for(r"listening on \S*:(\d+)$").group(1))
        p.pin = p.wait_for(r"--pin (sha256:[0-9a-f]{64})").group(1)
        p.url, p.state, p.token = f"https://127.0.0.1:{p.port}", state, f"{state}/first-token"
        return p

    def end(self, relay, port, me, peers, *args, url=None, token=None, ns=None, env=None, binary=TUNN):
        """Starts `tunn relay`; peers is one or a list."""
        transport = next(self.transports)
        words = [binary, "relay", str(port)] + (["--id", me] if me else [])
        if transport and "--transport" not in args:
            words += ["--transport", transport]
        for peer in [peers] if isinstance(peers, str) else peers:
            words += ["--peer", peer]
        words += ["--relay", url or relay.url, "--pin", relay.pin, "--token-file", token or relay.token, *args]
        return self.program(words, ns=ns, env=env)

    def end_at(self, relay, worker, port, me, peer, *args, **kw):
        """An end whose connection came to that worker. The kernel chooses: the end comes again until it does."""
        for _ in range(40 * (worker + 1)):
            at = relay.count()
            end = self.end(relay, port, me, peer, *args, **kw)
            if int(relay.wait_for(rf"end joined id={me} .* worker=(\d+)", after=at).group(1)) == worker:
                return end
            end.stop()
            relay.wait_for(f"end left id={me} ", after=at)
        raise AssertionError(f"{me} never came to worker {worker}")

    def pair(self, relay, **kw):
        """An echo program's port, and the address that reaches it through both ends."""
        echo = self.echo()
        home = self.end(relay, echo.port, "home", "laptop", "--forward", **kw)
        laptop = self.end(relay, free_port(), "laptop", "home", "--listen", **kw)
        address = endpoint(laptop)
        home.wait_for("laptop is up")
        laptop.wait_for("home is up")
        return types.SimpleNamespace(echo=echo, home=home, laptop=laptop, address=address)

    def echo(self, ip="127.0.0.1"):
        e = Echo(ip)
        self.cleanups.append(e.close)
        return e

    def socket(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        s.bind(("127.0.0.1", 0))
        self.cleanups.append(s.close)
        return s

    def middlebox(self, port):
        m = Middlebox(port)
        self.cleanups.append(m.close)
        return m

    def new_token(self, relay, account, *args):
        path = f"{self.tmp}/token-{account}-{len(self.cleanups)}-{time.monotonic_ns()}"
        out = subprocess.run([TUNN, "token", "new", account, "--state", relay.state, *args], capture_output=True,
                             text=True, check=True).stdout
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(out)
        return path

    def new_account(self, relay, name):
        subprocess.run([TUNN, "account", "add", name, "--state", relay.state], check=True, capture_output=True)
        return self.new_token(relay, name)


def endpoint(end):
    m = end.wait_for(r"Endpoint = ([\d.]+):(\d+)")
    return m.group(1), int(m.group(2))


def port_numbers():
    """In turn those that the kernel gives nobody who asks for port 0, so that they stay free until they are used; each
    process that runs tests has its share."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        top = max(int(f.read().split()[0]), 20000)
    share = (top - 10000) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    first = 10000 + share * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    at = random.randrange(share)
    while True:
        yield first + at
        at = (at + 1) % share


PORTS = port_numbers()


def free_for(kind):
    while True:
        with socket.socket(socket.AF_INET6, kind) as s:  # on both families
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            with contextlib.suppress(OSError):
                s.bind(("::", next(PORTS)))
                return s.getsockname()[1]


def free_port():
    return free_for(socket.SOCK_DGRAM)


def free_tcp_port():
    return free_for(socket.SOCK_STREAM)


def until(manager, state):
    """What a service manager is told, up to that state."""
    said = []
    while not said or state not in said[-1]:
        said.append(manager.recv(4096).decode().split("\n"))
    return [line for lines in said for line in lines]


class Echo:
    """A UDP program that sends everything back, and remembers who spoke."""

    def __init__(self, ip):
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.s.bind((ip, 0))
        self.port, self.senders, self.n = self.s.getsockname()[1], [], 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            while True:
                data, who = self.s.recvfrom(70000)
                if who is None:  # shut down
                    return
                self.n += 1
                if who not in self.senders:
                    self.senders.append(who)
                self.s.sendto(data, who)
        except OSError:
            pass

    def close(self):
        try:
            self.s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.s.close()


def ask(s, address, data, seconds=5.0):
    """Sends until the same bytes come back; gives how long it took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        s.sendto(data, address)
        if answered(s, data, 0.2):
            return time.monotonic() - start
    raise AssertionError(f"no echo of {len(data)} bytes from {address} within {seconds} s")


def answered(s, data, seconds):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not select.select([s], [], [], left)[0]:
            return False
        if s.recv(70000) == data:
            return True
    return False


class Middlebox:
    """A TCP forwarder that can black-hole, cut with RST, and refuse."""

    def __init__(self, to_port):
        self.to, self.pairs, self.stuck, self.lock = to_port, [], False, threading.Condition()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                a, _ = self.server.accept()
            except OSError:
                return
            try:
                b = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                a.close()
                continue
            with self.lock:
                self.pairs.append((a, b))
            for x, y in ((a, b), (b, a)):
                threading.Thread(target=self._copy, args=(x, y), daemon=True).start()

    def _copy(self, x, y):
        stuck_here = False
        while True:
            try:
                data = x.recv(65536)
                with self.lock:
                    if self.stuck or stuck_here:
                        stuck_here = True
                        self.lock.wait_for(lambda: False, timeout=3600)
                if not data:
                    break
                y.sendall(data)
            except OSError:
                break
        for s in (x, y):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def black_hole(self):
        """Connections of now are stuck for good."""
        with self.lock:
            self.stuck = True

    def pass_new(self):
        with self.lock:
            self.stuck = False

    def finish_all(self):
        """Connections of now end in order, as at the end of their lifetime."""
        with self.lock:
            for s in sum(self.pairs, ()):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.pairs = []

    def reset_all(self):
        with self.lock:
            for a, b in self.pairs:
                for s in (a, b):
                    try:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        s.close()
                    except OSError:
                        pass
            self.pairs = []

    def close(self):
        self.server.close()
        self.reset_all()


# -- network namespaces

def sh(*argv, ns=None, text=None, check=True):
    argv = (["ip", "netns", "exec", ns] if ns else []) + list(argv)
    r = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    assert not check or r.returncode == 0, f"{argv}: {r.stderr}"
    return r.stdout


CLONE_NEWNET, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 0x40000000, 32, 33


def socket_in(world, ns, ip, port=0):
    """A UDP socket of another namespace: it stays where it was made."""
    setns = ctypes.CDLL(None).setns
    with open("/proc/thread-self/ns/net", "rb") as here, open(f"/run/netns/{ns}", "rb") as there:
        assert setns(there.fileno(), CLONE_NEWNET) == 0
        try:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            assert setns(here.fileno(), CLONE_NEWNET) == 0
    world.cleanups.append(s.close)
    for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        s.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
    s.bind((ip, port))
    s.settimeout(5)
    return s


RELAY_IP = "10.99.0.1"  # behind the default route, as a relay on the Internet is


class Net:
    """A relay's namespace r, and others that reach only it, and only on tcp/443. slow: name -> options of linkemu,
    for those that are not on a veth; self.emu has their emulators."""

    def __init__(self, world, names, tag, slow=None):
        self.ns = {n: f"t{tag}{n}" for n in ["r", *names]}
        self.world, self.tag, self.slow, self.emu = world, tag, slow or {}, {}
        for n in self.ns.values():
            sh("ip", "netns", "add", n)
            world.cleanups.append(lambda n=n: sh("ip", "netns", "del", n, check=False))
            sh("ip", "link", "set", "lo", "up", ns=n)
        sh("ip", "addr", "add", f"{RELAY_IP}/32", "dev", "lo", ns=self.ns["r"])
        for i, n in enumerate(names, 1):
            self.connect(n, i)

    def connect(self, n, i):
        if n in self.slow:
            self.emu[n] = self.world.program([f"{BUILD}/support/linkemu", *self.slow[n], f"{self.ns['r']}/to{n}", f"{self.ns[n]}/up0"])
            self.emu[n].wait_for("ready")
            for ns, dev in ((self.ns["r"], f"to{n}"), (self.ns[n], "up0")):  # only what is sent on purpose
                sh("sysctl", "-q", f"net.ipv6.conf.{dev}.disable_ipv6=1", ns=ns)
        else:
            sh("ip", "link", "add", f"to{n}", "netns", self.ns["r"], "type", "veth", "peer", "name", "up0", "netns", self.ns[n])
        sh("ip", "addr", "add", f"10.9.{i}.1/24", "dev", f"to{n}", ns=self.ns["r"])
        sh("ip", "link", "set", f"to{n}", "up", ns=self.ns["r"])
        sh("ip", "addr", "add", f"10.9.{i}.2/24", "dev", "up0", ns=self.ns[n])
        sh("ip", "link", "set", "up0", "up", ns=self.ns[n])
        sh("ip", "route", "add", "default", "via", f"10.9.{i}.1", ns=self.ns[n])

    def wg(self, n):
        """Name of n's WireGuard device; wireguard-go's control socket has it too and lies outside all namespaces."""
        return f"wg{n}{self.tag}"

    def firewall(self, n, port=443):
        for table in ("iptables", "ip6tables"):
            for chain in ("INPUT", "OUTPUT", "FORWARD"):
                sh(table, "-P", chain, "DROP", ns=self.ns[n])
            for dev in ("lo", "wg+"):
                sh(table, "-A", "INPUT", "-i", dev, "-j", "ACCEPT", ns=self.ns[n])
                sh(table, "-A", "OUTPUT", "-o", dev, "-j", "ACCEPT", ns=self.ns[n])
        sh("iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", str(port), "-d", RELAY_IP, "-j", "ACCEPT", ns=self.ns[n])
        sh("iptables", "-A", "INPUT", "-p", "tcp", "--sport", str(port), "-s", RELAY_IP, "-j", "ACCEPT", ns=self.ns[n])


def wg_key():
    private = sh("wg", "genkey").strip()
    return types.SimpleNamespace(private=private, public=sh("wg", "pubkey", text=private).strip())


def wireguard(world, ns, dev, address, conf):
    p = world.program(["wireguard-go", "-f", dev], ns=ns)
    deadline = time.monotonic() + 10
    while not os.path.exists(f"/var/run/wireguard/{dev}.sock") or dev not in sh("ip", "-o", "link", ns=ns):
        assert time.monotonic() < deadline, "wireguard-go did not start"
        select.select([], [], [], 0.02)
    sh("wg", "setconf", dev, "/dev/stdin", ns=ns, text=conf)
    sh("ip", "addr", "add", address, "dev", dev, ns=ns)
    sh("ip", "link", "set", dev, "mtu", "1420", "up", ns=ns)
    return p


def wireguard_pair(world, net, relay, *args, allowed_b="10.8.0.1/32", **kw):
    """Home (a) owns port 51820, the laptop (b) sends to 127.0.0.1:51820; the words are the same."""
    a, b, url = wg_key(), wg_key(), f"https://{RELAY_IP}"
    wireguard(world, net.ns["a"], net.wg("a"), "10.8.0.1/24",
              f"[Interface]\nPrivateKey={a.private}\nListenPort=51820\n[Peer]\nPublicKey={b.public}\nAllowedIPs=10.8.0.2/32\n")
    home = world.end(relay, 51820, "home", "laptop", *args, url=url, ns=net.ns["a"], **kw)
    laptop = world.end(relay, 51820, "laptop", "home", *args, url=url, ns=net.ns["b"], **kw)
    home.wait_for("ListenPort = 51820")
    assert endpoint(laptop) == ("127.0.0.1", 51820)
    laptop.wait_for("home is up")
    if allowed_b:
        wireguard(world, net.ns["b"], net.wg("b"), "10.8.0.2/24",
                  f"[Interface]\nPrivateKey={b.private}\n[Peer]\nPublicKey={a.public}\nAllowedIPs={allowed_b}\nEndpoint=127.0.0.1:51820\n")
    return types.SimpleNamespace(a=a, b=b, home=home, laptop=laptop)


def pings(ns, address, count=5, seconds=15):
    """How many of `count` pings came back."""
    out = sh("ping", "-i", "0.2", "-c", str(count), "-w", str(seconds), address, ns=ns, check=False)
    m = re.search(r"(\d+) received", out)
    return int(m.group(1)) if m else 0


SENDER = """
import hashlib, os, socket, sys
s = socket.create_connection((sys.argv[1], 5000), 20); h = hashlib.sha256(); block = os.urandom(1 << 20)
for i in range(int(sys.argv[2])):
    d = bytes([i]) + block[1:]; h.update(d); s.sendall(d)
s.shutdown(socket.SHUT_WR); print('sent', h.hexdigest(), flush=True); s.recv(1)
"""
RECEIVER = """
import hashlib, socket, sys
l = socket.create_server((sys.argv[1], 5000)); print('listening', flush=True); s, _ = l.accept()
h = hashlib.sha256(); n = 0
while d := s.recv(1 << 20):
    h.update(d); n += len(d)
print('got', n, h.hexdigest(), flush=True)
"""


def move(world, from_ns, to_ns, address, megabytes):
    """Moves that much TCP; the checksum must arrive."""
    sink = world.program(["/usr/bin/python3", "-c", RECEIVER, address], ns=to_ns)
    sink.wait_for("listening")
    source = world.program(["/usr/bin/python3", "-c", SENDER, address, str(megabytes)], ns=from_ns)
    digest = source.wait_for(r"sent (\w+)", 240).group(1)
    got = sink.wait_for(r"got (\d+) (\w+)", 60)
    assert (int(got.group(1)), got.group(2)) == (megabytes << 20, digest)
