//! Hashing benchmark: the pieces of a 1 GiB file with ProxyTorrent, mktorrent and libtorrent, from the page cache.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use metainfo::{Pieces, TorrentFormat};

use tests::python;

use crate::{report, seconds};

const SIZE: usize = 1 << 30;
const PIECE: u32 = 1 << 18;

const LIBTORRENT: &str = "
import sys, os, time, libtorrent as lt
path, flags = sys.argv[1], 0 if sys.argv[2] == 'hybrid' else lt.create_torrent.v1_only
files = lt.file_storage()
files.add_file(os.path.basename(path), os.path.getsize(path))
torrent = lt.create_torrent(files, 1 << 18, flags)
started = time.monotonic()
lt.set_piece_hashes(torrent, os.path.dirname(path))
print(time.monotonic() - started)
";

pub fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.bin");
    let content: Vec<u8> = (0..SIZE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    std::fs::write(&path, &content).expect("written");
    File::open(&path)
        .and_then(|file| file.sync_all())
        .expect("synced to disk, so that no write-back runs during the measurement");
    drop(content);
    let rate = |taken: f64| format!("{:.2} GB/s", SIZE as f64 / taken / 1e9);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();

    report("hash 1 GiB, v1: ours", &rate(ours(&path, TorrentFormat::V1)));
    let torrent = folder.path().join("m.torrent");
    let mktorrent = seconds(|| {
        let mut command = Command::new("mktorrent");
        command.args(["-l", "18", "-t", &threads, "-o"]).args([&torrent, &path]).stdout(Stdio::null());
        assert!(command.status().expect("mktorrent runs").success());
    });
    report(&format!("hash 1 GiB, v1: mktorrent -t {threads}"), &rate(mktorrent));
    report("hash 1 GiB, v1: libtorrent", &rate(libtorrent(&path, "v1")));
    report("hash 1 GiB, hybrid: ours", &rate(ours(&path, TorrentFormat::Hybrid)));
    report("hash 1 GiB, hybrid: libtorrent", &rate(libtorrent(&path, "hybrid")));
}

fn ours(path: &Path, format: TorrentFormat) -> f64 {
    seconds(|| {
        let file = File::open(path).expect("opened");
        let pieces = Pieces::hash(format, PIECE, SIZE as u64, |offset, buffer| file.read_exact_at(buffer, offset));
        assert_eq!(pieces.expect("read").size(), SIZE as u64);
    })
}

fn libtorrent(path: &Path, format: &str) -> f64 {
    let output = Command::new(python()).args(["-c", LIBTORRENT]).arg(path).arg(format).output().expect("python runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds")
}
