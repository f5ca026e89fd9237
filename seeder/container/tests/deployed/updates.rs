//! Updates of the stack while requests are in progress.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{Origin, eventually, sha256};

use crate::stack::{LEASE_AND_SWEEP, Stack};

/// Creates requests until the update has ended, whose origins respond after half a second. Returns how the update
/// ended, and the requests.
async fn update_under_load(stack: &Stack, origin: &Origin, how: &str) -> (String, Vec<String>) {
    let folder = stack.names["Folder"].as_str().unwrap();
    let arguments = [folder, how];
    let update = stack.run("tests/tools/update_stack.py", arguments);
    tokio::pin!(update);
    let mut ids = vec![];
    loop {
        let url = origin.url(&format!("/delayed/500/{}?{how}", ids.len()));
        ids.push(create(stack, &url).await);
        tokio::select! {
            biased;
            ended = &mut update => return (ended.trim().to_owned(), ids),
            // The interval of the requests.
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

/// Creates a request as a client that retries: the emulator kills functions that it updates. AWS lets them finish. A
/// killed function can leave its idempotency key reserved, which returns 409 to the retries of a minute.
async fn create(stack: &Stack, url: &str) -> String {
    let (key, body) = (sha256(url.as_bytes()), json!({ "url": url }).to_string());
    let deadline = Instant::now() + LEASE_AND_SWEEP;
    loop {
        let call = stack.http.post(format!("{}/v1/requests", stack.url)).bearer_auth("emulated");
        let call = call.header("content-type", "application/json").header("idempotency-key", &key).body(body.clone());
        let response = call.send().await.unwrap();
        let status = response.status();
        let answer = response.text().await.unwrap();
        if status == StatusCode::CREATED {
            return serde_json::from_str::<Value>(&answer).unwrap()["id"].as_str().unwrap().to_owned();
        }
        let is_reserved = status == StatusCode::CONFLICT && answer.contains("idempotency_key_in_use");
        assert!(is_reserved || status.is_server_error(), "{status}: {answer}");
        assert!(Instant::now() < deadline, "{status}: {answer}");
        // The `Retry-After` of the 409.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn version(stack: &Stack) -> String {
    stack.json(Method::GET, "/v1/health", None).await["version"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_update_under_load_loses_no_request_and_a_broken_one_is_rolled_back() {
    let (stack, origin) = (Stack::deploy(&[]).await, Origin::start().await);
    let before = version(&stack).await;
    let (ended, mut ids) = update_under_load(&stack, &origin, "broken").await;
    assert_eq!(ended, "UPDATE_ROLLBACK_COMPLETE");
    assert_eq!(version(&stack).await, before);

    let (ended, more) = update_under_load(&stack, &origin, "changed").await;
    assert_eq!(ended, "UPDATE_COMPLETE");
    eventually("the new version is used", async || (version(&stack).await == "changed").then_some(())).await;
    ids.extend(more);

    let (ended, more) = update_under_load(&stack, &origin, "unchanged").await;
    // The message of CloudFormation.
    assert_eq!(ended, "No updates are to be performed.");
    ids.extend(more);

    // A fetch whose function was killed is repeated by the sweep when its lease has ended.
    let deadline = Instant::now() + LEASE_AND_SWEEP;
    for id in ids {
        stack.ready_by(&id, deadline).await;
    }
    stack.stop().await;
}
