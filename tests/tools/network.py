"""Network namespaces for tests: processes in them, and a capture of what leaves one of them. Needs root."""

import ctypes
import os
import signal
import socket
import subprocess
import threading

processes = []

# Downloads the torrent in argument 1 to the folder in argument 2, listening on argument 3.
LEECHER = """
import sys, time, libtorrent as lt
session = lt.session({"listen_interfaces": sys.argv[3], "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
    "enable_natpmp": False, "in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": 2, "min_reconnect_time": 1})
params = lt.add_torrent_params()
params.ti, params.save_path = lt.torrent_info(sys.argv[1]), sys.argv[2]
handle = session.add_torrent(params)
while not handle.status().is_seeding:
    time.sleep(0.05)  # polling interval
"""

# Waits until the URL that follows responds.
WAIT = ["curl", "-s", "-o", "/dev/null", "--retry", "50", "--retry-connrefused", "--retry-delay", "0", "--retry-max-time", "30"]


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def start(namespace, folder, command, environment=None, log="log"):
    """Starts a process, which writes its output to the file `log` in the folder."""
    log = open(os.path.join(folder, log), "ab")
    environment = {"PATH": os.environ["PATH"], **(environment or {})}
    command = ["ip", "netns", "exec", namespace, *command]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder)
    processes.append(process)
    return process


def capture(namespace, device):
    """Returns a list that receives every frame that leaves the namespace by the device from now on."""
    frames, ready = [], threading.Event()

    def receive():
        # setns(2) for this thread only: CLONE_NEWNET.
        file = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(file, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        packets.bind((device, 0))
        ready.set()
        while True:
            try:
                frame, address = packets.recvfrom(65536)
            except OSError as error:
                if error.errno == 100:  # ENETDOWN: the device may come back
                    continue
                return
            if address[2] == 4:  # PACKET_OUTGOING
                frames.append(frame)

    threading.Thread(target=receive, daemon=True).start()
    assert ready.wait(10)
    return frames


def stop(namespaces):
    """Kills the processes and deletes the namespaces."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    for namespace in namespaces:
        subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL)
