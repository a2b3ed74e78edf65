"""The relay as its operator sees it: certificate, first token, reload, listen addresses."""
import hashlib
import os
import signal
import socket
import ssl
import stat
import subprocess

from harness import TUNN, ask, endpoint, free_port
from scripted import DATA, Peer, register, request_fields


def test_first_start_makes_certificate_and_token_and_keeps_them(world, relay):
    assert stat.S_IMODE(os.stat(relay.token).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(f"{relay.state}/tls-key.pem").st_mode) == 0o600
    with open(relay.token) as f:
        token = f.read().strip()
    assert token not in relay.text()
    relay.stop()
    again = world.relay()
    assert again.pin == relay.pin
    assert "first start" not in again.text()


def test_reissued_certificate_keeps_the_pin(world, relay):
    relay.stop()
    os.remove(f"{relay.state}/tls-cert.pem")
    assert world.relay().pin == relay.pin


def test_wrong_pin_is_refused_and_the_shown_key_named(world, relay):
    end = world.program([TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay", relay.url, "--pin",
                         "sha256:" + "0" * 64, "--token-file", relay.token, "--once"])
    assert end.exit_code() == 4
    assert relay.pin in end.text()


def raw_pin(relay):
    """The pin of the whole certificate, as in a DERP map; computed by another program than ours."""
    with open(f"{relay.state}/tls-cert.pem") as f:
        return "sha256-raw:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


def pinning(world, relay, pin, host="127.0.0.1"):
    return world.program([TUNN, "relay", str(free_port()), "--id", f"e{free_port()}", "--peer", "b", "--relay",
                          f"https://{host}:{relay.port}", "--pin", pin, "--token-file", relay.token, "--once"])


def test_the_whole_certificate_can_be_pinned_for_its_names(world, relay):
    pinning(world, relay, raw_pin(relay)).wait_for("connected as")
    pinning(world, relay, raw_pin(relay), "localhost").wait_for("connected as")
    stranger = pinning(world, relay, "sha256-raw:" + "0" * 64)
    assert stranger.exit_code() == 4
    assert raw_pin(relay) in stranger.text()


def test_own_certificate_is_for_the_addresses_listened_on(world, relay):
    before = raw_pin(relay)
    relay.stop()
    moved = world.relay(listen="127.0.0.77:0")
    assert raw_pin(moved) != before and moved.pin == relay.pin
    pinning(world, moved, raw_pin(moved), "127.0.0.77").wait_for("connected as")
    moved.stop()
    assert raw_pin(world.relay(listen="127.0.0.77:0")) == raw_pin(moved)


def test_own_certificate_verifies_by_ca_and_name(world, relay):
    end = world.program([TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay",
                         f"https://localhost:{relay.port}", "--ca", f"{relay.state}/tls-cert.pem", "--token-file",
                         relay.token])
    end.wait_for("connected as a")


def test_without_pin_or_ca_a_private_relay_is_not_trusted(world, relay):
    end = world.program([TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay", relay.url,
                         "--token-file", relay.token, "--once"])
    assert end.exit_code() == 4
    assert "--pin" in end.text()


def test_reload_takes_a_new_certificate_and_a_broken_one_changes_nothing(world):
    def make(days):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", f"{world.tmp}/key.pem", "-out", f"{world.tmp}/cert.pem", "-days", days, "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        os.chmod(f"{world.tmp}/key.pem", 0o600)

    make("10")
    relay = world.relay(args=("--cert", f"{world.tmp}/cert.pem", "--key", f"{world.tmp}/key.pem"))

    def connects():
        end = world.program([TUNN, "relay", str(free_port()), "--id", f"e{free_port()}", "--peer", "b", "--relay",
                             f"https://localhost:{relay.port}", "--ca", f"{world.tmp}/good.pem", "--token-file",
                             relay.token, "--once"])
        end.wait_for("connected as")

    os.link(f"{world.tmp}/cert.pem", f"{world.tmp}/good.pem")
    connects()
    old = world.end(relay, free_port(), "stays", "nobody", "--listen")
    old.wait_for("connected")
    with open(f"{world.tmp}/good.pem", "rb") as f:
        good = f.read()
    with open(f"{world.tmp}/cert.pem", "w") as f:
        f.write("not a certificate")
    os.remove(f"{world.tmp}/good.pem")
    with open(f"{world.tmp}/good.pem", "wb") as f:
        f.write(good)
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reload refused", after=at)
    connects()
    os.remove(f"{world.tmp}/cert.pem")
    make("20")
    os.replace(f"{world.tmp}/cert.pem", f"{world.tmp}/cert2.pem")
    os.link(f"{world.tmp}/cert2.pem", f"{world.tmp}/cert.pem")
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("reloaded certificate", after=at)
    os.replace(f"{world.tmp}/cert2.pem", f"{world.tmp}/good.pem")
    connects()
    assert old.p.poll() is None
    assert relay.counters()["reload_failures_total"] == 1


def test_a_second_signal_ends_at_once(world):
    # Who ends at once joins no thread, which ThreadSanitizer takes for a leak.
    relay = world.relay(args=["--drain", "8s"], env={**os.environ, "TSAN_OPTIONS": "report_thread_leaks=0"})
    with open(relay.token) as f:
        token = f.read().strip()
    p = Peer(relay.port)  # an end that stays although it is told to leave
    p.headers(1, request_fields())
    p.frame(DATA, 0, 1, register(token))
    relay.wait_for("end joined")
    relay.p.send_signal(signal.SIGTERM)
    relay.wait_for("draining: ends are told")
    relay.p.send_signal(signal.SIGTERM)
    relay.wait_for("again: ending now", 5)
    assert relay.exit_code() == 0
    p.close()


def test_both_address_families_are_served(world):
    relay = world.relay(listen="[::1]:0")
    world.end(relay, free_port(), "six", "b", url=f"https://[::1]:{relay.port}").wait_for("connected as six")


def test_open_relay_needs_no_token_and_only_on_loopback(world):
    relay = world.relay(args=("--open",))
    end = world.program([TUNN, "relay", str(free_port()), "--id", "a", "--peer", "b", "--relay", relay.url, "--pin",
                         relay.pin], env=os.environ | {"XDG_CONFIG_HOME": str(world.tmp)})
    end.wait_for("connected as a")
    r = subprocess.run([TUNN, "server", "--open", "--listen", "0.0.0.0:0", "--state", f"{world.tmp}/x"],
                       capture_output=True, text=True, check=False)
    assert r.returncode == 2 and "--open-to-everyone" in r.stderr


def test_several_listen_addresses(world):
    relay = world.relay(args=("--listen", "127.0.0.2:0"))
    port = relay.wait_for(r"listening on 127\.0\.0\.2:(\d+)").group(1)
    world.end(relay, free_port(), "a", "b", url=f"https://127.0.0.2:{port}").wait_for("connected as a")


def test_plain_http_at_the_tls_port_harms_nothing(world, relay):
    with socket.create_connection(("127.0.0.1", relay.port)) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        s.settimeout(5)
        try:
            while s.recv(1000):
                pass
        except ConnectionResetError:
            pass
    pair = world.pair(relay)
    ask(world.socket(), pair.address, b"alive")
    assert endpoint(pair.laptop)
