"""Runs common BitTorrent clients with their default settings against the server, across a network of two namespaces.
Measures the time of each from its start to the complete file.

usage (as root):
default_clients.py PROXYTORRENT FOLDER [CLIENT …] [--by SOURCE …] [--size BYTES] [--deadline SECONDS]

Without clients: all. The server has its default settings for torrents and peers, and those in the environment.
The source is a torrent or a magnet; hybrid, a torrent of v1 and v2; or webseed, a torrent without a tracker, which
needs TORRENT__WEBSEED=true.
Prints one JSON object per line: {"client": …, "version": …, "by": …, "seconds": …}. `seconds` is null if the client
did not complete the download before the deadline.
"""

import argparse
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import libtorrent as lt

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("program")
arguments.add_argument("folder")
arguments.add_argument("clients", nargs="*")
sources = ["torrent", "magnet", "hybrid", "webseed"]
arguments.add_argument("--by", nargs="+", choices=sources, default=sources[:2])
arguments.add_argument("--size", type=int, default=1_000_000)
# Less than a minute: a client whose plaintext connection is refused retries after a minute. That is too late.
arguments.add_argument("--deadline", type=float, default=45)
arguments = arguments.parse_args()
folder = arguments.folder
PART = 1 << 20
RQBIT = os.path.join(os.path.dirname(__file__), "../../.tools/cargo/bin/rqbit")
tag = f"dc{os.getpid()}"
server_ns, client_ns = f"{tag}-s", f"{tag}-c"
processes = []


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def start(namespace, command, log, environment=None, terminal=False):
    output = open(os.path.join(folder, log), "ab")
    command = ["ip", "netns", "exec", namespace, *command]
    environment = {"PATH": os.environ["PATH"], "HOME": folder, "TERM": "xterm", "LANG": "C.UTF-8", **(environment or {})}
    stdin = subprocess.DEVNULL
    if terminal:
        master, stdin = pty.openpty()
        process = subprocess.Popen(
            command, stdin=stdin, stdout=stdin, stderr=stdin, env=environment, cwd=folder, start_new_session=True)
        process.master = master
    else:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=output, stderr=output, env=environment, cwd=folder, start_new_session=True)
    processes.append(process)
    return process


def stop(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def ask(path, body=None):
    """Calls the server from inside its namespace. Returns the response body."""
    command = ["ip", "netns", "exec", server_ns, "curl", "-sf", "--retry", "50", "--retry-connrefused",
               "--retry-delay", "0", "--retry-max-time", "30", f"http://198.18.0.1:8000{path}"]
    if body is not None:
        command += ["-H", "content-type: application/json", "-d", json.dumps(body)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def write(path, text):
    path = os.path.join(folder, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def qbittorrent(source, down, home):
    write(f"{home}/qBittorrent/config/qBittorrent.conf",
          "[LegalNotice]\nAccepted=true\n[Preferences]\nWebUI\\Port=18080\n")
    return ["qbittorrent-nox", f"--profile={home}", f"--save-path={down}", source], False


def deluge(source, down, home):
    os.makedirs(os.path.join(folder, home))
    script = (f"deluged -c {home} -L error; "
              f"for n in $(seq 50); do deluge-console -c {home} \"add -p '{down}' '{source}'\" && break; sleep 0.2; done; "
              "exec sleep 3600")
    return ["sh", "-c", script], False


def transmission(source, down, home):
    return ["transmission-cli", "--config-dir", home, "--download-dir", down, source], False


def aria2(source, down, home):
    return ["aria2c", "--no-conf", "-d", down, source], False


def libtorrent(source, down, home, python=sys.executable):
    script = os.path.join(os.path.dirname(__file__), "default_libtorrent.py")
    return [python, script, source, down], False


def libtorrent_2_0(source, down, home):
    """Debian's package, which deluged depends on."""
    return libtorrent(source, down, home, python="/usr/bin/python3")


def rtorrent(source, down, home):
    os.makedirs(os.path.join(folder, home))
    return ["rtorrent", "-n", "-o", f"directory.default.set={down}", "-o", f"session.path.set={home}",
            source], True


def rqbit(source, down, home):
    return [RQBIT, "download", "--output-folder", down, source], False


# The clients with the Debian package that has each; None for others.
CLIENTS = {qbittorrent: "qbittorrent-nox", deluge: "deluged", transmission: "transmission-cli", aria2: "aria2",
           libtorrent: None, libtorrent_2_0: "libtorrent-rasterbar2.0", rtorrent: "rtorrent", rqbit: None}


def version(client):
    """Returns the version of a client, without the epoch and the revision of Debian."""
    if client is libtorrent:
        return lt.version.rsplit(".", 1)[0]
    command = [RQBIT, "--version"] if client is rqbit else ["dpkg-query", "-W", "-f=${Version}", CLIENTS[client]]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    return text.split(":")[-1].rsplit("-", 1)[0]


def measure(client, by):
    name = f"{client.__name__}-{by}"
    file = f"{name}.bin"
    original = os.path.join(folder, "www", file)
    with open(original, "wb") as content:
        for start_of_part in range(0, arguments.size, PART):
            content.write(os.urandom(min(PART, arguments.size - start_of_part)))
    body = {"url": f"http://127.0.0.1:8080/{file}", "format": "hybrid" if by == "hybrid" else "v1"}
    request = json.loads(ask("/v1/requests", body))["id"]
    while json.loads(ask(f"/v1/requests/{request}?wait=25"))["status"] not in ("ready", "failed"):
        pass
    if by != "magnet":
        source = os.path.join(folder, f"{name}.torrent")
        metainfo = ask(f"/v1/requests/{request}/torrent")
        if by == "webseed":
            entries = lt.bdecode(metainfo)
            metainfo = lt.bencode({name: entry for name, entry in entries.items() if not name.startswith(b"announce")})
        with open(source, "wb") as torrent:
            torrent.write(metainfo)
    else:
        source = json.loads(ask(f"/v1/requests/{request}/magnet"))["magnet_link"]
    down = os.path.join(folder, f"{name}-down")
    os.makedirs(down)
    command, terminal = client(source, down, f"{folder}/{name}-home")
    started = time.monotonic()
    process = start(client_ns, command, f"{name}.log", terminal=terminal)
    seconds = None
    while time.monotonic() - started < arguments.deadline:
        if terminal:
            drain(process.master)
        has_ended = process.poll() is not None
        if is_complete(os.path.join(down, file), original):
            seconds = round(time.monotonic() - started, 1)
            break
        if has_ended:
            break
        time.sleep(0.05 + arguments.size / 1e9)  # polling interval: it reads the file
    stop(process)
    os.remove(original)
    shutil.rmtree(down)
    subprocess.run(["pkill", "-KILL", "-f", f"{folder}/{name}-home"], check=False)
    result = {"client": client.__name__, "version": version(client), "by": by, "seconds": seconds}
    print(json.dumps(result), flush=True)


def drain(master):
    os.set_blocking(master, False)
    try:
        os.read(master, 65536)
    except (BlockingIOError, OSError):
        pass


def is_complete(path, original):
    try:
        with open(path, "rb") as file, open(original, "rb") as expected:
            while part := expected.read(PART):
                if file.read(PART) != part:
                    return False
            return not file.read(1)
    except OSError:
        return False


# The namespaces are deleted at the end of a test that is stopped, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
try:
    ip("netns", "add", server_ns)
    ip("netns", "add", client_ns)
    ip("link", "add", f"{tag}-0", "netns", server_ns, "type", "veth", "peer", "name", f"{tag}-1", "netns", client_ns)
    ip("-n", server_ns, "addr", "add", "198.18.0.1/24", "dev", f"{tag}-0")
    ip("-n", client_ns, "addr", "add", "198.18.0.2/24", "dev", f"{tag}-1")
    for namespace, device in [(server_ns, "lo"), (server_ns, f"{tag}-0"), (client_ns, "lo"), (client_ns, f"{tag}-1")]:
        ip("-n", namespace, "link", "set", device, "up")
    os.makedirs(os.path.join(folder, "www"))
    start(server_ns, ["python3", "-m", "http.server", "8080", "--bind", "127.0.0.1", "--directory", f"{folder}/www"],
          "origin.log")
    start(server_ns, [arguments.program, "serve"], "server.log", {
        "HOST": "198.18.0.1", "PORT": "8000", "SEEDER__LISTEN": "198.18.0.1:6881",
        "STORAGE__BASE_PATH": f"{folder}/data", "SECURITY__AUTH_ENABLED": "false", "PROXY__PROXY_ENABLED": "false",
        "FETCHER__ALLOW_NETWORKS": "127.0.0.1/32", "RATE_LIMIT__RATE_LIMIT_ENABLED": "false",
        "FETCHER__MAX_SIZE": str(arguments.size),
        "TORRENT__WEBSEED": "false", **{k: v for k, v in os.environ.items() if "__" in k}})
    ask("/v1/health")
    for client in CLIENTS:
        if not arguments.clients or client.__name__ in arguments.clients:
            for by in arguments.by:
                measure(client, by)
finally:
    for process in processes:
        stop(process)
    for namespace in (server_ns, client_ns):
        for pid in subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
