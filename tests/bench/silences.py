"""The longest time without an echo, around faults."""
import signal
import socket
import threading
import time

from bench import BUILD, check, endpoint, free_port

FIGURES = {
    "silence, relay killed and started": ("ms", None, None),
    "silence, relay restarted in order": ("ms", None, None),
    "silence, connection reset": ("ms", None, None),
}


class Gap:
    """Sends every 10 ms and takes the longest time between two echoes."""

    def __init__(self, address):
        self.address, self.longest, self.over = address, 0.0, threading.Event()
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.settimeout(0.01)
        self.last = time.monotonic()
        self.echoes = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            self.s.sendto(b"x" * 100, self.address)
            try:
                self.s.recv(2000)
            except TimeoutError:
                continue
            now = time.monotonic()
            self.longest, self.last, self.echoes = max(self.longest, now - self.last), now, self.echoes + 1
            time.sleep(0.01)

    def wait_echoes(self, n, seconds=30):
        end, want = time.monotonic() + seconds, self.echoes + n
        while self.echoes < want:
            check(time.monotonic() < end, f"no echo within {seconds} s")
            time.sleep(0.01)

    def around(self, what):
        """The longest silence while `what` happens, in ms."""
        self.wait_echoes(10)
        self.longest = 0.0
        what()
        self.wait_echoes(20)
        self.over.set()
        self.thread.join()
        self.s.close()
        return self.longest * 1000


def measure(world, number):
    relay = world.relay()
    box = world.middlebox(relay.port)
    url = f"https://127.0.0.1:{box.port}"
    echo = world.program([f"{BUILD}/support/udpgen", "echo", "127.0.0.1:0"])
    port = int(echo.wait_for(r"port (\d+)").group(1))
    home = world.end(relay, port, "home", "laptop", "--forward")
    laptop = world.end(relay, free_port(), "laptop", "home", "--listen", url=url)
    home.wait_for("laptop is up")
    laptop.wait_for("home is up")
    address = endpoint(laptop)

    def restart(sig):
        nonlocal relay
        relay.p.send_signal(sig)
        relay.exit_code(12)
        relay = world.relay(listen=f"127.0.0.1:{relay.port}")
    return {
        "silence, relay killed and started": (Gap(address).around(lambda: restart(signal.SIGKILL)), None),
        "silence, relay restarted in order": (Gap(address).around(lambda: restart(signal.SIGTERM)), None),
        "silence, connection reset": (Gap(address).around(box.reset_all), None),
    }
