//! CPU time and memory of the Lambda functions. The emulated AWS is reached without TLS, and so is the origin.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::emulator::Account;
use tests::lambda::{Function, event};
use tests::{Origin, root};

use crate::report;

/// How often a function with little work is called.
const CALLS: u32 = 50;

const LARGE: usize = 50 << 20;

struct Bench {
    environment: Vec<(String, String)>,
    origin: Origin,
    files: u64,
}

impl Bench {
    async fn start(&self, name: &str) -> Function {
        let binary = root().join("target/function").join(name);
        let mut function = Function::start(&binary, |_| self.environment.clone()).await;
        function.ready().await;
        function
    }

    /// Creates requests for contents of this size. Returns their ids.
    async fn create(&mut self, function: &mut Function, size: usize, count: usize) -> Vec<String> {
        let mut ids = vec![];
        for _ in 0..count {
            self.files += 1;
            let mut event = event("create_request");
            event["body"] = json!({ "url": self.origin.file(size, self.files, "file.bin") }).to_string().into();
            let response = function.invoke(event, Duration::from_secs(30)).await.expect("a response");
            assert_eq!(response["statusCode"], 201, "{response}");
            let body: Value = serde_json::from_str(response["body"].as_str().expect("a body")).expect("JSON");
            ids.push(body["id"].as_str().expect("an id").to_owned());
        }
        ids
    }

    /// Calls a new process of a queue's function with these batches, each a list of requests.
    async fn consume(&self, name: &str, what: &str, task: &str, batches: &[&[String]]) {
        let mut function = self.start(name).await;
        let (before, started) = (function.cpu_ms(), Instant::now());
        for batch in batches {
            let records = batch.iter().map(|id| json!({ "messageId": id, "body": json!({ task: id }).to_string() }));
            let event = json!({ "Records": records.collect::<Vec<_>>() });
            let response = function.invoke(event, Duration::from_secs(900)).await.expect("a response");
            assert_eq!(response, json!({ "batchItemFailures": [] }));
        }
        show(&format!("{name}, {what}"), &function, before, started, u32::try_from(batches.len()).expect("few"));
    }
}

/// Reports what `calls` calls have used since the CPU time `before`.
fn show(name: &str, function: &Function, before: f64, started: Instant, calls: u32) {
    let cpu = (function.cpu_ms() - before) / f64::from(calls);
    let took = started.elapsed().as_secs_f64() * 1000.0 / f64::from(calls);
    let peak = function.peak_mb();
    report(name, &format!("CPU {cpu:.1} ms, took {took:.1} ms, at most {peak:.0} MB of memory"));
}

pub async fn run() {
    println!();
    let account = Account::new().await;
    let environment = account.environment().await;
    let mut bench = Bench { environment, origin: Origin::start().await, files: 0 };
    let mut create = bench.start("create_request").await;
    let (before, started) = (create.cpu_ms(), Instant::now());
    let small = bench.create(&mut create, 1000, CALLS as usize).await;
    show("create_request", &create, before, started, CALLS);
    let large = bench.create(&mut create, LARGE, 6).await;

    let mut status = bench.start("get_request").await;
    let (before, started) = (status.cpu_ms(), Instant::now());
    for id in &small {
        let mut event = event("get_request");
        let path = format!("/v1/requests/{id}");
        (event["rawPath"], event["requestContext"]["http"]["path"]) = (path.clone().into(), path.into());
        event["pathParameters"]["id"] = id.as_str().into();
        let response = status.invoke(event, Duration::from_secs(30)).await.expect("a response");
        assert_eq!(response["statusCode"], 200, "{response}");
    }
    show("get_request", &status, before, started, CALLS);

    bench.consume("fetch_content", "1 kB", "fetch", &small[..20].chunks(1).collect::<Vec<_>>()).await;
    bench.consume("fetch_content", "5 × 1 kB", "fetch", &small[20..].chunks(5).collect::<Vec<_>>()).await;
    bench.consume("fetch_content", "50 MiB", "fetch", &[&large[..1]]).await;
    bench.consume("fetch_content", "5 × 50 MiB", "fetch", &[&large[1..]]).await;
    bench.consume("package_torrent", "1 kB", "package", &small.chunks(1).collect::<Vec<_>>()).await;
    bench.consume("package_torrent", "50 MiB", "package", &large.chunks(1).collect::<Vec<_>>()).await;
    let mut sweep = bench.start("sweep").await;
    let (before, started) = (sweep.cpu_ms(), Instant::now());
    for _ in 0..5 {
        sweep.invoke(event("sweep"), Duration::from_secs(55)).await.expect("a response");
    }
    show("sweep", &sweep, before, started, 5);
}
