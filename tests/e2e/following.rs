//! Following requests: lists with cursors, long polling, server-sent events.

use std::ops::Deref;
use std::time::{Duration, Instant};

use proxytorrent_tests::{Origin, TestServer, free_port, read_json};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_user_pages_through_their_own_requests() {
    let users = [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:a-token,bob:b-token")];
    let (server, origin) = (TestServer::with(&users).await, Origin::start().await);
    let call = async |token: &str, method: Method, path: &str, body: Option<Value>| {
        let mut request = server.http.request(method, format!("{}/v1/requests{path}", server.url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.expect("a response")
    };
    let mut ids = vec![];
    for n in 0..5 {
        let body = json!({ "url": origin.file(10, n, "a") });
        let created = read_json(call("a-token", Method::POST, "", Some(body.clone())).await).await;
        ids.insert(0, created["id"].clone());
        call("b-token", Method::POST, "", Some(body)).await;
    }
    let (mut found, mut query) = (vec![], "?limit=2".to_owned());
    loop {
        let page = read_json(call("a-token", Method::GET, &query, None).await).await;
        found.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!(found, ids);
    call("a-token", Method::DELETE, &format!("/{}", ids[1].as_str().unwrap()), None).await;
    let cancelled = read_json(call("a-token", Method::GET, "?status=cancelled", None).await).await;
    assert_eq!((&cancelled["items"][0]["id"], cancelled["items"].as_array().unwrap().len()), (&ids[1], 1));
    assert!(cancelled["next_cursor"].is_null());

    let wrong = call("a-token", Method::GET, "?limit=0&cursor=x&status=done&page=2", None).await;
    assert_eq!(wrong.status(), 422);
    let wrong = read_json(wrong).await;
    let fields: Vec<_> = wrong["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["limit", "cursor", "status", "page"]);
}

#[tokio::test]
async fn a_long_poll_returns_at_the_next_change() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/gated/1000/1") })).await;
    server.until(&id, |row| row["status"] == "fetching").await;
    let poll = async |wait: &str| {
        let started = Instant::now();
        let row = read_json(server.call(Method::GET, &format!("/v1/requests/{id}?wait={wait}"), None).await).await;
        (row["status"].as_str().unwrap().to_owned(), started.elapsed())
    };
    let (status, took) = poll("1").await;
    assert_eq!(status, "fetching");
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let ((status, took), ()) = tokio::join!(poll("25"), async {
        // The call must be waiting when the gate opens.
        tokio::time::sleep(Duration::from_millis(100)).await;
        origin.open_gate();
    });
    assert_ne!(status, "fetching");
    assert!(took < Duration::from_secs(10), "{took:?}");
    server.ready(&id).await;
    let (status, took) = poll("25").await;
    assert_eq!(status, "ready");
    assert!(took < Duration::from_secs(10), "an ended request must return at once: {took:?}");
    assert_eq!(server.call(Method::GET, &format!("/v1/requests/{id}?wait=26"), None).await.status(), 422);
}

#[tokio::test]
async fn events_report_each_change_and_end_with_the_request() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/gated/1000000/1") })).await;
    let stream = server.call(Method::GET, &format!("/v1/requests/{id}/events"), None).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    server.until(&id, |row| row["progress"] == 45).await;
    origin.open_gate();
    let (text, rows) = rest(stream).await;
    let mut told: Vec<_> = rows.iter().map(|row| row["status"].as_str().unwrap()).collect();
    assert!(rows.iter().any(|row| row["progress"] == 45), "{text}");
    told.dedup();
    assert_eq!((told.contains(&"fetching"), told.last()), (true, Some(&"ready")), "{told:?}");
    assert!(text.starts_with("event: status\n"), "{text}");
    let dummy_key = server.call(Method::GET, "/v1/requests/01a20583-ba94-7002-8c0b-bbdc5e108857/events", None).await;
    assert_eq!(dummy_key.status(), 404);
}

#[tokio::test]
async fn one_stream_follows_several_requests_of_their_owner() {
    let users = [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:a-token,bob:b-token")];
    let (server, origin) = (TestServer::with(&users).await, Origin::start().await);
    let (alice, bob) = (server.deref().clone().with_token("a-token"), server.deref().clone().with_token("b-token"));
    let one = alice.create(json!({ "url": origin.url("/gated/1000000/1") })).await;
    let two = alice.create(json!({ "url": origin.url("/status/404") })).await;
    let strangers = bob.create(json!({ "url": origin.url("/gated/1000000/2") })).await;
    alice.failed(&two).await;
    let stream = alice.call(Method::GET, &format!("/v1/requests/events?ids={one},{two},{strangers}"), None).await;
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    alice.until(&one, |row| row["received_bytes"] == 500_000).await;
    origin.open_gate();
    let (text, rows) = rest(stream).await;
    let of = |id: &str| rows.iter().filter(|row| row["id"] == id).map(|row| row["status"].clone()).collect::<Vec<_>>();
    assert_eq!((of(&one).last(), of(&two)), (Some(&json!("ready")), vec![json!("failed")]), "{text}");
    assert_eq!(of(&strangers).len(), 0, "{text}");
    let bytes = |row: &Value| row["received_bytes"] == 500_000 && row["total_bytes"] == 1_000_000;
    assert!(rows.iter().any(bytes), "{text}");
    let too_many: Vec<_> = (0..101).map(|n| format!("01a20583-ba94-7002-8c0b-{n:012}")).collect();
    for bad in ["", "?ids=", "?ids=x", &format!("?ids={}", too_many.join(","))] {
        assert_eq!(alice.call(Method::GET, &format!("/v1/requests/events{bad}"), None).await.status(), 422, "{bad}");
    }
}

/// Reads a stream of events to its end, and returns its text and the requests in it.
async fn rest(stream: reqwest::Response) -> (String, Vec<Value>) {
    let text = tokio::time::timeout(Duration::from_secs(60), stream.text()).await;
    let text = text.expect("the stream ends").expect("text");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let rows = data.map(|row| serde_json::from_str(row).unwrap()).collect();
    (text, rows)
}

#[tokio::test]
async fn a_queued_request_says_why_it_waits() {
    let (server, origin) = (TestServer::with(&[("FETCHER__MAX_CONCURRENT", "1")]).await, Origin::start().await);
    let running = server.create(json!({ "url": origin.url("/gated/1000/1") })).await;
    assert_eq!(server.until(&running, |row| row["status"] == "fetching").await["waiting"], Value::Null);
    for ahead in 0..3 {
        let id = server.create(json!({ "url": origin.file(10, ahead, "a") })).await;
        let waiting = server.until(&id, |row| !row["waiting"]["ahead"].is_null()).await;
        assert_eq!(waiting["waiting"], json!({ "reason": "turn", "until": null, "ahead": ahead }));
    }
    origin.open_gate();
}

#[tokio::test]
async fn a_request_that_waits_for_another_try_or_an_identical_request_says_so() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let url = origin.url("/gated/1000/1");
    let running = server.create(json!({ "url": url })).await;
    server.until(&running, |row| row["status"] == "fetching").await;
    let identical = server.create(json!({ "url": url })).await;
    let waiting = server.until(&identical, |row| row["waiting"]["reason"] == "identical_request").await;
    assert_eq!(waiting["waiting"]["until"], Value::Null);

    let refused = server.create(json!({ "url": format!("http://127.0.0.1:{}/", free_port()) })).await;
    let waiting = server.until(&refused, |row| row["waiting"]["reason"] == "retry").await;
    assert_eq!(waiting["error_code"], "connection_failed");
    let next = waiting["waiting"]["until"].as_str().expect("a time");
    let format = &time::format_description::well_known::Rfc3339;
    assert!(
        time::OffsetDateTime::parse(next, format).unwrap()
            > time::OffsetDateTime::parse(waiting["created_at"].as_str().unwrap(), format).unwrap()
    );
    origin.open_gate();
    server.ready(&identical).await;
}
