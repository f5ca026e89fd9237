//! Benchmark of the seeder itself: one torrent with RC4 to clients that discard what they receive, from one session and
//! from two.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use domain::InfoHash;
use tests::leecher::{Leecher, PIECE_LENGTH};
use tests::{TestServer, eventually, free_port_pair};
use tokio::task::spawn_blocking;

use crate::report;
use crate::server::{origin, server};

/// The number of clients.
const CLIENTS: u16 = 4;

/// How long they download.
const TIME: Duration = Duration::from_secs(10);

/// The pieces of the content.
const PIECES: u32 = 512;

/// An upload limit in bytes per second, at which a torrent is still hot.
const LIMIT: &str = "60000000";

pub async fn run() {
    println!();
    one_torrent("0", "").await;
    one_torrent(LIMIT, ", upload limit 60 MB/s").await;
}

async fn one_torrent(upload_limit: &str, what: &str) {
    let (origin, piece_length) = (origin().await, PIECE_LENGTH.to_string());
    let (first, size) = (free_port_pair(), u64::from(PIECES) * u64::from(PIECE_LENGTH));
    let listen = format!("127.0.0.1:{first}");
    let settings = [("SEEDER__LISTEN", listen.as_str()), ("FETCHER__MAX_SIZE", "1000000000")];
    let two_sessions = [("TORRENT__PIECE_SIZE", piece_length.as_str()), ("SEEDER__SESSIONS", "2")];
    let settings = [&settings[..], &two_sessions, &[("TORRENT__UPLOAD_RATE_LIMIT", upload_limit)]].concat();
    let server = server(&settings).await;
    let row = server.fetch(&format!("{origin}/{size}/1")).await;
    let infohash = row["infohash"].as_str().and_then(|text| text.parse().ok()).expect("an infohash");

    // Before the torrent is hot, one session has it.
    let ports = [first, first + 1];
    let one = eventually("a session has the torrent", async || {
        for port in ports {
            if connect(port, infohash).await.is_some() {
                return Some(port);
            }
        }
        None
    })
    .await;
    measure(&server, &format!("one session{what}"), &[one], infohash).await;
    // The load has made it hot.
    measure(&server, &format!("two sessions{what}"), &ports, infohash).await;
}

async fn connect(port: u16, infohash: InfoHash) -> Option<Leecher> {
    let seeder = SocketAddr::from(([127, 0, 0, 1], port));
    spawn_blocking(move || Leecher::connect(seeder, infohash, PIECES)).await.expect("no panic").ok()
}

/// Measures what the sessions at these ports send to the clients together.
async fn measure(server: &TestServer, what: &str, ports: &[u16], infohash: InfoHash) {
    let mut clients = vec![];
    for port in ports.iter().copied().cycle().take(usize::from(CLIENTS)) {
        clients.push(eventually("a client is connected", async || connect(port, infohash).await).await);
    }
    let (cpu, end) = (server.cpu_ms(), Instant::now() + TIME);
    let downloads = clients.into_iter().zip(0..).map(|(client, number)| {
        // Each begins elsewhere.
        let from = number * u64::from(PIECES) * 16;
        spawn_blocking(move || client.download(from, end).expect("the seeder sends"))
    });
    let downloads = futures::future::join_all(downloads).await;
    let bytes: u64 = downloads.into_iter().map(|bytes| bytes.expect("no panic")).sum();
    let bytes = bytes as f64;
    let per_gib = (server.cpu_ms() - cpu) / 1000.0 * f64::from(1 << 30) / bytes;
    let figure = format!("{:.0} MB/s ({per_gib:.1} s CPU/GiB)", bytes / 1e6 / TIME.as_secs_f64());
    report(&format!("one torrent to {CLIENTS} clients, RC4: {what}"), &figure);
}
