//! Latency and throughput from the POST to ready, with memory and CPU time.

use std::time::Instant;

use serde_json::json;

use crate::server::{curl, origin, server, time_to_ready};
use crate::{median, report};

/// The number of distinct small files in the throughput test.
const MANY: u64 = 500;

pub async fn run() {
    let origin = origin().await;
    let server = server(&[]).await;
    let folder = server.scratch("curl");
    println!();
    report("memory, fresh (RSS)", &format!("{:.0} MB", server.memory_mb("VmRSS")));
    // A warm-up: the origin creates its data at the first request.
    curl(&format!("{origin}/10000/0"), &folder, &[]).await;
    let mut seed = 1;
    for (size, name, rounds) in [(10_000, "10 kB", 21), (5_000_000, "5 MB", 11), (45_000_000, "45 MB", 7)] {
        let (mut ours, mut curls) = (vec![], vec![]);
        for _ in 0..rounds {
            seed += 1;
            let url = format!("{origin}/{size}/{seed}");
            curls.push(curl(&url, &folder, &[]).await);
            ours.push(time_to_ready(&server, &url).await);
        }
        let (ours, curls) = (median(ours), median(curls));
        let ratio = ours / curls;
        report(&format!("POST to ready, {name}"), &format!("{ours:.1} ms (curl {curls:.1} ms, {ratio:.2} times)"));
    }
    report("memory after 45 MB jobs (RSS, peak)", &format!("{:.0} MB", server.memory_mb("VmHWM")));

    let cpu = server.cpu_ms();
    let started = Instant::now();
    let mut ids = vec![];
    for n in 0..MANY {
        ids.push(server.create(json!({ "url": format!("{origin}/10000/{}", 1000 + n) })).await);
    }
    for id in &ids {
        server.ready(id).await;
    }
    let taken = started.elapsed().as_secs_f64();
    let each = (server.cpu_ms() - cpu) / MANY as f64;
    report(
        &format!("{MANY} distinct 10 kB files"),
        &format!("{:.0} ready/s, {each:.2} ms CPU each", MANY as f64 / taken),
    );
    report("memory after that (RSS)", &format!("{:.0} MB", server.memory_mb("VmRSS")));
}
