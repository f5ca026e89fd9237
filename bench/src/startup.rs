//! Size and start time of the Lambda functions, compared with a function that does nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::{median, report, root};

/// The number of starts of each function, with a warm page cache.
const STARTS: usize = 15;

/// A call of a function to the runtime API.
enum Sign {
    /// The function asks for its first event.
    Ready,
    /// The function sends its response.
    Answered,
}

/// A runtime API for one function. `event` is its first event, or `None` for a function that needs a store.
struct Runtime {
    event: Option<String>,
    signs: mpsc::UnboundedSender<(Sign, Instant)>,
}

async fn next(State(runtime): State<Arc<Runtime>>) -> Response {
    let _ = runtime.signs.send((Sign::Ready, Instant::now()));
    match &runtime.event {
        Some(event) => {
            let headers = [
                ("lambda-runtime-aws-request-id", "one"),
                ("lambda-runtime-deadline-ms", "9999999999999"),
                ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:bench"),
            ];
            (headers, event.clone()).into_response()
        }
        None => std::future::pending().await,
    }
}

async fn answered(State(runtime): State<Arc<Runtime>>) -> StatusCode {
    let _ = runtime.signs.send((Sign::Answered, Instant::now()));
    StatusCode::ACCEPTED
}

/// Starts a function. Returns the milliseconds from exec until it asks for its first event, and until it has
/// responded to `event`, if there is one.
async fn start(binary: &Path, event: Option<String>) -> (f64, Option<f64>) {
    let (signs, mut seen) = mpsc::unbounded_channel();
    let answers = event.is_some();
    let routes = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
        // Stands in for AWS, to which functions connect while they start.
        .route("/", get(async || "{}"))
        .with_state(Arc::new(Runtime { event, signs }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    let names = ["REQUESTS_TABLE", "TORRENTS_TABLE", "CONTENTS_TABLE", "GUARDS_TABLE", "SWARM_TABLE", "BUCKET"];
    let queues = ["FETCH_QUEUE", "PACKAGE_QUEUE", "SEED_QUEUE"].map(|name| (name, "http://127.0.0.1:9/queue"));
    let names = names.map(|name| (name, "name")).into_iter().chain(queues);
    let begun = Instant::now();
    let mut process = Command::new(binary)
        .env_clear()
        .envs(names.map(|(name, value)| (format!("AWS__{name}"), value)))
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_LAMBDA_RUNTIME_API", address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "bench")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("PUBLIC_URL", "http://127.0.0.1")
        .env("SECURITY__BEARER_TOKENS", "you:token")
        .env("TRACKER__SECRET", "a secret of the tracker")
        .env("PROXY__PROXY_ENABLED", "false")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let since = |at: Instant| at.duration_since(begun).as_secs_f64() * 1000.0;
    let mut sign = async || {
        let sign = tokio::time::timeout(Duration::from_secs(30), seen.recv()).await.expect("in time");
        sign.expect("the runtime API serves")
    };
    let ready = since(sign().await.1);
    let mut answer = None;
    while answers && answer.is_none() {
        if let (Sign::Answered, at) = sign().await {
            answer = Some(since(at));
        }
    }
    process.kill().await.expect("killed");
    server.abort();
    (ready, answer)
}

/// Returns the size of the binary in bytes, uncompressed and deflated as in a zip file.
fn sizes(binary: &Path) -> (u64, u64) {
    let bytes = std::fs::read(binary).expect("it was built");
    let mut encoder = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(&bytes).expect("compressed");
    (bytes.len() as u64, encoder.finish().expect("compressed").len() as u64)
}

async fn measure(name: &str, binary: PathBuf, event: Option<String>) {
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
    let event = |name: &str| std::fs::read_to_string(root().join(format!("events/{name}.json"))).expect("an event");
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
