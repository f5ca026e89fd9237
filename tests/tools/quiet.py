"""Captures what the seeder sends while a peer downloads, across a network of two namespaces.

usage: quiet.py PROXYTORRENT FOLDER private|public   (as root)
Prints "quiet" if everything is sent to the peer, from the seeder's own port or to the peer's, and no payload has a
plaintext handshake of BitTorrent. Otherwise prints the frames.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

from network import LEECHER, WAIT, capture, ip, start, stop

program, folder, kind = sys.argv[1:]
SERVER, PEER, API, SEEDER, LISTEN = "198.18.0.1", "198.18.0.2", 8000, 6881, 51413
SIZE = 3_000_000
tag = f"qu{os.getpid()}"
server_ns, client_ns = f"{tag}-s", f"{tag}-c"


def described(frame):
    """Returns protocol, destination, source port, destination port and payload; None for what the kernel sends itself."""
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == 0x0806:  # ARP
        return None
    if kind == 0x86DD:
        # ICMPv6 (neighbour discovery), also behind a hop-by-hop header (MLD).
        return None if frame[20] in (0, 58) else ("IPv6", frame[38:54].hex(), 0, 0, b"")
    header = (frame[14] & 15) * 4
    protocol, destination = frame[23], socket.inet_ntoa(frame[30:34])
    rest = frame[14 + header :]
    if protocol == 2:  # IGMP
        return ("IGMP", destination, 0, 0, b"")
    source, target = struct.unpack("!HH", rest[:4])
    payload = rest[(rest[12] >> 4) * 4 :] if protocol == 6 else rest[8:]
    return ({6: "TCP", 17: "UDP"}.get(protocol, protocol), destination, source, target, payload)


def main():
    ip("netns", "add", server_ns)
    ip("netns", "add", client_ns)
    ip("link", "add", f"{tag}-0", "netns", server_ns, "type", "veth", "peer", "name", f"{tag}-1", "netns", client_ns)
    ip("-n", server_ns, "addr", "add", f"{SERVER}/24", "dev", f"{tag}-0")
    ip("-n", client_ns, "addr", "add", f"{PEER}/24", "dev", f"{tag}-1")
    for namespace, device in [(server_ns, "lo"), (server_ns, f"{tag}-0"), (client_ns, "lo"), (client_ns, f"{tag}-1")]:
        ip("-n", namespace, "link", "set", device, "up")
    # A multicast would otherwise fail for want of a route.
    ip("-n", server_ns, "route", "add", "default", "via", PEER)
    frames = capture(server_ns, f"{tag}-0")

    os.makedirs(f"{folder}/www")
    with open(f"{folder}/www/file.bin", "wb") as file:
        file.write(os.urandom(SIZE))
    start(server_ns, folder, ["python3", "-m", "http.server", "8080", "--bind", "127.0.0.1", "--directory", f"{folder}/www"])
    start(server_ns, folder, [program, "serve"], {
        "HOST": SERVER, "PORT": str(API), "SEEDER__LISTEN": f"{SERVER}:{SEEDER}", "STORAGE__BASE_PATH": f"{folder}/data",
        "SECURITY__AUTH_ENABLED": "false", "PROXY__PROXY_ENABLED": "false", "FETCHER__ALLOW_NETWORKS": "127.0.0.1/32",
        "TORRENT__PRIVATE_TRACKER": str(kind == "private").lower()})
    for url in ["http://127.0.0.1:8080/", f"http://{SERVER}:{API}/v1/health"]:
        subprocess.run(["ip", "netns", "exec", server_ns, *WAIT, url], check=True)
    got = subprocess.run(
        ["ip", "netns", "exec", server_ns, program, "get", "http://127.0.0.1:8080/file.bin", "-o", folder],
        env={"PATH": os.environ["PATH"], "CLIENT__SERVER": f"http://{SERVER}:{API}"}, capture_output=True)
    assert got.returncode == 0, got.stderr

    leecher = start(client_ns, folder, [sys.executable, "-c", LEECHER, f"{folder}/file.bin.torrent", f"{folder}/down", f"{PEER}:{LISTEN}"])
    assert leecher.wait(45) == 0, "the peer did not finish"
    # Local service discovery, UPnP, NAT-PMP and DHT send at the start and in the first seconds.
    time.sleep(5)

    seen = [found for found in map(described, list(frames)) if found]
    sent = sum(len(payload) for _, _, source, target, payload in seen if SEEDER == source or LISTEN == target)
    assert sent > SIZE, f"the capture has {sent} bytes only"
    bad = []
    for protocol, destination, source, target, payload in seen:
        to_peer = destination == PEER and (protocol in ("TCP", "UDP") and (source == SEEDER or target == LISTEN))
        to_client = destination == PEER and protocol == "TCP" and source == API
        if not to_peer and not to_client or to_peer and b"BitTorrent protocol" in payload:
            bad.append((protocol, destination, source, target, payload[:80].hex()))
    if bad:
        print(json.dumps(bad[:20], indent=1))
        sys.exit(1)

    # The capture must see what it looks for.
    before = len(frames)
    discover = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('239.192.152.143', 6771))"
    start(server_ns, folder, ["python3", "-c", discover]).wait(10)
    deadline = time.monotonic() + 10
    while not any((found := described(frame)) and found[3] == 6771 for frame in frames[before:]):
        assert time.monotonic() < deadline, "a multicast was not captured"
        time.sleep(0.05)  # polling interval
    print("quiet")


try:
    main()
finally:
    stop([server_ns, client_ns])
    shutil.rmtree(f"{folder}/data", ignore_errors=True)
