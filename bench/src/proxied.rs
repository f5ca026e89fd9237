//! Proxy benchmark: 1 GiB through a SOCKS5 proxy against curl through the same proxy, and the peak memory for 3 GiB.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::server::{curl, origin, server, time_to_ready};
use crate::{median, report};

const SIZE: usize = 1 << 30;
const LARGE: usize = 3 << 30;

pub async fn run() {
    let port = tests::free_port();
    let _proxy = Command::new("microsocks")
        .args(["-i", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("microsocks starts");
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        // The polling interval.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let origin = origin().await;
    let (urls, proxy) = (format!("socks5://127.0.0.1:{port}"), format!("socks5h://127.0.0.1:{port}"));
    let settings =
        [("PROXY__PROXY_ENABLED", "true"), ("PROXY__URLS", urls.as_str()), ("FETCHER__MAX_SIZE", "4000000000")];
    let fetching = server(&settings).await;
    let folder = fetching.scratch("curl");
    let (mut ours, mut curls) = (vec![], vec![]);
    for seed in 0..3 {
        let url = format!("{origin}/{SIZE}/{seed}");
        curls.push(curl(&url, &folder, &["-x", &proxy]).await);
        let started = Instant::now();
        let id = fetching.create(json!({ "url": url })).await;
        fetching.until(&id, |row| ["packaging", "seeding", "ready"].contains(&row["status"].as_str().unwrap())).await;
        ours.push(started.elapsed().as_secs_f64() * 1000.0);
        fetching.ready(&id).await;
    }
    let (ours, curl) = (median(ours), median(curls));
    let rate = |ms: f64| SIZE as f64 / ms / 1000.0;
    let figure = format!("{:.0} MB/s (curl {:.0} MB/s, {:.2} times)", rate(ours), rate(curl), curl / ours);
    report("fetch 1 GiB through microsocks, hashed and on disk", &figure);

    let server = server(&settings).await;
    let ms = time_to_ready(&server, &format!("{origin}/{LARGE}/9")).await;
    report("POST to ready, 3 GiB through microsocks", &format!("{:.1} s", ms / 1000.0));
    report("memory after that (RSS, peak)", &format!("{:.0} MB", server.memory_mb("VmHWM")));
    println!();
}
