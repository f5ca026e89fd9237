//! Scale benchmark: many small torrents in one process. Memory, idle CPU, `/metrics`, stop and restart.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::json;
use tests::TestServer;

use crate::server::{origin, server};
use crate::{median, report};

const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];

/// The size of each content in bytes.
const SIZE: usize = 1_000;

/// The number of requests that are created at once.
const CLIENTS: usize = 64;

/// The pause before the idle CPU time is measured, and the duration of the measurement.
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(20);

/// Runs the benchmark with `count` torrents, or with each of [`COUNTS`].
pub async fn run(count: Option<usize>) {
    println!();
    let origin = origin().await;
    for count in count.map_or(COUNTS.to_vec(), |count| vec![count]) {
        one(count, &origin).await;
    }
}

async fn one(count: usize, origin: &str) {
    let line = |what: &str, figure: &str| report(&format!("{count} torrents: {what}"), figure);
    let mut server = server(&[("FETCHER__MAX_PER_HOST", "500")]).await;
    let started = Instant::now();
    let creations = (0..count).map(|n| server.create(json!({ "url": format!("{origin}/{SIZE}/{n}") })));
    futures::stream::iter(creations).buffer_unordered(CLIENTS).for_each(async |_| ()).await;
    all_seeded(&server, count).await;
    line("fetched and seeded", &format!("{:.0}/s", count as f64 / started.elapsed().as_secs_f64()));
    // What the creation left to do must not count.
    tokio::time::sleep(SETTLE).await;
    line("memory", &format!("{:.0} MB", server.memory_mb("VmRSS")));
    let cpu = server.cpu_ms();
    // The duration of the measurement.
    tokio::time::sleep(IDLE).await;
    line("idle CPU", &format!("{:.2} % of a core", (server.cpu_ms() - cpu) / IDLE.as_secs_f64() / 10.0));
    let mut times = vec![];
    for _ in 0..11 {
        let asked = Instant::now();
        server.call(Method::GET, "/metrics", None).await.bytes().await.expect("a body");
        times.push(asked.elapsed().as_secs_f64() * 1000.0);
    }
    line("GET /metrics", &format!("{:.1} ms", median(times)));

    let started = Instant::now();
    server.terminate().await;
    line("SIGTERM until the end", &format!("{:.2} s", started.elapsed().as_secs_f64()));
    let started = Instant::now();
    let server = server.restart().await;
    line("start until the API answers", &format!("{:.2} s", started.elapsed().as_secs_f64()));
    all_seeded(&server, count).await;
    line("start until all are seeded", &format!("{:.2} s", started.elapsed().as_secs_f64()));
    line("memory after the start", &format!("{:.0} MB", server.memory_mb("VmRSS")));
    let started = Instant::now();
    let server = server.crash_and_restart().await;
    all_seeded(&server, count).await;
    line("SIGKILL and start until all are seeded", &format!("{:.2} s", started.elapsed().as_secs_f64()));
}

async fn all_seeded(server: &TestServer, count: usize) {
    loop {
        let text = server.call(Method::GET, "/metrics", None).await.text().await.expect("text");
        let seeding = text.lines().find_map(|line| line.strip_prefix("proxytorrent_torrents_seeding "));
        if seeding.and_then(|value| value.parse::<usize>().ok()) == Some(count) {
            return;
        }
        // The polling interval.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
