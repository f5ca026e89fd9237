//! A seeder with several libtorrent sessions (`SEEDER__SESSIONS`).

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use domain::InfoHash;
use metainfo::Value;
use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::leecher::{Leecher, PIECE_LENGTH};
use proxytorrent_tests::{Origin, TestServer, content, eventually, free_port_pair, sha256};
use reqwest::Method;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::tracker::announce_url;

/// Starts a server with two sessions. Returns the port of the first one.
async fn two_sessions(extra: &[(&str, &str)]) -> (TestServer, u16) {
    let port = free_port_pair();
    let listen = format!("127.0.0.1:{port}");
    let settings = [("SEEDER__SESSIONS", "2"), ("SEEDER__LISTEN", &listen)];
    (TestServer::with(&[&settings[..], extra].concat()).await, port)
}

/// Returns the port of the seeder in a magnet link.
fn port_of(magnet: &str) -> u16 {
    let peer = magnet.split("x.pe=127.0.0.1:").nth(1).unwrap_or_else(|| panic!("no peer in {magnet}"));
    peer.split('&').next().unwrap().parse().unwrap()
}

/// Downloads with the seeder at this port only, without the tracker. Returns the SHA-256.
async fn download_from(port: u16, magnet: &str, server: &TestServer, name: &str) -> String {
    let kept = magnet.split('&').filter(|parameter| !parameter.starts_with("tr=") && !parameter.starts_with("x.pe="));
    let magnet = format!("{}&x.pe=127.0.0.1:{port}", kept.collect::<Vec<_>>().join("&"));
    libtorrent(&magnet, &server.scratch(name)).await
}

/// Returns the ports that the tracker names to the peers with the ports 5000 to 5031.
async fn announced_ports(server: &TestServer, (url, infohash): &(String, String)) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for port in 5000..5032 {
        let peer = format!("{port:020}");
        // Each peer leaves again, so that the response has the seeder only.
        let url = format!("{url}&info_hash={infohash}&peer_id={peer}&left=1000&port={port}");
        let response = server.http.get(&url).send().await.unwrap().bytes().await.unwrap();
        let response = Value::decode(&response).unwrap();
        let peers = response.get("peers").and_then(Value::as_bytes).unwrap().to_vec();
        server.http.get(format!("{url}&event=stopped")).send().await.unwrap();
        assert_eq!(peers.len(), 6, "one address of the seeder for each peer");
        ports.insert(u16::from_be_bytes([peers[4], peers[5]]));
    }
    ports
}

#[tokio::test]
async fn torrents_are_spread_over_the_sessions_and_stay_there() {
    const SIZE: usize = 100_000;
    let (server, first) = two_sessions(&[]).await;
    let (origin, both) = (Origin::start().await, BTreeSet::from([first, first + 1]));
    let mut homes = vec![];
    for number in 1..=8_u64 {
        let row = server.fetch(&origin.file(SIZE, number, "a.bin")).await;
        let id = row["id"].as_str().unwrap().to_owned();
        homes.push((number, port_of(&server.magnet(&id).await), id));
    }
    assert_eq!(homes.iter().map(|(_, port, _)| *port).collect::<BTreeSet<_>>(), both);
    let server = server.crash_and_restart().await;
    eventually("all torrents are back", async || (server.seeding().await == 8).then_some(())).await;
    for port in both {
        let (number, _, id) = homes.iter().find(|(_, home, _)| *home == port).unwrap();
        let magnet = server.magnet(id).await;
        assert_eq!(port_of(&magnet), port);
        let downloaded = download_from(port, &magnet, &server, &port.to_string()).await;
        assert_eq!(downloaded, sha256(&content(SIZE, *number)));
    }
}

/// Until it is removed.
#[tokio::test]
async fn a_hot_torrent_is_served_by_all_sessions() {
    const PIECES: u32 = 32;
    let size = (PIECES * PIECE_LENGTH) as usize;
    let piece_length = PIECE_LENGTH.to_string();
    let settings = [("TORRENT__PIECE_SIZE", piece_length.as_str()), ("FETCHER__MAX_SIZE", "100000000")];
    let (server, first) = two_sessions(&settings).await;
    let origin = Origin::start().await;
    let row = server.fetch(&origin.file(size, 1, "a.bin")).await;
    let id = row["id"].as_str().unwrap();
    let infohash: InfoHash = row["infohash"].as_str().unwrap().parse().unwrap();
    let (magnet, tracker) = (server.magnet(id).await, announce_url(&server, id).await);
    let home = port_of(&magnet);
    let other = if home == first { first + 1 } else { first };
    let connect = move |port: u16| {
        spawn_blocking(move || Leecher::connect(SocketAddr::from(([127, 0, 0, 1], port)), infohash, PIECES))
    };
    assert_eq!(announced_ports(&server, &tracker).await, BTreeSet::from([home]));
    refuses(&connect, other).await;

    // One in 256 encrypted handshakes fails (arvidn/libtorrent#8434).
    let leecher = eventually("a leecher is connected", async || connect(home).await.unwrap().ok()).await;
    let load = spawn_blocking(move || leecher.download(0, Instant::now() + Duration::from_secs(15)));
    let both = BTreeSet::from([home, other]);
    eventually("the tracker names both sessions", async || {
        (announced_ports(&server, &tracker).await == both).then_some(())
    })
    .await;
    assert_eq!(port_of(&server.magnet(id).await), home, "the home session is valid for all");
    assert_eq!(download_from(other, &magnet, &server, "hot").await, sha256(&content(size, 1)));
    assert_eq!(server.seeding().await, 1);
    assert!(load.await.unwrap().unwrap() > 0);

    server.call(Method::DELETE, &format!("/v1/requests/{id}"), None).await;
    for port in [home, other] {
        eventually("the torrent is removed", async || connect(port).await.unwrap().err()).await;
        refuses(&connect, port).await;
    }
}

/// Asserts that connections to a session are refused each time, and not only once because a handshake failed.
async fn refuses(connect: &impl Fn(u16) -> JoinHandle<io::Result<Leecher>>, port: u16) {
    for _ in 0..3 {
        assert!(connect(port).await.unwrap().is_err(), "the session at port {port} has the torrent");
    }
}
