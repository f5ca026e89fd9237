"""Downloads one torrent with libtorrent's default settings. Runs until it is killed.

usage: default_libtorrent.py (FILE | magnet:?…) FOLDER
"""

import sys
import time

import libtorrent as lt

source, folder = sys.argv[1:]
session = lt.session()
params = lt.parse_magnet_uri(source) if source.startswith("magnet:") else lt.add_torrent_params()
if not source.startswith("magnet:"):
    params.ti = lt.torrent_info(source)
params.save_path = folder
handle = session.add_torrent(params)
while True:
    session.wait_for_alert(1000)
    session.pop_alerts()
    time.sleep(0.01)  # polling interval
