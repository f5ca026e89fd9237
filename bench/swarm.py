"""Swarm benchmark: peers in network namespaces download one content, all with the same rate limit, from each other and from
a seeder with a limit.

usage: swarm.py PROXYTORRENT [--peers N] [--size BYTES] [--limit BYTES_PER_SECOND] [--late N] [--kill]   (as root)
Every fourth peer is aria2, the others are libtorrent. --late N adds N peers at half-time. --kill kills the seeder at
half-time. Prints p50 and p99 of the time to finish, relative to size/limit, and how often the content left the seeder.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/tools"))
from network import WAIT, ip, start, stop  # noqa: E402 (after the path is set)

API, SEEDER, PORT = 8000, 6881, 51413
SERVER, GATEWAY = "10.99.0.1", "169.254.1.1"

PEER = """
import sys, time, libtorrent as lt
torrent, folder, address, port, limit = sys.argv[1:]
session = lt.session({"listen_interfaces": f"{address}:{port}", "enable_dht": False, "enable_lsd": False,
    "enable_upnp": False, "enable_natpmp": False, "in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": 2,
    "enable_outgoing_utp": False, "enable_incoming_utp": False, "allow_multiple_connections_per_ip": True,
    "upload_rate_limit": int(limit), "download_rate_limit": int(limit), "rate_limit_ip_overhead": False,
    "min_reconnect_time": 1, "peer_turnover_interval": 60})
everyone = lt.ip_filter()
everyone.add_rule("0.0.0.0", "255.255.255.255", 1)
session.set_peer_class_filter(everyone)  # libtorrent exempts local networks from the limits
params = lt.add_torrent_params()
params.ti, params.save_path = lt.torrent_info(torrent), folder
handle = session.add_torrent(params)
while not handle.status().is_seeding:
    time.sleep(0.02)  # polling interval
print("done", flush=True)
while True:
    time.sleep(1)  # goes on uploading
"""


class Peer:
    """A client in a namespace of its own, which goes on uploading when it has finished."""

    def __init__(self, swarm, number):
        self.name = f"{swarm.tag}-{number}"
        self.address = f"10.99.{1 + number // 200}.{1 + number % 200}"
        swarm.add_namespace(self.name, self.address)
        folder = self.folder = f"{swarm.folder}/{number}"
        os.makedirs(folder)
        limit = swarm.arguments.limit
        if number % 4 == 3:
            self.kind = "aria2"
            command = ["aria2c", "--dir", folder, "--enable-dht=false", "--bt-require-crypto=true", "--bt-min-crypto-level=arc4",
                       "--seed-ratio=0", "--seed-time=60", "--bt-tracker-interval=30", f"--max-overall-upload-limit={limit}",
                       f"--max-overall-download-limit={limit}", f"--listen-port={PORT}", "--file-allocation=none",
                       f"--on-bt-download-complete={swarm.finished}", "--summary-interval=0", swarm.torrent]
        else:
            self.kind = "libtorrent"
            command = [sys.executable, "-c", PEER, swarm.torrent, folder, self.address, str(PORT), str(limit)]
        self.output = f"{folder}/output"
        self.started, self.seconds = time.monotonic(), None
        start(self.name, folder, command, {"HOME": folder}, "output")

    def poll(self):
        """Whether the peer has the content."""
        if self.seconds is None:
            with open(self.output, "rb") as output:
                text = output.read()
            if b"done" in text or os.path.exists(f"{self.folder}/finished"):
                self.seconds = time.monotonic() - self.started
        return self.seconds is not None


class Swarm:
    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.tag = arguments, folder, f"sw{os.getpid()}"
        self.router, self.namespaces = f"{self.tag}-r", []
        # aria2 calls it with its id, the number of files and the path of the first one.
        self.finished = f"{folder}/finished.sh"
        with open(self.finished, "w") as script:
            script.write('#!/bin/sh\ntouch "$(dirname "$3")/finished"\n')
        os.chmod(self.finished, 0o700)
        # A router and not a bridge: the kernel has room for 1,024 neighbours in all namespaces together, which 32 peers use.
        ip("netns", "add", self.router)
        self.namespaces.append(self.router)
        forward = ["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]
        subprocess.run(["ip", "netns", "exec", self.router, *forward], check=True)

    def add_namespace(self, name, address):
        ip("netns", "add", name)
        self.namespaces.append(name)
        end = f"v{len(self.namespaces)}"
        ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", end, "netns", self.router)
        ip("-n", self.router, "addr", "add", f"{GATEWAY}/32", "dev", end)
        ip("-n", self.router, "link", "set", end, "up")
        ip("-n", self.router, "route", "add", f"{address}/32", "dev", end)
        ip("-n", name, "addr", "add", f"{address}/32", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "route", "add", GATEWAY, "dev", "eth0")
        ip("-n", name, "route", "add", "default", "via", GATEWAY)

    def run(self, *command, environment=None):
        environment = {"PATH": os.environ["PATH"], **(environment or {})}
        command = ["ip", "netns", "exec", f"{self.tag}-s", *command]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    def start_seeder(self):
        """Starts the server, and fetches the content."""
        arguments, name = self.arguments, f"{self.tag}-s"
        self.add_namespace(name, SERVER)
        os.makedirs(f"{self.folder}/www")
        with open(f"{self.folder}/www/file.bin", "wb") as file:
            file.write(os.urandom(arguments.size))
        origin = ["python3", "-m", "http.server", "8080", "--bind", "127.0.0.1", "--directory", f"{self.folder}/www"]
        start(name, self.folder, origin)
        self.server = start(name, self.folder, [arguments.program, "serve"], {
            "HOST": "0.0.0.0", "PORT": str(API), "PUBLIC_URL": f"http://{SERVER}:{API}", "SEEDER__LISTEN": f"{SERVER}:{SEEDER}",
            "STORAGE__BASE_PATH": f"{self.folder}/data", "SECURITY__AUTH_ENABLED": "false", "PROXY__PROXY_ENABLED": "false",
            "FETCHER__ALLOW_NETWORKS": "127.0.0.1/32", "FETCHER__MAX_SIZE": str(arguments.size), "TORRENT__WEBSEED": "false",
            "TORRENT__UPLOAD_RATE_LIMIT": str(arguments.seeder), "MONITORING__ACCESS_LOG": "false"})
        for url in ["http://127.0.0.1:8080/", f"http://{SERVER}:{API}/v1/health"]:
            self.run(*WAIT, url)
        client = {"CLIENT__SERVER": f"http://{SERVER}:{API}"}
        self.run(arguments.program, "get", "http://127.0.0.1:8080/file.bin", "-o", self.folder, environment=client)
        self.torrent = f"{self.folder}/file.bin.torrent"

    def sent(self):
        """Returns how many bytes of the content left the seeder."""
        metrics = self.run("curl", "-s", f"http://{SERVER}:{API}/metrics")
        return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("proxytorrent_uploaded_bytes_total "))


def percentile(figures, share):
    figures = sorted(figures)
    return figures[min(len(figures) - 1, int(len(figures) * share))]


def measure(swarm):
    arguments = swarm.arguments
    swarm.start_seeder()
    limit = arguments.size / arguments.limit
    peers = [Peer(swarm, number) for number in range(arguments.peers)]
    half = time.monotonic() + limit / 2
    late, is_killed, last = [], False, 0.0
    deadline = time.monotonic() + 20 * limit + 120
    while not all([peer.poll() for peer in peers + late]) or (arguments.late and not late):
        if time.monotonic() >= half:
            if arguments.late and not late:
                late = [Peer(swarm, arguments.peers + number) for number in range(arguments.late)]
            if arguments.kill and not is_killed:
                last, is_killed = swarm.sent(), True
                swarm.server.send_signal(signal.SIGKILL)
        if time.monotonic() > deadline:
            unfinished = [f"{peer.kind} {peer.address}" for peer in peers + late if peer.seconds is None]
            sys.exit(f"{len(unfinished)} peers did not finish: {unfinished[:10]}")
        time.sleep(0.05)  # polling interval
    if not is_killed:
        # The seeder reads its counter every five seconds.
        time.sleep(6)
        last = swarm.sent()
    what = f"{arguments.peers} peers" + (f", {arguments.late} late" if late else "") + (", seeder killed" if is_killed else "")
    for name, group in [("", peers), (", the late ones", late)]:
        if group:
            times = [peer.seconds / limit for peer in group]
            p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
            print(f"swarm of {what}{name}: p50 {p50:.2f} and p99 {p99:.2f} of size/limit ({limit:.0f} s), p99/p50 {p99 / p50:.2f}")
    print(f"swarm of {what}: the seeder sent {last / arguments.size:.2f} times the content")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--peers", type=int, default=20)
    parser.add_argument("--size", type=int, default=20_000_000)
    parser.add_argument("--limit", type=int, default=1_000_000, help="bytes a second, of each peer in each direction")
    parser.add_argument("--seeder", type=int, default=2_000_000, help="bytes a second that the seeder sends")
    parser.add_argument("--late", type=int, default=0)
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    arguments.program = os.path.abspath(arguments.program)
    folder = tempfile.mkdtemp()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    swarm = Swarm(arguments, folder)
    try:
        measure(swarm)
    finally:
        stop(swarm.namespaces)
        shutil.rmtree(folder, ignore_errors=True)


main()
