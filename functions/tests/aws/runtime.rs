//! The function binaries, run against a local Lambda runtime API that sends them events.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use domain::Status;
use serde_json::{Value, json};
use telemetry::metrics::METRICS;
use tests::lambda::{Function, event};
use tests::{content, eventually, sha256};
use tokio::net::TcpListener;

use crate::env::{TestEnv, undisturbed};
use crate::template::functions;

async fn start(env: &TestEnv, binary: &str) -> Function {
    start_with(env, binary, &[]).await
}

/// Starts a function with more settings.
async fn start_with(env: &TestEnv, binary: &str, settings: &[(&str, &str)]) -> Function {
    let mut environment = env.environment.clone();
    environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let path = Path::new(env!("CARGO_BIN_EXE_sweep")).with_file_name(binary);
    Function::start(&path, |_| environment).await
}

fn message(body: &Value) -> Value {
    json!({ "Records": [{ "messageId": "one", "body": body.to_string() }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_handles_its_sample_event() {
    let env = TestEnv::new().await;
    let expected: HashMap<_, _> = [
        ("create_request", json!(201)),
        ("list_requests", json!(200)),
        ("health", json!(200)),
        ("revoke_passkeys", json!(204)),
        ("docs", json!(200)),
        ("page", json!(200)),
        // The tracker reports failures in the body (BEP 3).
        ("announce", json!(200)),
        ("sweep", Value::Null),
        ("fetch_content", json!({ "batchItemFailures": [] })),
        ("package_torrent", json!({ "batchItemFailures": [] })),
        ("dead_letter", json!({ "batchItemFailures": [] })),
    ]
    .into();
    for name in functions() {
        let mut function = start(&env, &name).await;
        let answer =
            function.invoke(event(&name), Duration::from_secs(30)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let said = answer.get("statusCode").unwrap_or(&answer);
        // The other events name a request that does not exist.
        assert_eq!(said, expected.get(name.as_str()).unwrap_or(&json!(404)), "{name}: {answer}");
    }
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_write_their_metrics_in_the_embedded_metric_format() {
    let env = TestEnv::new().await;
    let id = env.create(&undisturbed(), "missing").await;
    let settings = [("AWS__METRICS_NAMESPACE", "stack")];
    let expect = async |binary, event, expected: &[(&[(&str, &str)], &str)]| {
        let mut function = start_with(&env, binary, &settings).await;
        function.invoke(event, Duration::from_secs(30)).await.unwrap();
        for (labels, name) in expected {
            let line: Value = serde_json::from_str(&function.line().await).unwrap();
            let dimensions: Vec<_> = labels.iter().map(|(label, _)| label).collect();
            let declared = json!([{ "Namespace": "stack", "Dimensions": [dimensions], "Metrics": [{ "Name": name }] }]);
            assert_eq!(line["_aws"]["CloudWatchMetrics"], declared, "{line}");
            assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000, "{line}");
            assert!(labels.iter().all(|(label, value)| line[label] == *value), "{line}");
            let declared = METRICS.iter().find(|metric| metric.name == *name).unwrap();
            assert!(labels.iter().all(|(label, _)| declared.labels.contains(label)), "{line}");
            // A histogram has a list of values.
            assert!(line[name] == 1 || line[name].as_array().is_some_and(|values| values.len() == 1), "{line}");
        }
    };
    let duration = "proxytorrent_step_duration_seconds";
    expect("create_request", event("create_request"), &[(&[], "proxytorrent_requests_created_total")]).await;
    let failed = (&[("step", "fetch"), ("code", "origin_status")][..], "proxytorrent_requests_failed_total");
    let fetch = message(&json!({ "fetch": id }));
    expect("fetch_content", fetch, &[(&[("step", "fetch")], duration), failed]).await;
    expect("sweep", event("sweep"), &[(&[("step", "sweep")], duration)]).await;
    env.stop().await;
}

/// Starts an origin that sends about 1.3 MB per second, with or without support for ranges. Returns its URL, and a
/// list of the first byte of each requested range.
async fn slow_origin(size: usize, ranges: bool) -> (String, Arc<Mutex<Vec<usize>>>) {
    let seen = Arc::new(Mutex::new(vec![]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/slow.bin", listener.local_addr().unwrap());
    let noted = seen.clone();
    let answer = move |headers: HeaderMap| async move {
        let range = headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
        let from = range.and_then(|range| range.trim_end_matches('-').parse().ok()).filter(|_| ranges).unwrap_or(0);
        noted.lock().unwrap().push(from);
        let bytes = content(size, 5)[from..].to_vec();
        let length = bytes.len();
        let chunks = bytes.chunks(65_536).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
        let body = futures::stream::unfold(chunks, async |mut chunks| {
            // The rate of the origin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            chunks.next().map(|chunk| (Ok::<_, std::io::Error>(chunk), chunks))
        });
        let mut answer = Response::builder().header("content-length", length);
        if ranges {
            answer = answer.header("accept-ranges", "bytes").header("etag", "\"one\"");
        }
        if from > 0 {
            answer = answer.status(206).header("content-range", format!("bytes {from}-{}/{size}", size - 1));
        }
        answer.body(Body::from_stream(body)).unwrap()
    };
    let router = Router::new().route("/slow.bin", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_fetch_resumes_in_the_next_run_of_its_function() {
    let env = TestEnv::new().await;
    let size = 6_000_000;
    let (url, seen) = slow_origin(size, true).await;
    let id = env.create_url(&undisturbed(), &url).await;
    let mut fetch = start(&env, "fetch_content").await;
    let mut runs = 0;
    while env.row(id).await.status != Status::Packaging {
        runs += 1;
        assert!(runs < 20, "{:#?}", env.row(id).await);
        // Of the seven seconds, the function reserves five for suspending the fetch.
        let answer = fetch.invoke(message(&json!({ "fetch": id })), Duration::from_secs(7)).await;
        assert_eq!(answer, Ok(json!({ "batchItemFailures": [] })));
        let row = env.row(id).await;
        assert!(matches!(row.status, Status::Queued | Status::Packaging), "{row:#?}");
        assert_eq!(row.checkpoint.is_some(), row.status == Status::Queued);
    }
    assert!(runs >= 2, "runs: {runs}");
    let stored = env.row(id).await.content.unwrap();
    assert_eq!((stored.size, stored.hash.to_string()), (size as u64, sha256(&content(size, 5))));
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), runs);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "each run resumes where the previous one stopped: {seen:?}");
    assert_eq!(env.staged().await, 0);
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_cannot_resume_fails_with_its_reason() {
    let env = TestEnv::new().await;
    let (url, _) = slow_origin(6_000_000, false).await;
    let id = env.create_url(&undisturbed(), &url).await;
    let mut fetch = start(&env, "fetch_content").await;
    let answer = fetch.invoke(message(&json!({ "fetch": id })), Duration::from_secs(7)).await;
    assert_eq!(answer, Ok(json!({ "batchItemFailures": [] })));
    let row = env.row(id).await;
    let failure = row.failure.clone().unwrap();
    assert_eq!((row.status, failure.code.as_str()), (Status::Failed, "time_limit"));
    assert!(failure.message.contains("Accept-Ranges"), "{}", failure.message);
    assert_eq!(env.staged().await, 0);
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_a_suspended_fetch_leaves_nothing() {
    let env = TestEnv::new().await;
    let (url, _) = slow_origin(6_000_000, true).await;
    let id = env.create_url(&undisturbed(), &url).await;
    let mut fetch = start(&env, "fetch_content").await;
    fetch.invoke(message(&json!({ "fetch": id })), Duration::from_secs(7)).await.unwrap();
    let row = env.row(id).await;
    assert!(row.checkpoint.is_some(), "{row:#?}");
    assert!(env.staged().await > 0);
    env.observer.stores.requests.cancel(id, &row.owner, ports::Clock::now(&env.clock)).await.unwrap();
    let mut package = start(&env, "package_torrent").await;
    package.invoke(message(&json!({ "release": id })), Duration::from_secs(30)).await.unwrap();
    assert_eq!(env.staged().await, 0);
    env.stop().await;
}

/// A slow origin does not delay the other fetches of its batch.
#[tokio::test(flavor = "multi_thread")]
async fn the_fetches_of_a_batch_share_a_function() {
    let env = TestEnv::new().await;
    let slow = env.create(&undisturbed(), "gated/1000/1").await;
    let fast = env.create(&undisturbed(), "1000/2").await;
    let records = [slow, fast].map(|id| json!({ "messageId": id, "body": json!({ "fetch": id }).to_string() }));
    let mut fetch = start(&env, "fetch_content").await;
    let event = json!({ "Records": records });
    let running = tokio::spawn(async move { fetch.invoke(event, Duration::from_secs(60)).await });
    eventually("the fast one is fetched", async || (env.row(fast).await.status == Status::Packaging).then_some(()))
        .await;
    assert_eq!(env.row(slow).await.status, Status::Fetching);
    env.origin.open_gate();
    assert_eq!(running.await.unwrap(), Ok(json!({ "batchItemFailures": [] })));
    assert_eq!(env.row(slow).await.status, Status::Packaging);
    env.stop().await;
}
