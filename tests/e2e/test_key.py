"""`tunn key`: every form into every other, what is refused, and where a secret goes."""
import base64
import itertools
import os
import pty
import re
import signal
import stat
import subprocess
import termios

import pytest
from harness import TUNN

USAGE, FAILED = 2, 1
SECRET = bytes.fromhex("a046e5f2c18d7b6e3f2a1908f7d6c5b4132435465768798a9bacbdcedff0016d")[:31] + b"\x6d"  # of nobody
SECRETS = {
    "privkey": f"privkey:{SECRET.hex()}\n".encode(),
    "json": f'{{\n\t"PrivateKey": "privkey:{SECRET.hex()}"\n}}\n'.encode(),
    "hex": f"{SECRET.hex()}\n".encode(),
    "wireguard": base64.b64encode(SECRET) + b"\n",
    "raw": SECRET,
}
PUBLIC = bytes.fromhex("358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254")
PUBLICS = {
    "nodekey": f"nodekey:{PUBLIC.hex()}\n".encode(),
    "np": b"np" + PUBLIC,
    "hex": f"{PUBLIC.hex()}\n".encode(),
    "wireguard": base64.b64encode(PUBLIC) + b"\n",
    "raw": PUBLIC,
}


def run(*argv, stdin=b"", **how):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TUNN_")}
    return subprocess.run([TUNN, "key", *argv], input=stdin, capture_output=True, check=False, timeout=60, env=clean, **how)


def told(*argv, stdin=b""):
    r = run(*argv, stdin=stdin)
    assert (r.returncode, r.stderr) == (0, b""), r.stderr
    return r.stdout


def refused(code, words, *argv, stdin=b"", **how):
    r = run(*argv, stdin=stdin, **how)
    assert (r.returncode, r.stdout) == (code, b""), r
    said = r.stderr.decode()
    assert words in said and said.startswith("tunn key"), said
    assert "sesame" not in said and SECRET.hex()[:8] not in said
    return said


def private(path, content):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(content)
    return str(path)


@pytest.mark.parametrize("source,to", itertools.product(SECRETS, SECRETS))
def test_a_secret_key_goes_from_every_form_into_every_other(source, to):
    assert told("convert", "--to", to, stdin=SECRETS[source]) == SECRETS[to]


@pytest.mark.parametrize("source,to", itertools.product(PUBLICS, PUBLICS))
def test_a_public_key_goes_from_every_form_into_every_other(source, to):
    assert told("convert", "--to", to, stdin=PUBLICS[source]) == PUBLICS[to]


@pytest.mark.parametrize("source,to", itertools.product(["privkey", "json"], ["nodekey", "np"]))
def test_a_secret_key_is_never_written_as_a_public_one(source, to):
    refused(USAGE, "tunn key pub", "convert", "--to", to, stdin=SECRETS[source])


@pytest.mark.parametrize("source,to", itertools.product(["nodekey", "np"], ["privkey", "json"]))
def test_nor_a_public_key_as_a_secret_one(source, to):
    refused(USAGE, "a public key, but the secret one is needed", "convert", "--to", to, stdin=PUBLICS[source])


def test_the_public_key_of_a_secret_one_has_every_form(tmp_path):
    secret = bytes.fromhex("202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e7f")
    path = private(tmp_path / "k", b"privkey:" + secret.hex().encode())
    assert told("pub", "--key-file", path) == PUBLICS["nodekey"]
    for form, text in PUBLICS.items():
        assert told("pub", "--key-file", path, "--format", form) == text
        assert told("pub", f"--format={form}", stdin=secret) == text


@pytest.mark.parametrize("form", SECRETS)
def test_new_keys_differ_and_are_read_again(form):
    keys = [told("new", "--format", form) for _ in range(3)]
    assert len(set(keys)) == 3
    for key in keys:
        raw = told("convert", "--to", "raw", stdin=key)
        assert raw[0] & 7 == 0 and raw[31] & 0xC0 == 0x40
        assert re.fullmatch(rb"nodekey:[0-9a-f]{64}\n", told("pub", stdin=key))


def test_wireguard_makes_the_same_public_key():
    secret = told("new", "--format", "wireguard")
    theirs = subprocess.run(["wg", "pubkey"], input=secret, capture_output=True, check=True).stdout
    assert told("pub", "--format", "wireguard", stdin=secret) == theirs
    secret = subprocess.run(["wg", "genkey"], capture_output=True, check=True).stdout
    theirs = subprocess.run(["wg", "pubkey"], input=secret, capture_output=True, check=True).stdout
    assert told("pub", "--format", "wireguard", stdin=secret) == theirs


def test_a_new_key_file_is_private_and_never_replaced(tmp_path):
    os.umask(0)
    path = tmp_path / "k"
    r = run("new", "--out", str(path), "--format", "json")
    assert (r.returncode, r.stdout) == (0, b"")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    assert re.search(rb"its public key: (nodekey:\w+\n)", r.stderr)[1] == told("pub", "--key-file", str(path))
    refused(FAILED, "exists and is not replaced", "new", "--out", str(path))
    refused(FAILED, "exists and is not replaced", "convert", "--to", "hex", "--out", str(path), stdin=SECRETS["hex"])
    assert path.read_bytes() == content and os.listdir(tmp_path) == ["k"]
    refused(FAILED, "No such file or directory", "new", "--out", f"{tmp_path}/none/k")


def test_a_converted_secret_goes_to_a_private_file(tmp_path):
    assert told("convert", "--to", "json", "--out", f"{tmp_path}/derp.key", stdin=SECRETS["wireguard"]) == b""
    assert (tmp_path / "derp.key").read_bytes() == SECRETS["json"]
    assert stat.S_IMODE((tmp_path / "derp.key").stat().st_mode) == 0o600


def test_a_secret_file_that_others_may_read_is_refused(tmp_path):
    path = private(tmp_path / "k", SECRETS["wireguard"])
    os.chmod(path, 0o644)
    for argv in (["pub"], ["convert", "--to", "privkey"], ["convert", "--to", "hex"]):
        refused(USAGE, "chmod 600", *argv, "--key-file", path)
    private(path, PUBLICS["wireguard"])
    assert told("convert", "--to", "nodekey", "--key-file", path) == PUBLICS["nodekey"]


INPUTS = {
    "nothing": (b"", "standard input: it is empty"),
    "too_short": (b"privkey:sesame", "here are 6 characters"),
    "a_passphrase": (b"sesame, sesame, sesame, sesame.\n", "no key"),
    "32_letters": (b"sesame, sesame, sesame, sesame..", "no key"),
    "31_bytes": (SECRET[:31], "31 bytes that are neither text nor a key"),
    "33_bytes": (SECRET + b"\n", "33 bytes that are neither"),
    "a_public_key": (PUBLICS["nodekey"], "a public key"),
    "bytes_of_a_public_key": (PUBLICS["np"], "a public key"),
    "a_disco_key": (b"discokey:" + SECRET.hex().encode(), "disco"),
    "a_token": (b"tunn_sesame", "a token"),
    "pem": (b"-----BEGIN PRIVATE KEY-----\nsesame\n", "PEM"),
    "a_wireguard_config": (b"[Interface]\nPrivateKey = sesame\n", "WireGuard config"),
    "json_without_the_key": (b'{"PublicKey":"sesame"}', 'without the text "PrivateKey"'),
    "broken_json": (b'{"PrivateKey":\n"privkey:sesame', "line 2"),
    "zeros": (bytes(32), "all zeros"),
    "far_too_much": (b" " * 5000, "far too long"),
}


@pytest.mark.parametrize("row", INPUTS)
def test_what_is_no_secret_key_exits_with_2(row, tmp_path):
    content, words = INPUTS[row]
    refused(USAGE, words, "pub", stdin=content)
    refused(USAGE, words.replace("standard input", f"{tmp_path}/k"), "pub", "--key-file", private(tmp_path / "k", content))
    refused(USAGE, words, "convert", "--to", "json", stdin=content)


def test_a_public_key_with_bit_255_is_refused():
    for form, text in PUBLICS.items():
        high = {"wireguard": base64.b64encode(PUBLIC[:31] + b"\xd4"), "raw": PUBLIC[:31] + b"\xd4", "np": b"np" + PUBLIC[:31] + b"\xd4"}
        refused(USAGE, "bit 255", "convert", "--to", "nodekey", stdin=high.get(form, text.replace(b"54\n", b"d4\n")))


LINES = {
    "no_verb": ([], "usage: tunn key new|pub|convert|id"),
    "unknown_verb": (["make"], "usage: tunn key new|pub|convert|id"),
    "new_takes_no_word": (["new", "sesame"], "takes no words"),
    "a_key_as_a_word": (["pub", base64.b64encode(SECRET).decode()], "seen by everybody"),
    "a_privkey_as_a_word": (["pub", "privkey:" + SECRET.hex()], "seen by everybody"),
    "a_key_as_an_option": (["pub", "--key", "sesame"], "use --key-file FILE"),
    "a_privkey_as_a_file": (["pub", "--key-file", "privkey:sesame" + SECRET.hex()], "takes the name of a file"),
    "a_key_as_a_file": (["pub", "--key-file", base64.b64encode(SECRET).decode()], "takes the name of a file"),
    "a_privkey_as_a_form": (["new", "--format", "privkey:sesame"], "not shown"),
    "unknown_form": (["new", "--format", "pem"], "--format must be privkey, json"),
    "form_of_a_public_key": (["new", "--format", "nodekey"], "--format of a secret key must be privkey"),
    "form_of_a_secret_key": (["pub", "--format", "json"], "--format of a public key must be nodekey"),
    "convert_into_nothing": (["convert"], "convert needs --to FORM"),
    "option_of_another_verb": (["new", "--to", "hex"], "unknown option"),
    "no_such_file": (["pub", "--key-file", "/none/such"], "/none/such: No such file"),
    "a_directory": (["pub", "--key-file", "/"], "not a regular file"),
    "id_without_a_name": (["id"], "usage: tunn key id ACCOUNT/ID"),
    "id_of_two": (["id", "a/b", "c/d"], "usage: tunn key id ACCOUNT/ID"),
    "id_without_an_account": (["id", "home-wg"], "no ACCOUNT/ID"),
    "id_out_of_its_grammar": (["id", "main/Home"], "no ACCOUNT/ID"),
    "id_of_a_node_key": (["id", PUBLICS["nodekey"].decode().strip()], "no ACCOUNT/ID"),
}


@pytest.mark.parametrize("row", LINES)
def test_bad_command_lines_exit_with_2(row):
    argv, words = LINES[row]
    refused(USAGE, words, *argv)


def test_the_key_of_a_named_tunnel_is_the_vector_of_the_protocol():
    with open(os.path.join(os.path.dirname(__file__), "../../docs/PROTOCOL.md"), encoding="utf-8") as f:
        account, name, vector = re.search(r"account `(\S+)`, id `(\S+)`:\s+([0-9a-f]{64})", f.read()).groups()
    assert told("id", f"{account}/{name}") == vector.encode() + b"\n"


@pytest.mark.parametrize("argv", [["new", "--format", "raw"], ["pub", "--format", "np"], ["convert", "--to", "raw"]])
def test_bytes_are_not_written_to_a_terminal(argv):
    ours, theirs = pty.openpty()
    r = subprocess.run([TUNN, "key", *argv], input=SECRETS["hex"], stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(theirs)
    os.set_blocking(ours, False)
    with pytest.raises(OSError):  # nothing came, and nobody is there any more
        os.read(ours, 100)
    os.close(ours)
    assert r.returncode == USAGE and b"not written to a terminal" in r.stderr


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_shows_what_is_typed_after_a_question_was_broken_off(signo):
    ours, theirs = pty.openpty()
    p = subprocess.Popen([TUNN, "key", "pub"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         preexec_fn=lambda: signal.signal(signo, signal.SIG_DFL))  # a shell that starts us behind it ignores SIGINT
    assert p.stderr.read(5) == b"key: "
    assert not termios.tcgetattr(theirs)[3] & termios.ECHO
    p.send_signal(signo)
    p.communicate(timeout=60)
    assert p.returncode == -signo
    assert termios.tcgetattr(theirs)[3] & termios.ECHO
    os.close(theirs)
    os.close(ours)


def test_a_secret_typed_at_a_terminal_is_not_shown():
    ours, theirs = pty.openpty()
    p = subprocess.Popen([TUNN, "key", "pub"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stderr.read(5) == b"key: "
    os.write(ours, SECRETS["wireguard"])
    out, _ = p.communicate(timeout=60)
    os.close(theirs)
    shown = b""
    os.set_blocking(ours, False)
    try:
        while chunk := os.read(ours, 100):
            shown += chunk
    except OSError:
        pass
    os.close(ours)
    assert p.returncode == 0 and out == told("pub", stdin=SECRETS["raw"])
    assert shown.strip() == b""


def test_a_full_disk_is_a_failure():
    with open("/dev/full", "wb") as full:
        for argv in (["new"], ["id", "a/b"]):
            r = subprocess.run([TUNN, "key", *argv], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
            assert r.returncode == FAILED and b"standard output cannot be written" in r.stderr


def test_help_tells_the_verbs_and_each_its_options():
    overview = told("--help").decode()
    for verb in ("new", "pub", "convert", "id"):
        assert f"tunn key {verb}" in overview
        assert f"usage: tunn key {verb}" in told(verb, "--help").decode()
