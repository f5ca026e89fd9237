//! API throughput: calls per second for status and creation, compared with the health check of the same server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tests::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report;
use crate::server::server;

/// The number of concurrent clients, each with its own keep-alive connection.
const CONNECTIONS: usize = 64;

/// The number of requests whose status is read in turn.
const ROWS: usize = 1000;

/// The duration of the load of each kind of call.
const RUN: Duration = Duration::from_secs(10);

/// The result of a load.
struct Load {
    calls: u64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Load {
    fn text(&self) -> String {
        format!("{:.0}/s, p50 {:.1} ms, p99 {:.1} ms", self.per_second, self.p50_ms, self.p99_ms)
    }
}

pub async fn run() {
    println!();
    let server = server(&[]).await;
    // Requests that fail at once, because the port is blocked. Their rows are read below.
    let mut ids = vec![];
    for n in 0..ROWS {
        ids.push(server.create(json!({ "url": format!("http://127.0.0.1:9/row/{n}") })).await);
    }
    for id in &ids {
        server.failed(id).await;
    }

    let health = load(&server, "200", |_| get("/v1/health")).await;
    report(&format!("GET /v1/health, {CONNECTIONS} clients"), &health.text());
    let status =
        load(&server, "200", move |n| get(&format!("/v1/requests/{}", ids[usize::try_from(n).expect("few") % ROWS])))
            .await;
    let share = status.per_second / health.per_second * 100.0;
    report("GET /v1/requests/{id}", &format!("{}, {share:.0} % of health", status.text()));
    let before = metric(&server, "proxytorrent_requests_created_total").await;
    assert!(before >= ROWS as f64, "requests were lost");
    let created = load(&server, "201", |n| {
        // The port is blocked: each request is claimed, refused and ended while more are created.
        let body = format!("{{\"url\": \"http://127.0.0.1:9/{n}\"}}");
        let head = "POST /v1/requests HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
        format!("{head}content-length: {}\r\n\r\n{body}", body.len())
    })
    .await;
    report("POST /v1/requests (each then ends)", &created.text());
    let counted = metric(&server, "proxytorrent_requests_created_total").await - before;
    let started = Instant::now();
    let ended = before + created.calls as f64;
    while metric(&server, "proxytorrent_requests_failed_total").await < ended {
        assert!(started.elapsed() < Duration::from_secs(120), "requests were lost");
        // The polling interval.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(counted >= created.calls as f64, "requests were lost");
    report("all of them had ended after", &format!("{:.1} s", started.elapsed().as_secs_f64()));
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
}

async fn load(
    server: &TestServer,
    status: &'static str,
    request: impl Fn(u64) -> String + Send + Sync + 'static,
) -> Load {
    let address = server.url.trim_start_matches("http://").to_owned();
    let (request, number) = (Arc::new(request), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let clients = (0..CONNECTIONS).map(|_| {
        let (address, request, number) = (address.clone(), request.clone(), number.clone());
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            let (mut times, mut buffer) = (vec![], vec![0; 16 * 1024]);
            while started.elapsed() < RUN {
                let text = request(number.fetch_add(1, Ordering::Relaxed));
                let sent = Instant::now();
                stream.write_all(text.as_bytes()).await.expect("sent");
                answer(&mut stream, &mut buffer, status).await;
                times.push(sent.elapsed());
            }
            times
        })
    });
    let mut times: Vec<_> =
        futures::future::join_all(clients).await.into_iter().flat_map(|t| t.expect("done")).collect();
    let taken = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1000.0;
    let calls = times.len() as u64;
    Load { calls, per_second: calls as f64 / taken, p50_ms: at(50), p99_ms: at(99) }
}

/// Reads one response, which must have this status.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8], status: &str) {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("a response");
        assert!(read > 0, "the connection was closed");
        filled += read;
        let text = String::from_utf8_lossy(&buffer[..filled]);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if body.len() >= length.parse::<usize>().expect("a number") {
            return;
        }
    }
}

/// Returns the sum of a counter over all its labels.
async fn metric(server: &TestServer, name: &str) -> f64 {
    let response = server.call(Method::GET, "/metrics", None).await;
    let text = response.text().await.expect("text");
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}
