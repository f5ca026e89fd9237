"""Downloads one torrent with libtorrent: encryption is required, and peers come only from the torrent file or the
magnet link.

usage: download.py (FILE.torrent | magnet:?…) FOLDER [SECONDS]
Prints the path of the complete file. Exits with 1 and prints the state if the download takes longer than SECONDS.
"""

import sys
import time

import libtorrent as lt

source, folder = sys.argv[1:3]
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 45

session = lt.session(
    {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "in_enc_policy": lt.enc_policy.pe_forced,
        "out_enc_policy": lt.enc_policy.pe_forced,
        "allowed_enc_level": lt.enc_level.pe_rc4,
        # Retries a peer whose first connection fails after one second, not after a minute.
        "min_reconnect_time": 1,
        "alert_mask": lt.alert.category_t.error_notification
        | lt.alert.category_t.peer_notification
        | lt.alert.category_t.connect_notification
        | lt.alert.category_t.tracker_notification
        | lt.alert.category_t.status_notification,
    }
)
if source.startswith("magnet:"):
    params = lt.parse_magnet_uri(source)
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(source)
params.save_path = folder
handle = session.add_torrent(params)

alerts = []
deadline = time.monotonic() + seconds
while not handle.status().is_seeding:
    session.wait_for_alert(50)
    alerts += [alert.message() for alert in session.pop_alerts()]
    if time.monotonic() > deadline:
        status = handle.status()
        sys.exit(f"not complete: {status.state}, {status.progress:.1%}, {status.num_peers} peers\n" + "\n".join(alerts))
print(f"{folder}/{handle.status().name}")
