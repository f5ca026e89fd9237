//! Hostile BitTorrent peers: bounded memory and connections, and no delay for other peers.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{Origin, PATIENCE, TestServer, content, program, sha256};
use tokio::process::Command;

const SIZE: usize = 3_000_000;

/// Starts a server that seeds one torrent. Returns the server, the path of the torrent file, and the infohash.
/// Encryption is not forced, so that the test can speak BitTorrent itself.
async fn seeding(extra: &[(&str, &str)]) -> (TestServer, String, Vec<u8>) {
    let origin = Origin::start().await;
    let server = TestServer::with(&[&[("TORRENT__ENCRYPTION", "preferred")], extra].concat()).await;
    let row = server.fetch(&origin.file(SIZE, 1, "a.bin")).await;
    let torrent = server.save_torrent(row["id"].as_str().expect("an id")).await;
    let infohash = hex::decode(row["infohash"].as_str().expect("an infohash")).expect("hexadecimal");
    (server, torrent.to_str().expect("text").to_owned(), infohash)
}

/// Connects as a peer and sends the handshake (BEP 3, with the fast extension of BEP 6).
fn peer(server: &TestServer, infohash: &[u8], number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(&server.seeder).expect("connected");
    let id = format!("-XX0001-{number:012}");
    let handshake = [&b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04"[..], infohash, id.as_bytes()].concat();
    stream.write_all(&handshake).expect("sent");
    stream
}

/// Requests for the first block.
fn requests(count: usize) -> Vec<u8> {
    [&[0, 0, 0, 13, 6][..], &[0; 8], &[0, 0, 0x40, 0]].concat().repeat(count)
}

/// Sends block requests from peers that never read, a thousand at a time, until `stopped` receives a message or all are
/// disconnected. Returns how many were disconnected.
fn flood(peers: Vec<TcpStream>, stopped: std::sync::mpsc::Receiver<()>) -> tokio::task::JoinHandle<usize> {
    // The pause leaves processor time to the server.
    never_read(peers, 0, 1_000, Duration::from_millis(1), stopped)
}

/// Sends `first` block requests from each of these peers, which never read, and then `more` after each pause, until
/// `stopped` receives a message or all are disconnected. Returns how many were disconnected.
fn never_read(
    mut peers: Vec<TcpStream>,
    first: usize,
    more: usize,
    pause: Duration,
    stopped: std::sync::mpsc::Receiver<()>,
) -> tokio::task::JoinHandle<usize> {
    tokio::task::spawn_blocking(move || {
        peers.retain_mut(|peer| {
            // "have none" (BEP 6) and "interested".
            let sent = peer.write_all(&[0, 0, 0, 1, 15, 0, 0, 0, 1, 2]).and_then(|()| peer.write_all(&requests(first)));
            peer.set_nonblocking(true).expect("set");
            sent.is_ok()
        });
        let (mut dropped, more) = (0, requests(more));
        while !peers.is_empty() && stopped.try_recv().is_err() {
            peers.retain_mut(|peer| match peer.write(&more) {
                Ok(_) => true,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
                Err(_) => {
                    dropped += 1;
                    false
                }
            });
            std::thread::sleep(pause); // the pause between requests
        }
        dropped
    })
}

#[tokio::test]
async fn hostile_peers_use_bounded_memory_and_do_not_block_other_downloads() {
    let (server, torrent, infohash) = seeding(&[]).await;
    let peers = (0..200).map(|number| peer(&server, &infohash, number)).collect();
    let (stop, stopped) = std::sync::mpsc::channel();
    let flood = flood(peers, stopped);
    assert_eq!(libtorrent(&torrent, &server.scratch("honest")).await, sha256(&content(SIZE, 1)));
    stop.send(()).expect("it runs");
    flood.await.expect("it ends");
    assert!(server.memory_mb("VmHWM") <= 150.0, "{} MB", server.memory_mb("VmHWM"));
}

#[tokio::test]
async fn peers_that_never_read_are_disconnected() {
    let (server, _, infohash) = seeding(&[]).await;
    let peers = (0..5).map(|number| peer(&server, &infohash, number)).collect();
    let (_stop, stopped) = std::sync::mpsc::channel();
    let dropped = tokio::time::timeout(PATIENCE, flood(peers, stopped)).await.expect("in time").expect("it ends");
    assert_eq!(dropped, 5);
}

#[tokio::test]
async fn idle_peers_do_not_block_a_downloading_peer() {
    let (server, torrent, infohash) = seeding(&[("TORRENT__MAX_CONNECTIONS", "100")]).await;
    // More than one address may have, and more than the limit for all.
    let peers: Vec<_> = (0..150).map(|number| peer(&server, &infohash, number)).collect();
    assert_eq!(libtorrent(&torrent, &server.scratch("honest")).await, sha256(&content(SIZE, 1)));
    drop(peers);
}

#[tokio::test]
async fn peers_that_request_and_do_not_read_do_not_block_a_downloading_peer() {
    let (server, torrent, infohash) = seeding(&[("TORRENT__MAX_CONNECTIONS", "100")]).await;
    let peers: Vec<_> = (0..50).map(|number| peer(&server, &infohash, number)).collect();
    let (stop, stopped) = std::sync::mpsc::channel();
    // More than one address may have. First more requests than the kernel buffers blocks, and then one often enough to be no
    // idle peer.
    let peers = never_read(peers, 600, 1, Duration::from_secs(2), stopped);
    assert_eq!(libtorrent(&torrent, &server.scratch("honest")).await, sha256(&content(SIZE, 1)));
    stop.send(()).expect("it runs");
    peers.await.expect("it ends");
}

#[tokio::test]
async fn connections_without_a_handshake_do_not_block_peers() {
    let (server, torrent, _) = seeding(&[("TORRENT__MAX_CONNECTIONS", "100")]).await;
    let connections: Vec<_> = (0..200).map(|_| TcpStream::connect(&server.seeder).expect("connected")).collect();
    assert_eq!(libtorrent(&torrent, &server.scratch("honest")).await, sha256(&content(SIZE, 1)));
    drop(connections);
}

#[tokio::test]
async fn a_flood_of_utp_syns_does_not_block_tcp_peers() {
    let (server, torrent, _) = seeding(&[("TORRENT__MAX_CONNECTIONS", "100")]).await;
    let seeder = server.seeder.clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let flood = tokio::task::spawn_blocking(move || {
        let mut number: u16 = 0;
        // 300 per second, each from another address and port.
        while stopped.try_recv().is_err() {
            for _ in 0..30 {
                number = number.wrapping_add(1);
                let source = format!("127.0.{}.{}:0", number / 250 % 250, number % 250 + 1);
                let socket = UdpSocket::bind(source).expect("a port");
                // ST_SYN, version 1 (BEP 29).
                let mut syn = vec![0x41, 0];
                syn.extend(number.to_be_bytes());
                syn.extend([0; 12]);
                syn.extend([0, 1, 0, 0]);
                socket.send_to(&syn, &seeder).expect("sent");
            }
            std::thread::sleep(Duration::from_millis(100)); // the rate of the flood
        }
    });
    let honest = libtorrent(&torrent, &server.scratch("honest")).await;
    stop.send(()).expect("it runs");
    flood.await.expect("it ends");
    assert_eq!(honest, sha256(&content(SIZE, 1)));
    let mut server = server;
    assert!(server.terminate().await.success(), "the server stops in time after the flood");
}

#[tokio::test]
async fn without_utp_no_utp_connection_is_accepted() {
    let (server, torrent, _) = seeding(&[("SEEDER__UTP", "false")]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    let syn = [&[0x41, 0, 0, 7][..], &[0; 12], &[0, 1, 0, 0]].concat();
    socket.send_to(&syn, &server.seeder).expect("sent");
    let mut answer = [0; 100];
    if let Ok(length) = socket.recv(&mut answer) {
        // ST_RESET (BEP 29): there is no connection.
        assert_eq!((length, answer[0] >> 4), (20, 3), "{answer:?}");
    }
    assert_eq!(libtorrent(&torrent, &server.scratch("honest")).await, sha256(&content(SIZE, 1)));
}

#[tokio::test]
async fn a_seeder_port_in_use_is_an_error_that_names_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(program())
        .arg("serve")
        .env_clear()
        .envs([("PROFILE", "development"), ("PORT", "0"), ("SEEDER__LISTEN", &address)])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("SEEDER__LISTEN") && errors.contains(&address), "{errors}");
}

#[tokio::test]
async fn the_peer_id_reveals_only_libtorrent() {
    let (server, _, infohash) = seeding(&[]).await;
    let mut peer = peer(&server, &infohash, 1);
    let mut handshake = [0; 68];
    peer.read_exact(&mut handshake).expect("a handshake");
    assert!(handshake[48..].starts_with(b"-LT"), "{:?}", String::from_utf8_lossy(&handshake[48..]));
}
