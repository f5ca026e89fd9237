//! Interoperability with libtorrent and mktorrent: the same content, name, piece length and flags result in the same
//! infohashes. `make setup` installs both.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proxytorrent_metainfo::{BLOCK, Metainfo, Pieces, TorrentBuilder, TorrentFormat, Value};
use sha1::{Digest, Sha1};

const PIECE: usize = 32 * 1024;

/// Sizes around every boundary: blocks, pieces, powers of two of pieces, and the read size of a thread.
fn sizes() -> Vec<usize> {
    let around = |n: usize| [n - 1, n, n + 1];
    let mut sizes = vec![2, 100];
    for boundary in
        [BLOCK, PIECE, PIECE + BLOCK, 2 * PIECE, 3 * PIECE, 4 * PIECE, 5 * PIECE, 256 << 10, 1 << 20, 4 << 20]
    {
        sizes.extend(around(boundary));
    }
    sizes.extend([1, 9_999_999]);
    sizes
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]).collect()
}

fn ours(content: &[u8], name: &str, piece_length: usize, format: TorrentFormat, private: bool) -> Metainfo {
    let recipe = TorrentBuilder { name: name.into(), private, source: None, created_by: None, creation_date: None };
    recipe.build(Pieces::of(format, u32::try_from(piece_length).unwrap(), content)).expect("a torrent")
}

fn python() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/python/bin/python");
    assert!(path.exists(), "{} is missing: run `make setup`", path.display());
    path
}

#[test]
fn both_infohashes_equal_those_of_libtorrent() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    let mut expected = vec![];
    for size in sizes() {
        let (content, name) = (content(size), format!("a file of {size}.bin"));
        let path = folder.path().join(&name);
        std::fs::write(&path, &content).unwrap();
        for format in [TorrentFormat::V1, TorrentFormat::Hybrid] {
            for (piece_length, private) in [(PIECE, true), (BLOCK, true), (PIECE, false), (1 << 20, true)] {
                writeln!(lines, "{}\t{piece_length}\t{format}\t{private}", path.display()).unwrap();
                let torrent = ours(&content, &name, piece_length, format, private);
                let v2 = torrent.infohash_v2().map_or("-".to_owned(), |hash| hash.to_string());
                expected.push((
                    format!("{} {v2}", torrent.infohash()),
                    format!("{size} {format} {piece_length} {private}"),
                ));
            }
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libtorrent_infohashes.py");
    let mut child =
        Command::new(python()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python runs");
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(theirs.lines().count(), expected.len());
    for (theirs, (ours, what)) in theirs.lines().zip(&expected) {
        assert_eq!(ours, theirs, "{what}");
    }
}

#[test]
fn the_v1_infohash_equals_that_of_mktorrent() {
    let folder = tempfile::tempdir().unwrap();
    for size in sizes() {
        let (content, name) = (content(size), format!("{size}.bin"));
        let path = folder.path().join(&name);
        std::fs::write(&path, &content).unwrap();
        let torrent = folder.path().join(format!("{size}.torrent"));
        let status = Command::new("mktorrent")
            .args(["-p", "-l", "15", "-o"])
            .args([&torrent, &path])
            .stdout(Stdio::null())
            .status()
            .expect("mktorrent runs");
        assert!(status.success());
        let theirs = Value::decode(&std::fs::read(&torrent).unwrap()).expect("bencode");
        let info = theirs.get("info").expect("an info dictionary").encode();
        let ours = ours(&content, &name, PIECE, TorrentFormat::V1, true);
        assert_eq!(ours.infohash().to_string(), hex::encode(Sha1::digest(&info)), "{size}");
    }
}
