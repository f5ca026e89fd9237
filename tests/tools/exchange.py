"""Two libtorrent clients share a torrent. The first downloads it from the seeder. The second has an IP filter that
blocks the seeder's address. It can only download from the first, whose address it must get from the tracker.

usage: exchange.py FILE.torrent FOLDER
Prints the path of the second client's complete file. Exits with 1 and prints the state after 45 seconds.
"""

import sys
import time

import libtorrent as lt

torrent, folder = sys.argv[1:3]


def downloader(address, name):
    session = lt.session(
        {
            "listen_interfaces": f"{address}:0",
            "outgoing_interfaces": address,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "apply_ip_filter_to_trackers": False,
            "in_enc_policy": lt.enc_policy.pe_forced,
            "out_enc_policy": lt.enc_policy.pe_forced,
            "allowed_enc_level": lt.enc_level.pe_rc4,
        }
    )
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = f"{folder}/{name}"
    return session, params


def complete(handle):
    deadline = time.monotonic() + 45
    while not handle.status().is_seeding:
        if time.monotonic() > deadline:
            sys.exit(f"{handle.status().save_path} is not complete: {handle.status().progress:.1%}")
        time.sleep(0.02)  # polling interval


one, params = downloader("127.0.0.2", "one")
complete(one.add_torrent(params))

other, params = downloader("127.0.0.3", "other")
seeder = lt.ip_filter()
seeder.add_rule("127.0.0.1", "127.0.0.1", 1)
other.set_ip_filter(seeder)
handle = other.add_torrent(params)
complete(handle)
print(f"{folder}/other/{handle.status().name}")
