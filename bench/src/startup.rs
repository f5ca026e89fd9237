//! Size and start time of the Lambda functions, compared with a function that does nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tests::lambda::{Function, event};
use tests::root;

use crate::{median, report};

/// The number of starts of each function, with a warm page cache.
const STARTS: usize = 15;

/// Returns the environment of a function, for which the server at `aws` stands in for AWS.
fn environment(aws: &str) -> Vec<(String, String)> {
    let names = ["REQUESTS_TABLE", "TORRENTS_TABLE", "CONTENTS_TABLE", "GUARDS_TABLE", "SWARM_TABLE", "BUCKET"];
    let queues = ["FETCH_QUEUE", "PACKAGE_QUEUE", "SEED_QUEUE"].map(|name| (name, "http://127.0.0.1:9/queue"));
    let stores = names.map(|name| (name, "name")).into_iter().chain(queues);
    let others = [
        ("AWS_ENDPOINT_URL", aws),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("MONITORING__LOG_LEVEL", "WARNING"),
        ("PUBLIC_URL", "http://127.0.0.1"),
        ("SECURITY__BEARER_TOKENS", "you:token"),
        ("TRACKER__SECRET", "a secret of the tracker"),
        ("PROXY__PROXY_ENABLED", "false"),
    ];
    let stores = stores.map(|(name, value)| (format!("AWS__{name}"), value.to_owned()));
    stores.chain(others.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

/// Starts a function. Returns the milliseconds from exec until it asks for its first event, and until it has
/// responded to `event`, if there is one.
async fn start(binary: &Path, event: Option<Value>) -> (f64, Option<f64>) {
    let mut function = Function::start(binary, environment).await;
    let started = function.started;
    let ready = function.ready().await.as_secs_f64() * 1000.0;
    let Some(event) = event else { return (ready, None) };
    function.invoke(event, Duration::from_secs(30)).await.expect("a response");
    (ready, Some(started.elapsed().as_secs_f64() * 1000.0))
}

/// Returns the size of the binary in bytes, uncompressed and deflated as in a zip file.
fn sizes(binary: &Path) -> (u64, u64) {
    let bytes = std::fs::read(binary).expect("it was built");
    let mut encoder = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(&bytes).expect("compressed");
    (bytes.len() as u64, encoder.finish().expect("compressed").len() as u64)
}

async fn measure(name: &str, binary: PathBuf, event: Option<Value>) {
    let (size, zipped) = sizes(&binary);
    let (mut ready, mut answered) = (vec![], vec![]);
    for _ in 0..STARTS {
        let (first, second) = start(&binary, event.clone()).await;
        ready.push(first);
        answered.extend(second);
    }
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let answer =
        if answered.is_empty() { String::new() } else { format!(", answered after {:.1} ms", median(answered)) };
    let (size, zipped) = (megabytes(size), megabytes(zipped));
    report(name, &format!("{size:.1} MB, zipped {zipped:.1} MB, ready after {:.1} ms{answer}", median(ready)));
}

pub async fn run() {
    println!();
    let folder = root().join("target/function");
    measure("a function that does nothing", folder.join("examples/hello"), Some(event("page"))).await;
    let sources = std::fs::read_dir(root().join("functions/src/bin")).expect("the functions");
    let mut names: Vec<_> = sources.map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    for path in names {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        // These functions need no store.
        let event = ["docs", "page"].contains(&name.as_str()).then(|| event(&name));
        measure(&name, folder.join(&name), event).await;
    }
}
