"""Prints the infohashes that libtorrent computes. For each line `PATH PIECE_LENGTH FORMAT PRIVATE` of the
input (separated by tabs), prints one line `V1 V2` (V2 is - for a v1 torrent)."""

import os
import sys

import libtorrent as lt

for line in sys.stdin:
    path, piece_length, form, private = line.split("\t")
    files = lt.file_storage()
    files.add_file(os.path.basename(path), os.path.getsize(path))
    flags = lt.create_torrent.v1_only if form == "v1" else 0
    torrent = lt.create_torrent(files, int(piece_length), flags)
    torrent.set_priv(private.strip() == "true")
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    hashes = lt.torrent_info(torrent.generate()).info_hashes()
    print(hashes.v1, hashes.v2 if hashes.has_v2() else "-")
