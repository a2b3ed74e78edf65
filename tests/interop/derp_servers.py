"""DERP servers under test: the real derper, and ours. Each has an address of loopback of its own, so that ports are its own."""
import hashlib
import itertools
import json
import os
import random
import socket
import ssl
import subprocess
import time

from harness import BUILD, ROOT, TUNN, World

PROGRAMS = f"{ROOT}/build/interop"
MESH = "6d657368" * 8
PORT, HTTP, STUN = 3443, 3080, 3478

_hosts = (f"127.{random.randint(64, 254)}.{random.randint(0, 254)}.{n}" for n in itertools.count(1))


def can_mesh():
    """Whether this build of tunn joins a mesh of its own accord."""
    return "--mesh-with" in subprocess.run([TUNN, "server", "--help"], capture_output=True, text=True, check=False).stdout


def name_of(host):
    """Its name in certificates; nothing resolves it."""
    return f"{host.replace('.', '-')}.test"


def write(path, text):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write(text)


class Authority:
    """A private CA that programs trust through SSL_CERT_FILE."""

    def __init__(self, folder):
        self.folder, self.ca = str(folder), f"{folder}/ca.pem"
        self._make("ca", "/CN=interop CA", "basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign")
        self.env = {**os.environ, "SSL_CERT_FILE": self.ca}

    def _make(self, name, subject, *extensions, signed=()):
        added = [w for e in extensions for w in ("-addext", e)]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90", "-subj",
                        subject, "-keyout", f"{self.folder}/{name}.key", "-out", f"{self.folder}/{name}.pem", *added, *signed],
                       check=True, capture_output=True)

    def leaf(self, host):
        """Its certificate and key, and the pin."""
        self._make(host, f"/CN={host}", f"subjectAltName=IP:{host},DNS:{name_of(host)}", "basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth",
                   signed=("-CA", self.ca, "-CAkey", f"{self.folder}/ca.key"))
        pem = f"{self.folder}/{host}.pem"
        with open(pem, encoding="ascii") as f:
            return pem, f"{self.folder}/{host}.key", hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


class Server:
    """One server at work; `describe` writes what derpcheck must know of it."""
    PORT = PORT

    @staticmethod
    def new_host():
        return next(_hosts)

    def __init__(self, kind, world, authority, *, host=None, mesh_with=(), mesh_text=MESH + "\n", key_file=None, own_certificate=False,
                 again=None,
                 admission=None, workers=None, ns=None, wait=True):
        self.kind, self.world, self.authority = kind, world, authority
        self.host = again.host if again else host or next(_hosts)
        self.folder, self.state = f"{world.tmp}/{self.host}", f"{world.tmp}/{self.host}/state"
        self.mesh = f"{self.folder}/mesh"
        self.own, self.mesh_with, self.admission = own_certificate, mesh_with, admission
        self.workers, self.ns = workers, ns
        if again:
            self.cert, self.key, self.pin = again.cert, again.key, again.pin
        else:
            self.cert, self.key, self.pin = authority.leaf(self.host)
            os.makedirs(self.state, mode=0o700)
            write(self.mesh, mesh_text)
            if key_file:
                write(f"{self.state}/derp.key", key_file)
        self.program = getattr(self, f"_{kind}")()
        if wait:
            self._await()

    def _derper(self):
        certs = f"{self.folder}/certs"
        os.makedirs(certs, exist_ok=True)
        for name, path in {} if self.own else {"crt": self.cert, "key": self.key}.items():
            if not os.path.exists(f"{certs}/{self.host}.{name}"):
                os.symlink(path, f"{certs}/{self.host}.{name}")
        words = [f"--mesh-with={','.join(self.mesh_with)}"] if self.mesh_with else []
        return self.world.program([f"{PROGRAMS}/derper", "-a", f"{self.host}:{PORT}", "-certmode", "manual", "-certdir", certs, "-hostname",
                                   self.host, "-http-port", str(HTTP), "-stun-port", str(STUN), "-c", f"{self.state}/derp.key",
                                   "-mesh-psk-file", self.mesh, *(self.admission or []), *words], env=self.authority.env, ns=self.ns)

    def _tunn(self):
        words = [w for m in self.mesh_with for w in ("--mesh-with", m)] + ([] if self.own else ["--cert", self.cert, "--key", self.key])
        words += ["--workers", str(self.workers)] if self.workers else []
        return self.world.program([TUNN, "server", "--listen", f"{self.host}:{PORT}", "--state", self.state, "--mesh-key-file", self.mesh,
                                   "--stun", f"{self.host}:{STUN}", *(self.admission or ["--derp.allow", "any"]), *words], env=self.authority.env, ns=self.ns)

    def _await(self):
        if self.ns:  # its clients retry
            self.program.wait_for("listening on|serving on")
            return
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((self.host, PORT)).close()
                break
            except ConnectionRefusedError:
                assert self.program.p.poll() is None and time.monotonic() < end, self.program.text()
                time.sleep(0.02)  # it says that it will listen before it does
        if self.own:
            self.pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((self.host, PORT)))).hexdigest()
        if self.own and self.kind == "tunn":  # it prints what a map needs
            node = json.loads(self.program.wait_for("node for a DERP map: (.*)").group(1))
            assert (node["HostName"], node["DERPPort"], node["CertName"]) == (self.host, PORT, f"sha256-raw:{self.pin}")

    @property
    def at(self):
        return f"{self.host}:{PORT}"

    def describe(self):
        path = f"{self.folder}/server.json"
        with open(path, "w", encoding="ascii") as f:
            json.dump({"Kind": self.kind, "Host": self.host, "Port": PORT, "STUN": STUN, "HTTP": HTTP if self.kind == "derper" else 0,
                       "Pin": self.pin, "Mesh": MESH}, f)
        return path

    def node(self, name, host=None):
        """Its entry in a DERP map."""
        return {"Name": name, "RegionID": 900, "HostName": host or name_of(self.host), "IPv4": self.host, "DERPPort": PORT, "STUNPort": STUN}


def check(case, server, other=None, seconds=60, env=None):
    """Runs one case of derpcheck and gives what it noted."""
    words = ["-server", server.describe()] + (["-other", other.describe()] if other else [])
    run = subprocess.run([f"{PROGRAMS}/derpcheck", *words, case], capture_output=True, text=True, timeout=seconds, check=False,
                         env=env or server.authority.env)
    assert run.stdout.startswith("{"), run.stdout + run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    print(case, said["ms"], "ms", said["notes"])
    assert said["ok"], f"{server.kind}: {case}: {said['said']}\n{said['notes']}\n{run.stderr[-3000:]}"
    return said["notes"]


__all__ = ["BUILD", "MESH", "PORT", "PROGRAMS", "STUN", "Authority", "Server", "World", "can_mesh", "check"]
