//! Downloads with real BitTorrent clients, from nothing but the torrent file or magnet link that the API returns.

use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::origin::{Origin, content};
use crate::server::{TestServer, run};

/// Returns the path of the Python interpreter with libtorrent, which `make setup` installs.
pub fn python() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/python/bin/python");
    assert!(path.exists(), "{} is missing: run `make setup`", path.display());
    path
}

pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name)
}

/// Downloads a torrent file or magnet link with libtorrent, with encryption required. Returns the file's SHA-256.
pub async fn libtorrent(source: &str, folder: &Path) -> String {
    let (python, script) = (python(), tool("download.py"));
    let arguments = [script.to_str().unwrap(), source, folder.to_str().unwrap()];
    let printed = run(python.to_str().unwrap(), &arguments, folder).await;
    sha256(&std::fs::read(printed.trim()).expect("the file"))
}

/// Downloads a torrent file or magnet link with aria2, with encryption required. Returns the file's SHA-256.
pub async fn aria2(source: &str, folder: &Path, name: &str) -> String {
    let port = free_port().to_string();
    let listen = format!("--listen-port={port}");
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

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("[::]:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

async fn everybody_downloads(size: usize) {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let expected = sha256(&content(size, 7));
    let row = server.fetch(&origin.file(size, 7, "a file.bin")).await;
    assert_eq!(row["content_hash"], expected);
    assert_eq!(row["content_size"], size);
    assert_eq!(row["file_name"], "a file.bin");

    let id = row["id"].as_str().unwrap();
    let (torrent, magnet) = (server.save_torrent(id).await, server.magnet(id).await);
    for (source, from) in [(torrent.to_str().unwrap(), "torrent"), (&magnet, "magnet")] {
        assert_eq!(libtorrent(source, &server.scratch(&format!("libtorrent-{from}"))).await, expected);
        assert_eq!(aria2(source, &server.scratch(&format!("aria2-{from}")), "a file.bin").await, expected);
    }
}

#[tokio::test]
async fn all_clients_download_one_byte() {
    everybody_downloads(1).await;
}

#[tokio::test]
async fn all_clients_download_10_kb() {
    everybody_downloads(10_000).await;
}

#[tokio::test]
async fn all_clients_download_5_mb() {
    everybody_downloads(5_000_000).await;
}

#[tokio::test]
async fn all_clients_download_45_mb() {
    everybody_downloads(45_000_000).await;
}

#[tokio::test]
async fn a_hybrid_torrent_is_downloaded_by_torrent_file_and_by_magnet_link() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.file(3_000_000, 1, "h.bin"), "format": "hybrid" })).await;
    let row = server.ready(&id).await;
    assert_eq!(row["infohash"].as_str().map(str::len), Some(40));
    assert_eq!(row["infohash_v2"].as_str().map(str::len), Some(64));
    let magnet = server.magnet(&id).await;
    assert!(magnet.contains(&format!("xt=urn:btmh:1220{}", row["infohash_v2"].as_str().unwrap())), "{magnet}");

    let expected = sha256(&content(3_000_000, 1));
    let torrent = server.save_torrent(&id).await;
    assert_eq!(libtorrent(torrent.to_str().unwrap(), &server.scratch("torrent")).await, expected);
    assert_eq!(libtorrent(&magnet, &server.scratch("magnet")).await, expected);
}

#[tokio::test]
async fn a_public_torrent_is_downloaded_by_its_magnet_link() {
    let (server, origin) = (TestServer::with(&[("TORRENT__PRIVATE_TRACKER", "false")]).await, Origin::start().await);
    let row = server.fetch(&origin.file(100_000, 1, "p.bin")).await;
    let magnet = server.magnet(row["id"].as_str().unwrap()).await;
    assert_eq!(libtorrent(&magnet, &server.scratch("magnet")).await, sha256(&content(100_000, 1)));
}

/// Transmission ignores peers with addresses in 127.0.0.0/8 from a tracker, so this test needs a network of two
/// namespaces.
#[tokio::test]
async fn transmission_downloads_across_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let script = tool("transmission.sh");
    let arguments = [script.to_str().unwrap(), crate::server::PROGRAM, folder.path().to_str().unwrap()];
    let printed = run("bash", &arguments, folder.path()).await;
    assert!(printed.contains("the same"), "{printed}");
}
