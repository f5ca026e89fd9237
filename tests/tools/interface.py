"""Runs the server bound to a network interface (SEEDER__INTERFACE) that goes down, beside another one that has a route to
the same hosts, and captures what leaves through the other one.

usage: interface.py PROXYTORRENT FOLDER   (as root)
Prints "bound" if nothing but responses of the API left through the other interface, and everything works again when the
interface is back.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
import urllib.parse

from network import LEECHER, WAIT, capture, ip, start, stop

program, folder = sys.argv[1:]
API, SEEDER, LISTEN, SIZE = 8000, 6881, 51413, 3_000_000
# The server at both of its interfaces, the other ends, and what both ends have: an origin and a name server.
TUNNEL, TUNNEL_END, OTHER, OTHER_END = "198.18.1.1", "198.18.1.2", "198.18.2.1", "198.18.2.2"
ORIGIN, NAME_SERVER = "192.0.2.80", "192.0.2.53"
tag = f"if{os.getpid()}"
server_ns, tunnel_ns, other_ns = f"{tag}-s", f"{tag}-t", f"{tag}-o"
resolver = f"/etc/netns/{server_ns}"

# Answers every question for an IPv4 address with that of the origin, and every other one with nothing.
DNS = f"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("{NAME_SERVER}", 53))
while True:
    query, client = server.recvfrom(4096)
    end = query.index(0, 12) + 5
    is_ipv4 = query[end - 4:end - 2] == b"\\0\\1"
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4" + socket.inet_aton("{ORIGIN}") if is_ipv4 else b""
    head = query[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if is_ipv4 else b"\\0\\0") + b"\\0\\0\\0\\0"
    server.sendto(head + query[12:end] + answer, client)
"""


def run(namespace, *command, **options):
    command = ["ip", "netns", "exec", namespace, *command]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, **options)


def leaks(frames):
    """Returns what is neither sent by the kernel itself (ARP, ICMPv6, MLD) nor a response of the API."""
    found = []
    for frame in frames:
        kind = struct.unpack("!H", frame[12:14])[0]
        if kind == 0x0806 or kind == 0x86DD and frame[20] in (0, 58):
            continue
        header = (frame[14] & 15) * 4
        source = struct.unpack("!H", frame[14 + header :][:2])[0]
        if not (kind == 0x0800 and frame[23] == 6 and source == API):
            found.append(frame[:80].hex())
    return found


def link(state):
    ip("-n", server_ns, "link", "set", "tun0", state)
    if state == "up":
        # The kernel removes routes with their interface.
        ip("-n", server_ns, "route", "add", "default", "via", TUNNEL_END, "dev", "tun0", "metric", "10")


def network():
    for namespace in (server_ns, tunnel_ns, other_ns):
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
    for device, address, namespace, end in [("tun0", TUNNEL, tunnel_ns, TUNNEL_END), ("eth0", OTHER, other_ns, OTHER_END)]:
        ip("link", "add", device, "netns", server_ns, "type", "veth", "peer", "name", "end0", "netns", namespace)
        ip("-n", server_ns, "addr", "add", f"{address}/24", "dev", device)
        ip("-n", namespace, "addr", "add", f"{end}/24", "dev", "end0")
        ip("-n", namespace, "link", "set", "end0", "up")
        for host in (ORIGIN, NAME_SERVER):
            ip("-n", namespace, "addr", "add", f"{host}/32", "dev", "lo")
    ip("-n", server_ns, "link", "set", "eth0", "up")
    ip("-n", server_ns, "route", "add", "default", "via", OTHER_END, "dev", "eth0", "metric", "20")
    link("up")
    os.makedirs(resolver)
    with open(f"{resolver}/resolv.conf", "w") as file:
        file.write(f"nameserver {NAME_SERVER}\n")
    os.makedirs(f"{folder}/www")
    for name in ("one.bin", "two.bin"):
        with open(f"{folder}/www/{name}", "wb") as file:
            file.write(os.urandom(SIZE))
    # Both ends have everything: only the interface decides what is reached.
    for namespace in (tunnel_ns, other_ns):
        start(namespace, folder, ["python3", "-m", "http.server", "8080", "--bind", ORIGIN, "--directory", f"{folder}/www"])
        start(namespace, folder, ["python3", "-c", DNS])


def get(name):
    """Fetches a file under the name of the origin, and saves its torrent."""
    url, client = f"http://origin.test:8080/{name}", {"PATH": os.environ["PATH"], "CLIENT__SERVER": f"http://127.0.0.1:{API}"}
    done = run(server_ns, program, "get", url, "-o", folder, env=client)
    assert done.returncode == 0, done.stderr
    return f"{folder}/{name}.torrent"


def download(torrent, name):
    leecher = start(tunnel_ns, folder, [sys.executable, "-c", LEECHER, torrent, f"{folder}/{name}", f"{TUNNEL_END}:{LISTEN}"])
    assert leecher.wait(45) == 0, f"the peer did not finish: {name}"


def call(method, path, body=None):
    command = ["curl", "-s", "-X", method, f"http://127.0.0.1:{API}{path}", "-H", "content-type: application/json"]
    return json.loads(run(server_ns, *command, *(["-d", json.dumps(body)] if body else [])).stdout)


def announce(torrent):
    """Announces a download from the other network, to which the seeder then tries to connect."""
    import libtorrent

    info = libtorrent.load_torrent_file(torrent)
    hash = urllib.parse.quote(bytes.fromhex(str(info.ti.info_hash())))
    url = info.trackers[0].replace(TUNNEL, OTHER) + f"&info_hash={hash}&peer_id=-XX0001-000000000001&port={LISTEN}&left=1&event=started"
    done = run(other_ns, "curl", "-s", "-f", url + "&uploaded=0&downloaded=0&compact=1&supportcrypto=1")
    assert done.returncode == 0 and "peers" in done.stdout, (done.returncode, done.stdout)


def main():
    network()
    frames = capture(server_ns, "eth0")
    start(server_ns, folder, [program, "serve"], {
        "HOST": "0.0.0.0", "PORT": str(API), "PUBLIC_URL": f"http://{TUNNEL}:{API}", "STORAGE__BASE_PATH": f"{folder}/data",
        "SEEDER__INTERFACE": "tun0", "SEEDER__LISTEN": f"0.0.0.0:{SEEDER}", "SEEDER__PUBLIC_ADDRESS": f"{TUNNEL}:{SEEDER}",
        "SECURITY__AUTH_ENABLED": "false", "PROXY__PROXY_ENABLED": "false", "FETCHER__ALLOW_NETWORKS": "192.0.2.0/24"})
    for namespace, url in [
        (tunnel_ns, f"http://{ORIGIN}:8080/"), (other_ns, f"http://{ORIGIN}:8080/"), (server_ns, f"http://127.0.0.1:{API}/v1/health"),
    ]:
        assert run(namespace, *WAIT, url).returncode == 0, url
    torrent = get("one.bin")
    download(torrent, "first")

    link("down")
    # The other interface reaches the same origin and the same name server.
    assert run(server_ns, "curl", "-s", "-f", "-o", "/dev/null", f"http://{ORIGIN}:8080/one.bin").returncode == 0
    assert leaks(frames), "the capture sees nothing"
    frames.clear()
    ids = [call("POST", "/v1/requests", {"url": f"http://{host}:8080/two.bin"})["id"] for host in ("origin.test", ORIGIN)]
    announce(torrent)
    # Until both fetches have failed at least once, whether they are repeated or not.
    deadline = time.monotonic() + 60
    while not all(row["status"] == "failed" or row.get("retry_count") for row in (call("GET", f"/v1/requests/{id}") for id in ids)):
        assert time.monotonic() < deadline, [call("GET", f"/v1/requests/{id}") for id in ids]
        time.sleep(0.1)  # polling interval
    # The seeder tries to connect to the announced peer several times.
    time.sleep(5)
    found = leaks(frames)
    if found:
        print(json.dumps(found[:20], indent=1))
        sys.exit(1)

    link("up")
    download(get("two.bin"), "second")
    download(torrent, "third")
    assert not leaks(frames), leaks(frames)[:20]
    print("bound")


try:
    main()
finally:
    stop([server_ns, tunnel_ns, other_ns])
    shutil.rmtree(resolver, ignore_errors=True)
    shutil.rmtree(f"{folder}/data", ignore_errors=True)
