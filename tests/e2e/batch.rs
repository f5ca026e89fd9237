//! Several requests in one call.

use proxytorrent_tests::{Origin, TestServer, read_json};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const PATH: &str = "/v1/requests/batch";

async fn items(response: Response) -> Vec<Value> {
    assert_eq!(response.status(), 200);
    read_json(response).await["items"].as_array().expect("items").clone()
}

async fn send_list(server: &TestServer, list: &str) -> Response {
    let call = server.http.post(format!("{}{PATH}", server.url)).header("content-type", "text/uri-list; charset=utf-8");
    call.body(list.to_owned()).send().await.expect("a response")
}

#[tokio::test]
async fn each_request_of_a_batch_is_created_or_has_a_problem() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let body = json!({ "requests": [
        { "url": origin.file(10, 1, "a"), "keep": 3600 },
        { "url": "ftp://h/", "ttl": -1 },
        "no object",
        { "url": origin.file(10, 2, "b"), "format": "hybrid" },
    ] });
    let items = items(server.call(Method::POST, PATH, Some(body)).await).await;
    assert_eq!(items.len(), 4);
    for (index, content) in [(0, "a"), (3, "b")] {
        assert_eq!(items[index]["problem"], Value::Null);
        let row = server.ready(items[index]["request"]["id"].as_str().unwrap()).await;
        assert_eq!(row["file_name"], content);
    }
    let problem = &items[1]["problem"];
    assert_eq!((&items[1]["request"], &problem["code"]), (&Value::Null, &json!("validation_failed")));
    assert_eq!((&problem["status"], &problem["instance"]), (&json!(422), &json!(PATH)));
    let fields = problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap());
    assert_eq!(fields.collect::<Vec<_>>(), ["url", "ttl"]);
    assert_eq!(items[2]["problem"]["code"], "malformed_json");
}

#[tokio::test]
async fn a_list_of_urls_is_a_batch() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let list = format!("# two\n{}\r\n\r\n  {}\nnot a URL\n", origin.file(10, 1, "a"), origin.file(10, 2, "b"));
    let items = items(send_list(&server, &list).await).await;
    assert_eq!(items.len(), 3);
    for item in &items[..2] {
        server.ready(item["request"]["id"].as_str().unwrap()).await;
    }
    assert_eq!(items[2]["problem"]["errors"][0]["code"], "invalid_url");
}

#[tokio::test]
async fn a_batch_that_is_repeated_with_its_key_creates_nothing() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let requests = [origin.file(10, 1, "a"), origin.file(10, 1, "a")].map(|url| json!({ "url": url }));
    let send = async |requests: &[Value]| {
        let call = server.http.post(format!("{}{PATH}", server.url)).header("idempotency-key", "k");
        let body = json!({ "requests": requests }).to_string();
        items(call.header("content-type", "application/json").body(body).send().await.unwrap()).await
    };
    let first = send(&requests).await;
    assert_ne!(first[0]["request"]["id"], first[1]["request"]["id"], "equal items are two requests");
    assert_eq!(send(&requests).await, first);
    // The key belongs to the item at this place.
    let other = send(&[json!({ "url": origin.file(10, 2, "b") })]).await;
    assert_eq!(other[0]["problem"]["code"], "idempotency_key_reused");
    let listed = server.json(Method::GET, "/v1/requests", None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn each_request_of_a_batch_counts_against_the_rate_limit() {
    let limits = [("RATE_LIMIT__RATE_LIMIT_ENABLED", "true"), ("RATE_LIMIT__REQUESTS_PER_MINUTE", "2")];
    let (server, origin) = (TestServer::with(&limits).await, Origin::start().await);
    let urls = [1, 2, 3].map(|seed| origin.file(10, seed, "a"));
    let response = send_list(&server, &urls.join("\n")).await;
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait > 0);
    assert!(response.headers().contains_key("ratelimit"));
    let items = items(response).await;
    assert!(items[..2].iter().all(|item| item["problem"].is_null()));
    assert_eq!(items[2]["problem"]["code"], "rate_limited");
}

#[tokio::test]
async fn a_batch_that_a_limit_has_interrupted_can_be_repeated_with_its_key() {
    let limits = [("RATE_LIMIT__RATE_LIMIT_ENABLED", "true"), ("RATE_LIMIT__REQUESTS_PER_MINUTE", "2")];
    let (mut server, origin) = (TestServer::with(&limits).await, Origin::start().await);
    let requests = [1, 2, 3].map(|seed| json!({ "url": origin.file(10, seed, "a") }));
    let body = json!({ "requests": requests }).to_string();
    let send = async |server: &TestServer| {
        let call = server.http.post(format!("{}{PATH}", server.url)).header("idempotency-key", "k");
        items(call.header("content-type", "application/json").body(body.clone()).send().await.unwrap()).await
    };
    let first = send(&server).await;
    assert_eq!(first[2]["problem"]["code"], "rate_limited");
    assert_eq!(send(&server).await[..2], first[..2], "what exists does not count");

    // As if a minute had passed: a third request is within the limit, and the two that exist do not use it up.
    server.terminate().await;
    let server = server.restart_with(&[("RATE_LIMIT__REQUESTS_PER_MINUTE", "3")]).await;
    let again = send(&server).await;
    assert_eq!(again[..2], first[..2]);
    assert!(again[2]["request"]["id"].is_string(), "{again:?}");
}

#[tokio::test]
async fn a_batch_that_is_no_list_of_requests_is_refused() {
    let server = TestServer::start().await;
    let many = json!({ "requests": vec![json!({ "url": "http://h/" }); 101] });
    for (body, code) in [
        (json!({ "requests": [] }), "out_of_range"),
        (many, "out_of_range"),
        (json!({ "requests": "http://h/" }), "wrong_type"),
        (json!({}), "wrong_type"),
        (json!({ "urls": ["http://h/"] }), "unknown_field"),
    ] {
        let response = server.call(Method::POST, PATH, Some(body)).await;
        assert_eq!(response.status(), 422);
        assert_eq!(read_json(response).await["errors"][0]["code"], code);
    }
    assert_eq!(send_list(&server, "# none\n").await.status(), 422);
    // Pages of other origins may send text/plain without asking (CORS).
    for other in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let call = server.http.post(format!("{}{PATH}", server.url)).header("content-type", other);
        let refused = read_json(call.body("http://h/").send().await.unwrap()).await;
        assert_eq!((&refused["status"], &refused["code"]), (&json!(415), &json!("unsupported_media_type")));
    }
}
