"""What an idle tunnel holds in memory."""
import resource
import socket
import ssl

import h2.config
import h2.connection
import h2.events
from bench import BUILD, check, resident_kb

IDLE_TUNNELS = 500
FIGURES = {"resident memory per idle tunnel": ("kB", "bare OpenSSL connection", None)}


def field(number, value):
    head = bytes([number << 3 | 2])
    return head + (bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 127 | 128, len(value) >> 7])) + value


def register(context, port, token, n):
    """An end that is registered and then says nothing."""
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    conn.initiate_connection()
    conn.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "x"),
                          (":path", "/tunn.v1.TunnelService/EstablishTunnel"), ("content-type", "application/grpc"),
                          ("te", "trailers")])
    message = field(1, field(1, f"idle-{n}".encode()) + field(3, token.encode()) + field(9, field(1, b"nobody")) + b"\x50\x01")
    conn.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message)
    s.sendall(conn.data_to_send())
    got = b""
    while len(got) < 6:
        events = conn.receive_data(s.recv(65536))
        check(not any(isinstance(e, h2.events.TrailersReceived) for e in events), f"registration refused: {events}")
        got += b"".join(e.data for e in events if isinstance(e, h2.events.DataReceived))
        s.sendall(conn.data_to_send())
    check(got[5] == 0x12, f"not a register_response: {got[:16]}")
    return s


def client_context(alpn):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT")
    if alpn:
        context.set_alpn_protocols(["h2"])
    return context


def growth_kb(program, connect):
    """Resident memory that each of IDLE_TUNNELS connections costs, the first ones not counted."""
    warm = [connect(i) for i in range(20)]
    before = resident_kb(program.p.pid)
    held = [connect(20 + i) for i in range(IDLE_TUNNELS)]
    grown = resident_kb(program.p.pid) - before
    for s in warm + held:
        s.close()
    return grown / IDLE_TUNNELS


def measure(world, number):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    relay = world.relay()
    with open(relay.token) as f:
        token = f.read().strip()
    context = client_context("h2")
    tunnel = growth_kb(relay, lambda i: register(context, relay.port, token, i))
    check(relay.counters()["registrations_total"] == IDLE_TUNNELS + 20, "not all ends registered")
    bare = world.program([f"{BUILD}/bench/bare_tls", f"{relay.state}/tls-cert.pem", f"{relay.state}/tls-key.pem"])
    port, plain = int(bare.wait_for(r"port (\d+)").group(1)), client_context(None)

    def connect(i):
        s = plain.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        bare.wait_for(f"ready {i + 1}$", after=i)
        return s
    return {"resident memory per idle tunnel": (tunnel, growth_kb(bare, connect))}
