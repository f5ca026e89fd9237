//! BitTorrent clients. They know nothing but a torrent file or a magnet link, and require encryption.

use std::path::Path;

use metainfo::Value;

use crate::{free_port, python, run, sha256, tool};

/// Downloads a torrent file or magnet link with libtorrent. Returns the SHA-256 of the file.
pub async fn libtorrent(source: &str, folder: &Path) -> String {
    let (python, script) = (python(), tool("download.py"));
    let arguments = [script.to_str().expect("text"), source, folder.to_str().expect("text")];
    let printed = run(python.to_str().expect("text"), &arguments, folder).await;
    sha256(&std::fs::read(printed.trim()).expect("the file"))
}

/// Downloads a torrent file or magnet link of the file `name` with aria2. Returns the SHA-256 of the file.
pub async fn aria2(source: &str, folder: &Path, name: &str) -> String {
    let listen = format!("--listen-port={}", free_port());
    let arguments = [
        "--no-conf",
        "--quiet",
        "--enable-dht=false",
        "--bt-enable-lpd=false",
        "--bt-require-crypto=true",
        "--bt-min-crypto-level=arc4",
        "--seed-time=0",
        "--file-allocation=none",
        "--bt-stop-timeout=50",
        &listen,
        source,
    ];
    run("aria2c", &arguments, folder).await;
    sha256(&std::fs::read(folder.join(name)).expect("the file"))
}

/// Returns the metainfo file without its trackers: a client cannot find the seeder, and must use the webseed.
pub fn without_trackers(torrent: &[u8]) -> Vec<u8> {
    let Value::Dict(mut torrent) = Value::decode(torrent).expect("bencode") else {
        panic!("a torrent is a dictionary")
    };
    torrent.remove(&b"announce"[..]);
    torrent.remove(&b"announce-list"[..]);
    Value::Dict(torrent).encode()
}
