"""Company proxies: HTTP CONNECT with Basic through a real squid, WireGuard on top."""
import os
import re
import shutil
import ssl
import subprocess
import tempfile

import pytest
from harness import RELAY_IP, TUNN, Net, ask, free_port, free_tcp_port, move, pings, wireguard_pair
from scripted_relay import Relay

USER, PASSWORD = "worker", "p@ss:word/1%"
LOGIN = "worker:p%40ss%3Aword%2F1%25"


class Squid:
    """Debian's squid; lets CONNECT through to the ports given, with a login or for everybody."""

    def __init__(self, world, ports, ip="127.0.0.1", port=None, ns=None, login=True):
        self.dir, self.port = tempfile.mkdtemp(prefix="tunn-squid-"), port or free_tcp_port()
        world.cleanups.append(lambda: shutil.rmtree(self.dir, ignore_errors=True))
        hashed = subprocess.run(["openssl", "passwd", "-apr1", "-stdin"], input=PASSWORD, capture_output=True,
                                text=True, check=True).stdout
        self.write("users", f"{USER}:{hashed}")
        self.write("access.log", "")
        auth = ("auth_param basic program /usr/lib/squid/basic_ncsa_auth {0}/users\nauth_param basic realm a, \"b\"\n"
                "acl known proxy_auth REQUIRED\nhttp_access allow known\n")
        self.write("squid.conf", (
            "http_port {ip}:{port}\nacl CONNECT method CONNECT\nacl allowed port {ports}\n"
            "http_access deny !CONNECT\nhttp_access deny !allowed\n"
            + (auth if login else "http_access allow all\n") +
            "http_access deny all\naccess_log stdio:{0}/access.log\ncache deny all\ncoredump_dir {0}\n"
            "pid_filename none\nshutdown_lifetime 0 seconds\nlogfile_rotate 0\npinger_enable off\n"
            "cache_mem 1 MB\nmax_filedescriptors 1024\nworkers 1\n"
        ).format(self.dir, ip=ip, port=self.port, ports=" ".join(map(str, ports))))
        if os.geteuid() == 0:
            for f in ["", "users", "access.log", "squid.conf"]:
                shutil.chown(f"{self.dir}/{f}", "proxy", "proxy")
        self.argv, self.ns, self.world = ["squid", "-N", "-d", "1", "-f", f"{self.dir}/squid.conf"], ns, world
        self.start()

    def write(self, name, text):
        with open(f"{self.dir}/{name}", "w") as f:
            f.write(text)

    def start(self):
        self.p = self.world.program(self.argv, ns=self.ns)
        self.p.wait_for("Accepting HTTP Socket connections", 30)

    def log(self):
        self.p.stop()  # it writes with a buffer
        with open(f"{self.dir}/access.log") as f:
            return f.read()

    def url(self, login=LOGIN, ip="127.0.0.1"):
        return f"http://{login}@{ip}:{self.port}" if login else f"http://{ip}:{self.port}"


class Interceptor(Relay):
    """A box that shows a certificate of its own CA for the relay."""

    def __init__(self, world):
        super().__init__(world)
        self.ca, key, leaf = f"{world.tmp}/corp.pem", f"{world.tmp}/corp.key", f"{world.tmp}/leaf"
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for argv in (["req", "-x509", *new, "-keyout", key, "-out", self.ca, "-days", "2", "-subj", "/CN=Corp Inspection CA"],
                     ["req", *new, "-keyout", leaf + ".key", "-out", leaf + ".csr", "-subj", "/CN=relay", "-addext",
                      "subjectAltName=IP:127.0.0.1"],
                     ["x509", "-req", "-in", leaf + ".csr", "-CA", self.ca, "-CAkey", key, "-CAcreateserial", "-days", "2",
                      "-copy_extensions", "copy", "-out", leaf + ".pem"]):
            subprocess.run(["openssl", *argv], check=True, capture_output=True)
        self.context.load_cert_chain(leaf + ".pem", leaf + ".key")

    def refuse(self):
        """The client does not want what it is shown."""
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            self.accept()


def without_proxies(**more):
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return env | more


@pytest.fixture
def squid(world, relay):
    return Squid(world, [relay.port])


def pair_through(world, relay, squid):
    """One end by --proxy, the other by the environment."""
    echo = world.echo()
    home = world.end(relay, echo.port, "home", "laptop", "--forward", "--proxy", squid.url(), env=without_proxies())
    laptop = world.end(relay, port := free_port(), "laptop", "home", "--listen",
                       env=without_proxies(https_proxy=squid.url()))
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    return home, laptop, ("127.0.0.1", port)


def test_datagrams_pass_through_a_proxy_with_a_login(world, relay, squid):
    home, laptop, address = pair_through(world, relay, squid)
    s = world.socket()
    for n in (0, 1, 1420, 65507):
        ask(s, address, os.urandom(n))
    assert squid.log().count(f"CONNECT 127.0.0.1:{relay.port} {USER}") == 2
    for end in (home, laptop):
        assert PASSWORD not in end.text() and LOGIN not in end.text()


def test_F17_a_restarted_proxy_is_used_again_within_5_s(world, relay, squid):
    _, _, address = pair_through(world, relay, squid)
    s = world.socket()
    ask(s, address, b"before")
    squid.p.stop()
    squid.start()
    assert ask(s, address, b"after", 30) < 5


def test_X07_a_wrong_password_is_told_once_and_not_tried_again(world, relay, squid):
    end = world.end(relay, free_port(), "a", "b", "--listen", "--proxy", squid.url("worker:wrong-word"))
    end.wait_for(r"proxy 127\.0\.0\.1:\d+.*not accepted \(407\)")
    assert end.exit_code() == 3
    assert "wrong-word" not in end.text()
    assert squid.log().count("TCP_DENIED/407") == 1


def test_a_proxy_that_wants_a_login_is_named_with_the_way_out(world, relay, squid):
    end = world.end(relay, free_port(), "a", "b", "--listen", "--proxy", squid.url(login=None))
    end.wait_for(r"wants a login \(407, offers Basic\): --proxy http://USER:PASSWORD@127\.0\.0\.1:\d+")
    assert end.exit_code() == 3


def test_X09_a_target_the_proxy_forbids_is_told(world, relay):
    squid = Squid(world, [1], login=False)
    end = world.end(relay, free_port(), "a", "b", "--listen", "--proxy", squid.url(login=None))
    end.wait_for(rf"proxy 127\.0\.0\.1:\d+, asked for 127\.0\.0\.1:{relay.port}: does not allow this target")
    assert end.exit_code() == 3


def test_no_proxy_goes_around_it(world, relay):
    dead = f"http://127.0.0.1:{free_tcp_port()}"
    for no_proxy in ("127.0.0.1", "localhost, 127.0.0.0/8", "*"):
        end = world.end(relay, free_port(), "a", "b", "--listen", env=without_proxies(HTTPS_PROXY=dead, no_proxy=no_proxy))
        end.wait_for("connected as a")
        end.stop()
    end = world.end(relay, free_port(), "a", "b", "--listen", "--once", env=without_proxies(HTTPS_PROXY=dead))
    end.wait_for("proxy 127.0.0.1.*refused")
    assert end.exit_code() == 4
    world.end(relay, free_port(), "a", "b", "--listen", "--proxy", "none",
              env=without_proxies(HTTPS_PROXY=dead)).wait_for("connected as a")


def test_X13_a_proxy_that_is_the_relay_itself_is_told(world, relay):
    for name, why in ((f"http://127.0.0.1:{relay.port}", "is the relay itself"), (f"http://LOCALHOST:{relay.port}", None)):
        end = world.end(relay, free_port(), "a", "b", "--listen", "--once", env=without_proxies(https_proxy=name))
        assert end.exit_code() == (2 if why else 4)
        assert re.search(why or "proxy LOCALHOST.*(is it the relay|closed the connection)", end.text())


def test_X10_an_interceptor_is_named_with_the_way_out(world, relay):
    box = Interceptor(world)
    words = [TUNN, "relay", str(free_port()), "--id", "me", "--peer", "peer", "--relay", box.url, "--token-file", relay.token,
             "--listen"]
    end = world.program(words)
    box.refuse()
    end.wait_for("issued by Corp Inspection CA not trusted.*where TLS is intercepted by Corp Inspection CA, use --ca with its")
    end.stop()
    end = world.program([*words, "--pin", relay.pin])
    box.refuse()
    end.wait_for("is not the pinned one.*intercepts TLS .the certificate was issued by Corp Inspection CA")
    end.stop()
    end = world.program([*words, "--ca", box.ca])
    box.accept().admit()
    end.wait_for("connected as me")


def test_X10_an_alert_from_an_interceptor_is_explained(world, relay):
    box = Interceptor(world)
    end = world.end(relay, free_port(), "me", "peer", "--listen", url=box.url)
    s = box.accept_tcp()
    s.recv(4096)
    s.sendall(b"\x15\x03\x03\x00\x02\x02\x30")
    end.wait_for("does not work.*TLS is intercepted on the way.*unknown_ca")


@pytest.mark.root
def test_wireguard_passes_where_only_the_proxy_is_reachable(world):
    net = Net(world, ["a", "b"], f"{os.getpid() % 100000}p")
    for name in "ab":
        net.firewall(name, port=3128)
    relay = world.relay(":443", ns=net.ns["r"])
    squid = Squid(world, [443], ip=RELAY_IP, port=3128, ns=net.ns["r"])
    wireguard_pair(world, net, relay, env=without_proxies(https_proxy=squid.url(ip=RELAY_IP)))
    assert pings(net.ns["b"], "10.8.0.1", 5) >= 4
    move(world, net.ns["b"], net.ns["a"], "10.8.0.1", 20)
    assert f"CONNECT {RELAY_IP}:443 {USER}" in squid.log()
