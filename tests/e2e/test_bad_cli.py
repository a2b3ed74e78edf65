"""Bad command lines, variables and config files (rows C): exit code, words on standard error, nothing on standard output."""
import os
import signal
import socket
import subprocess

import pytest
from harness import TUNN, free_port

RELAY = ["relay", "51820", "--peer", "b"]
USAGE, FAILED = 2, 1


def run(argv, env=None, stdin=""):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TUNN_") and not k.lower().endswith("_proxy")}
    return subprocess.run([TUNN, *argv], capture_output=True, text=True, check=False, input=stdin, timeout=60,
                          env=clean | (env or {}))


def refused(code, words, argv, env=None, stdin=""):
    r = run(argv, env, stdin)
    assert (r.returncode, r.stdout) == (code, ""), r.stderr
    assert words in r.stderr, r.stderr
    return r.stderr


# -- command line: argv, what is said

LONG = "a" * 64
LINES = {
    "C01_unknown_option": ([*RELAY, "--pere", "x"], "did you mean --peer?"),
    "C01_unknown_option_of_server": (["server", "--listn", ":1"], "did you mean --listen?"),
    "C01_unknown_option_of_account": (["account", "add", "x", "--stat", "y"], "did you mean --state?"),
    "C01_unknown_option_of_token": (["token", "new", "x", "--expire", "1d"], "did you mean --expires?"),
    "C01_unknown_option_of_version": (["version", "--dep"], "did you mean --deps?"),
    "C01_unknown_subcommand": (["sever"], 'did you mean "server"?'),
    "C01_no_subcommand": ([], "usage: tunn COMMAND"),
    "C01_unknown_verb_of_account": (["account", "remove", "x"], "usage: tunn account add NAME"),
    "C01_unknown_verb_of_token": (["token"], "usage: tunn token new ACCOUNT"),
    "C02_option_without_argument": ([*RELAY, "--relay"], "--relay needs a value"),
    "C02_option_before_an_option": (["server", "--state", "--open"], "--state needs a value"),
    "C02_option_of_token": (["token", "new", "x", "--id"], "--id needs a value"),
    **{f"C03_port_{p or 'empty'}": (["relay", p, "--peer", "b"], f'port must be 1 to 65535, not "{p}"')
       for p in ["0", "65536", "-1", "44a", "0x1bb", "99999999999999999999"]},
    "C03_port_empty": (["relay", "--port=", "--peer", "b"], 'must be 1 to 65535, not ""'),
    **{f"C03_listen_{p}": (["server", "--listen", p], "--listen must be ADDR:PORT")
       for p in [":65536", ":-1", ":44a", ":0x1bb", "127.0.0.1:", ":99999999999999999999"]},
    "C03_relay_url_port": ([*RELAY, "--relay", "https://r.example:0"], "--relay must be https://HOST[:PORT]"),
    "C04_listen_twice": (["server", "--listen", ":443", "--listen", ":443"], "given twice"),
    "C04_listeners_on_one_address": (["server", "--listen", "[::1]:443", "--listen", "[0::1]:443"], "the same address"),
    "C07_listen_without_brackets": (["server", "--listen", "::1:443"], "in brackets, like [::1]:443"),
    "C07_relay_without_brackets": ([*RELAY, "--relay", "::1:443"], "IPv6 in brackets ([::1]:443)"),
    "C08_label_of_64": ([*RELAY, "--relay", LONG + ".example"], "--relay must be"),
    "C08_host_of_254": ([*RELAY, "--relay", ".".join(["a" * 49] * 5) + ".abcd"], "--relay must be"),
    "C08_host_with_space": ([*RELAY, "--relay", "r example"], "--relay must be"),
    "C08_host_with_underscore": ([*RELAY, "--forward", "r_x"], "--forward must be"),
    "C08_name_with_underscore": (["server", "--name", "r_x.example"], "--name must be"),
    "C15_number_beyond_32_bits": ([*RELAY, "--fwmark", "18446744073709551616"], "--fwmark must be a number"),
    "C15_number_negative": ([*RELAY, "--fwmark=-1"], "--fwmark must be a number"),
    "C15_number_with_exponent": ([*RELAY, "--fwmark", "1e999"], "--fwmark must be a number"),
    "C15_number_with_letters": ([*RELAY, "--fwmark", "10XB"], "--fwmark must be a number"),
    **{f"C16_drain_{v.replace(' ', '_')}": (["server", "--drain=" + v], "--drain must be a time from 0s to 8s with its unit")
       for v in ["5", "5 s", "-1s", "1000000h", "s", "1e3s"]},
    **{f"C16_expires_{v.replace(' ', '_')}": (["token", "new", "x", "--expires=" + v], "at most 366d")
       for v in ["5", "5 d", "-1d", "1000000h", "367d", "99999999999999999999d"]},
    "C20_token_as_option": ([*RELAY, "--token", "tunn_sesame"], "use --token-file FILE"),
    "C20_token_as_word": ([*RELAY, "tunn_sesame"], "put it in a file of mode 0600"),
    "C22_an_expiry_of_nothing_is_not_never": (["token", "new", "x", "--expires", "0d"], "--expires must be days or hours"),
    "C23_login_in_the_url_of_a_map": (["relay", "51820", "--peer", "nodekey:" + "50" * 32, "--derp-map", "https://u:sesame@m.example/map"],
                                      "--derp-map cannot be used: the URL has a login, which is not supported"),
    "C23_map_of_another_scheme": (["relay", "51820", "--peer", "nodekey:" + "50" * 32, "--derp-map", "ftp://m.example/map"],
                                  "--derp-map must be a file, or an http or https URL"),
    "C23_socks_proxy": ([*RELAY, "--proxy", "socks5://u:sesame@p:1080"], "scheme that is not supported (only http)"),
    "C23_two_schemes": ([*RELAY, "--proxy", "http://https://p"], "two schemes"),
    **{f"C30_peer_{name}": (["relay", "51820", "--peer=" + v], "--peer must be ID, ACCOUNT/ID")
       for name, v in {"empty": "", "of_64": LONG, "upper_case": "Home", "underscore": "a_b", "dash_first": "-a",
                       "two_slashes": "a/b/c", "no_account": "/a", "no_name": "a/", "key_too_short": "nodekey:" + "a" * 63,
                       "key_not_hex": "nodekey:" + "g" * 64}.items()},
    **{f"C30_id_{name}": ([*RELAY, "--id=" + v], "--id must be 1 to 63 of a-z")
       for name, v in {"empty": "", "of_64": LONG, "upper_case": "Home", "underscore": "a_b", "dash_first": "-a",
                       "slash": "a/b"}.items()},
    "C30_account_upper_case": (["account", "add", "Acme"], "must be 1 to 63 of a-z"),
    "C30_account_with_slash": (["account", "add", "a/b"], "must be 1 to 63 of a-z"),
    "C30_id_of_a_token": (["token", "new", "main", "--id", "a_b"], "--id must be 1 to 63 of a-z"),
    "C30_node": (["server", "--node", "a_b"], "--node must be 1 to 63 of a-z"),
    "A12_a_token_in_a_url": ([*RELAY, "--relay", "https://r.example/?t=tunn_sesame"], "--relay must be"),
}


@pytest.mark.parametrize("row", LINES)
def test_bad_command_lines_exit_with_2(row):
    argv, words = LINES[row]
    assert "sesame" not in refused(USAGE, words, argv)


# -- variables

VARIABLES = {
    "C03_port_in_a_variable": ({"TUNN_PORT": "0"}, 'TUNN_PORT must be 1 to 65535, not "0"'),
    "C12_bad_value_in_a_variable": ({"TUNN_LISTEN": "here"}, "TUNN_LISTEN must be a numeric address"),
    "C16_bad_flag_in_a_variable": ({"TUNN_ONE_WAY": "perhaps"}, "TUNN_ONE_WAY must be yes or no"),
    "C21_token_empty": ({"TUNN_TOKEN": ""}, "token from TUNN_TOKEN: it is empty"),
    "C21_token_blank": ({"TUNN_TOKEN": " \t"}, "token from TUNN_TOKEN: it is empty"),
    "C21_token_of_two_lines": ({"TUNN_TOKEN": "tunn_sesame\ntunn_sesame"}, "more than one line"),
    "A01_token_without_prefix": ({"TUNN_TOKEN": "sesame"}, "malformed token"),
    "C23_socks_proxy_in_a_variable": ({"https_proxy": "socks5://u:sesame@p:1"}, "scheme that is not supported"),
    "C30_peer_in_a_variable": ({"TUNN_PEER": "a,B"}, "TUNN_PEER must be ID, ACCOUNT/ID"),
}


@pytest.mark.parametrize("row", VARIABLES)
def test_bad_variables_exit_with_2(row, tmp_path):
    env, words = VARIABLES[row]
    argv = ["relay"] + ([] if "TUNN_PORT" in env else [str(free_port())]) + ([] if "TUNN_PEER" in env else ["--peer", "b"])
    assert "sesame" not in refused(USAGE, words, [*argv, "--relay", "127.0.0.1:1", "--once"],
                                   {"XDG_CONFIG_HOME": str(tmp_path)} | env)


def test_C30_an_end_that_names_its_own_node_key_as_its_peer_is_told(tmp_path):
    run(["key", "new", "--out", f"{tmp_path}/key"])
    own = run(["key", "pub", "--key-file", f"{tmp_path}/key"]).stdout.strip()
    words = ["relay", str(free_port()), "--transport", "derp", "--relay", "127.0.0.1:1", "--once", "--key-file", f"{tmp_path}/key"]
    refused(USAGE, f"--peer {own}: is this end's own key: name the other end", [*words, "--peer", own])


def test_a_node_key_that_could_be_kept_nowhere_is_not_made():
    """Not at the root of the file system either, where root may write."""
    words = ["relay", str(free_port()), "--transport", "derp", "--relay", "127.0.0.1:1", "--once", "--peer", "nodekey:" + "50" * 32]
    refused(USAGE, "there is no home to keep it in (HOME): say --key-file FILE", words, {"HOME": "", "XDG_CONFIG_HOME": ""})


@pytest.mark.parametrize("row", ["C21_file_empty", "C21_file_of_two_lines", "C21_standard_input_at_its_end", "C17_file_of_mode_0644"])
def test_bad_token_sources_exit_with_2(row, tmp_path):
    texts = {"C21_file_empty": "", "C21_file_of_two_lines": "tunn_sesame\ntunn_sesame\n", "C17_file_of_mode_0644": "tunn_sesame"}
    words = {"C21_file_of_two_lines": "more than one line", "C17_file_of_mode_0644": "chmod 600"}.get(row, "it is empty")
    if row in texts:
        with open(os.open(f"{tmp_path}/token", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(texts[row])
    if row == "C17_file_of_mode_0644":
        os.chmod(f"{tmp_path}/token", 0o644)
    source = f"{tmp_path}/token" if row in texts else "-"
    assert "sesame" not in refused(USAGE, words, ["relay", str(free_port()), "--peer", "b", "--relay", "127.0.0.1:1",
                                                  "--once", "--token-file", source])


# -- config files

FILES = {
    "C11_invalid_utf8": (b"node: a\nname: r\xff\n", "c.yaml:2:8: byte 15 is not UTF-8"),
    "C11_nul": (b"node: a\0\n", "c.yaml:1:8: byte 7 is NUL"),
    "C12_unknown_key": (b"node: a\nnmae: r\n", 'c.yaml:2:1: unknown key "nmae", did you mean "name"?'),
    "C13_key_twice": (b"node: a\nstate: /x\nnode: b\n", 'c.yaml:3:1: key "node" is there already, in line 1'),
    "C14_includes_do_not_exist": (b"include: other.yaml\n", 'c.yaml:1:1: unknown key "include"'),
    "C14_nor_as_a_tag": (b"node: !include other.yaml\n", "c.yaml:1:7: "),
    "C03_bad_port": (b"listen: :65536\n", "c.yaml:1:9: listen must be ADDR:PORT"),
    "C16_bad_time": (b"drain: 5\n", "c.yaml:1:8: drain must be a time"),
    "C20_token_in_a_file": (b"token: tunn_sesame\n", "c.yaml:1:1: "),
    "C04_address_twice": (b"listen: [':443', ':443']\n", "given twice"),
}


@pytest.mark.parametrize("row", FILES)
def test_bad_config_files_exit_with_2_and_their_place(row, tmp_path):
    text, words = FILES[row]
    (tmp_path / "c.yaml").write_bytes(text)
    for how in (["--config", f"{tmp_path}/c.yaml"], []):
        env = {} if how else {"TUNN_CONFIG": f"{tmp_path}/c.yaml"}
        assert "sesame" not in refused(USAGE, words, ["server", "--state", f"{tmp_path}/s", *how], env)


def test_C09_only_regular_files_of_a_mebibyte(tmp_path):
    os.mkfifo(f"{tmp_path}/fifo")
    with open(f"{tmp_path}/big", "wb") as f:
        f.truncate(100 << 20)
    for path, words in {f"{tmp_path}/none": "cannot be opened", str(tmp_path): "is a directory", f"{tmp_path}/fifo": "not a regular",
                        "/dev/zero": "not a regular", f"{tmp_path}/big": "larger than 1 MiB"}.items():
        for command in ("relay", "server", "account", "token"):
            refused(USAGE, words, [command, "--config", path])


def test_C10_mark_carriage_returns_and_no_last_newline_are_accepted(world):
    with open(f"{world.tmp}/c.yaml", "wb") as f:
        f.write(b"\xef\xbb\xbfnode: windows\r\ndrain: 1s\r\nlog-level: debug")
    world.relay(args=("--config", f"{world.tmp}/c.yaml"))


def test_account_and_token_read_the_servers_config_file(world):
    state = f"{world.tmp}/elsewhere"
    with open(f"{world.tmp}/server.yaml", "w") as f:
        f.write(f"state: {state}\nlisten: [':8443']\nname: r.example\nopen: no\ndrain: 2s\n")
    env = {"TUNN_CONFIG": f"{world.tmp}/server.yaml"}
    assert run(["account", "add", "acme"], env).returncode == 0
    assert run(["token", "new", "acme"], env).stdout.startswith("tunn_")
    assert os.path.exists(f"{state}/accounts.db")
    with open(f"{world.tmp}/server.yaml", "a") as f:
        f.write("nobodys: 1\n")
    for argv in (["account", "add", "other"], ["token", "new", "acme"]):
        refused(USAGE, 'server.yaml:6:1: unknown key "nobodys"', argv, env)


# -- addresses, state, certificate

def test_C05_addresses_that_are_not_ours_are_named(tmp_path):
    refused(FAILED, "cannot listen on 192.0.2.1:443: Cannot assign", ["server", "--listen", "192.0.2.1:443", "--state",
                                                                      f"{tmp_path}/s", "--open", "--open-to-everyone"])
    refused(FAILED, "192.0.2.1:51820", [*RELAY, "--listen", "192.0.2.1", "--relay", "127.0.0.1:1", "--once"])


def test_C06_ports_in_use_are_named(world, relay):
    r = run(["server", "--listen", f"127.0.0.1:{relay.port}", "--state", f"{world.tmp}/b"])
    assert r.returncode == FAILED and f"127.0.0.1:{relay.port}" in r.stderr and "in use" in r.stderr
    busy = world.socket().getsockname()[1]
    refused(FAILED, f"127.0.0.1:{busy} is in use", ["relay", str(busy), "--peer", "b", "--listen", "--relay", relay.url, "--pin",
                                                    relay.pin, "--token-file", relay.token])


def test_C29_a_second_server_on_one_state_is_refused(world, relay):
    r = run(["server", "--listen", "127.0.0.1:0", "--state", relay.state])
    assert r.returncode == FAILED and relay.state in r.stderr


def openssl(*argv):
    subprocess.run(["openssl", *argv], check=True, capture_output=True)


def make_cert(path, name="r.example", days="10", key=True):
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{path}/new.pem", "-out",
            f"{path}/csr.pem", "-subj", "/CN=relay", "-addext", f"subjectAltName=DNS:{name}")
    openssl("x509", "-req", "-in", f"{path}/csr.pem", "-signkey", f"{path}/new.pem", "-days", days, "-copy_extensions", "copy",
            "-out", f"{path}/cert.pem")
    if key:
        os.replace(f"{path}/new.pem", f"{path}/key.pem")


def test_C17_a_key_that_others_may_read_is_refused(tmp_path):
    make_cert(tmp_path)
    os.chmod(f"{tmp_path}/key.pem", 0o644)
    r = run(["server", "--cert", f"{tmp_path}/cert.pem", "--key", f"{tmp_path}/key.pem", "--state", f"{tmp_path}/s"])
    assert r.returncode == USAGE and "too open (0644): chmod 600" in r.stderr


CERTIFICATES = {
    "C18_key_of_another": (dict(key=False), "does not belong"),
    "C18_another_name": (dict(name="other.example"), "is not for r.example"),
    "C18_expired": (dict(days="-1"), "has expired"),
    "C19_no_certificate": (None, "cannot use the certificate"),
}


@pytest.mark.parametrize("row", CERTIFICATES)
def test_bad_certificates_exit_with_2_and_a_reload_keeps_the_old_one(world, row):
    make_cert(world.tmp)
    argv = ["--cert", f"{world.tmp}/cert.pem", "--key", f"{world.tmp}/key.pem", "--name", "r.example"]
    relay = world.relay(args=argv)
    how, words = CERTIFICATES[row]
    if how:
        make_cert(world.tmp, **how)
    else:
        (world.tmp / "cert.pem").write_text("not a certificate\n")
    assert words in refused_start(world, argv)
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for(f"reload refused.*{words}", after=at)
    assert relay.counters()["reload_failures_total"] == 1
    end = world.end(relay, free_port(), "a", "b", "--listen")  # by the old one's pin
    end.wait_for("connected as a")


def refused_start(world, argv):
    r = run(["server", "--listen", "127.0.0.1:0", "--state", f"{world.tmp}/other", *argv])
    assert r.returncode == USAGE
    return r.stderr


def test_C18_an_expired_certificate_is_served_when_that_is_meant(world):
    make_cert(world.tmp, days="-1")
    relay = world.relay(args=("--cert", f"{world.tmp}/cert.pem", "--key", f"{world.tmp}/key.pem", "--allow-expired"))
    world.end(relay, free_port(), "a", "b", "--listen").wait_for("connected as a")


def test_C19_an_encrypted_key_is_not_asked_for_at_a_terminal(tmp_path):
    """The server has a terminal of its own, which it must leave alone."""
    make_cert(tmp_path)
    openssl("ec", "-in", f"{tmp_path}/key.pem", "-aes128", "-passout", "pass:x", "-out", f"{tmp_path}/locked.pem")
    os.chmod(f"{tmp_path}/locked.pem", 0o600)
    master, slave = os.openpty()
    p = subprocess.Popen([TUNN, "server", "--cert", f"{tmp_path}/cert.pem", "--key", f"{tmp_path}/locked.pem", "--state",
                          f"{tmp_path}/s", "--listen", "127.0.0.1:0"], stdin=slave, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, start_new_session=True,
                         preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0))
    os.close(slave)
    _, err = p.communicate(timeout=60)
    assert p.returncode == USAGE and "has a passphrase" in err
    os.set_blocking(master, False)
    with pytest.raises(OSError):  # nothing was written to it: no data, or closed
        os.read(master, 100)
    os.close(master)


# -- reload

def test_C25_a_broken_config_on_reload_changes_nothing(world):
    path = f"{world.tmp}/server.yaml"
    with open(path, "w") as f:
        f.write("node: n1\nlog-level: info\n")
    relay = world.relay(args=("--config", path))
    end = world.end(relay, free_port(), "a", "b", "--listen")
    end.wait_for("connected as a")
    with open(path, "w") as f:
        f.write("node: n1\nlog-level: loud\n")
    at = relay.count()
    relay.p.send_signal(signal.SIGHUP)
    relay.wait_for("server.yaml:2:12: log-level must be", after=at)
    relay.wait_for("reload refused, the old configuration stays", after=at)
    assert relay.counters()["reload_failures_total"] == 1
    world.end(relay, free_port(), "c", "d", "--listen").wait_for("connected as c")
    assert end.p.poll() is None
    relay.p.terminate()
    assert relay.exit_code() == 0


# -- proxies that work, with a word about them

def test_C23_a_proxy_without_scheme_is_taken_as_http_with_a_warning():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    r = run(["relay", str(free_port()), "--peer", "b", "--relay", "r.example", "--once"], {"https_proxy": f"127.0.0.1:{port}"})
    assert r.returncode == 4 and "http:// is assumed" in r.stderr and f"127.0.0.1:{port}" in r.stderr + r.stdout


def test_C24_a_bad_network_in_no_proxy_is_named_and_ignored():
    env = {"https_proxy": "http://127.0.0.1:1", "no_proxy": " , .corp ,,10.0.0.0/33"}
    r = run(["relay", str(free_port()), "--peer", "b", "--relay", "10.0.0.1", "--once"], env)
    assert r.returncode == 4 and '"10.0.0.0/33" is no network' in r.stderr
    assert "127.0.0.1:1" in r.stderr + r.stdout  # through the proxy


# -- exit codes (product.md section 3), one command each way

def test_exit_0_when_ended_as_asked(world, relay):
    end = world.end(relay, free_port(), "a", "b", "--listen")
    end.wait_for("connected as a")
    for p in (end, relay):
        p.p.send_signal(signal.SIGINT)
        assert p.exit_code() == 0
    for argv in (["account", "add", "acme", "--state", relay.state], ["token", "new", "acme", "--state", relay.state], ["version"],
                 ["version", "--deps"], ["help"], ["help", "relay"], ["--help"], ["--version"]):
        assert run(argv).returncode == 0, argv


def test_exit_1_when_something_fails(world, relay):
    state = ["--state", "/proc/nowhere"]
    for argv in (["server", "--listen", "127.0.0.1:0", *state], ["account", "add", "x", *state], ["token", "new", "x", *state]):
        assert "/proc/nowhere" in refused(FAILED, "tunn ", argv)
    refused(FAILED, "nobody", ["token", "new", "nobody", "--state", relay.state])
    refused(FAILED, "main", ["account", "add", "main", "--state", relay.state])


def test_exit_3_when_refused_for_good(world, relay):
    other = world.relay(name="other")
    for once in ([], ["--once"]):
        end = world.end(relay, free_port(), "a", "b", "--listen", *once, token=other.token)
        assert end.exit_code() == 3
        assert "token" in end.text()


def test_exit_4_only_with_once_and_only_before_the_first_connection(world, relay):
    gone = world.relay(name="gone")
    gone.stop()
    end = world.end(gone, free_port(), "a", "b", "--listen", "--once")
    assert end.exit_code() == 4
    patient = world.end(gone, free_port(), "a", "b", "--listen")
    patient.wait_for("reconnecting|again in|trying")
    assert patient.p.poll() is None
    later = world.end(relay, free_port(), "a", "b", "--listen", "--once")
    later.wait_for("connected as a")
    at = later.count()
    relay.p.kill()
    later.wait_for("reconnecting|again in|trying", after=at)
    assert later.p.poll() is None
