//! Authentication, authorization between users, and error responses (RFC 9457).

use proxytorrent_tests::{Origin, TestServer, read_json};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const AUTH: [(&str, &str); 2] =
    [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice-token,bob-token")];

async fn bearing(server: &TestServer, token: &str, method: Method, path: &str, body: Option<Value>) -> Response {
    let mut request = server.http.request(method, format!("{}{path}", server.url)).bearer_auth(token);
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn unauthenticated_calls_get_401() {
    let server = TestServer::with(&AUTH).await;
    for (method, path) in [
        (Method::POST, "/v1/requests"),
        (Method::GET, "/v1/requests/01a20583-ba94-7002-8c0b-bbdc5e108857"),
        (Method::GET, "/v1/requests/01a20583-ba94-7002-8c0b-bbdc5e108857/torrent"),
        (Method::DELETE, "/v1/requests/01a20583-ba94-7002-8c0b-bbdc5e108857"),
    ] {
        for token in [None, Some("mallory")] {
            let mut request = server.http.request(method.clone(), format!("{}{path}", server.url));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{method} {path}");
            assert!(response.headers().contains_key("www-authenticate"));
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(read_json(response).await["code"], "unauthorized");
        }
    }
    assert_eq!(
        server.call(Method::GET, "/v1/health", None).await.status(),
        200,
        "the health check needs no authentication"
    );
}

#[tokio::test]
async fn a_request_of_another_user_is_not_found() {
    let (server, origin) = (TestServer::with(&AUTH).await, Origin::start().await);
    let body = json!({ "url": origin.file(100, 1, "a.bin") });
    let created = bearing(&server, "alice-token", Method::POST, "/v1/requests", Some(body)).await;
    assert_eq!(created.status(), 201);
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    let id = read_json(created).await["id"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/v1/requests/{id}"));
    for path in [location.clone(), format!("{location}/torrent"), format!("{location}/magnet")] {
        let response = bearing(&server, "bob-token", Method::GET, &path, None).await;
        assert_eq!(response.status(), 404, "{path}");
    }
    assert_eq!(bearing(&server, "bob-token", Method::DELETE, &location, None).await.status(), 404);
    let row = read_json(bearing(&server, "alice-token", Method::GET, &location, None).await).await;
    assert_ne!(row["status"], "cancelled");
    assert_eq!(row["links"]["self"], location);
}

#[tokio::test]
async fn each_user_has_a_separate_tracker_url() {
    let (server, origin) = (TestServer::with(&AUTH).await, Origin::start().await);
    let mut trackers = vec![];
    for token in ["alice-token", "bob-token"] {
        let body = json!({ "url": origin.file(100, 1, "a.bin") });
        let created = bearing(&server, token, Method::POST, "/v1/requests", Some(body)).await;
        let path = created.headers()["location"].to_str().unwrap().to_owned();
        let magnet = proxytorrent_tests::eventually("the request is ready", async || {
            let response = bearing(&server, token, Method::GET, &format!("{path}/magnet"), None).await;
            if response.status() == 200 { Some(read_json(response).await) } else { None }
        })
        .await;
        let link = magnet["magnet_link"].as_str().unwrap().to_owned();
        trackers.push(link.split("&tr=").nth(1).unwrap().split('&').next().unwrap().to_owned());
    }
    assert_ne!(trackers[0], trackers[1]);
}

#[tokio::test]
async fn errors_are_problem_details() {
    let server = TestServer::start().await;
    let cases = [
        (Method::GET, "/nowhere", None, 404, "not_found"),
        (Method::GET, "/v1/requests/not-an-id", None, 404, "request_not_found"),
        (Method::GET, "/v1/requests/%ff", None, 404, "request_not_found"),
        (Method::PUT, "/v1/requests", None, 405, "method_not_allowed"),
        (Method::POST, "/v1/requests", None, 415, "unsupported_media_type"),
        (Method::POST, "/v1/requests", Some(json!([])), 400, "malformed_json"),
        (Method::POST, "/v1/requests", Some(json!({})), 422, "validation_failed"),
    ];
    for (method, path, body, status, code) in cases {
        let response = server.call(method.clone(), path, body).await;
        assert_eq!(u64::from(response.status().as_u16()), status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.headers().contains_key("x-request-id"));
        let problem = read_json(response).await;
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(status)));
        assert_eq!(problem["instance"], path);
        for field in ["type", "title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
        }
    }
    let problem =
        read_json(server.call(Method::POST, "/v1/requests", Some(json!({ "url": "x", "ttl": -1 }))).await).await;
    let fields: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["url", "ttl"]);
}

#[tokio::test]
async fn a_cancelled_ready_request_is_no_longer_seeded() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let torrents = async || {
        let metrics = server.call(Method::GET, "/metrics", None).await.text().await.unwrap();
        let seeding = metrics.lines().find_map(|line| line.strip_prefix("proxytorrent_torrents_seeding "));
        seeding.unwrap().parse::<u64>().unwrap()
    };
    let url = origin.file(1000, 1, "a.bin");
    let (one, two) = (server.fetch(&url).await, server.fetch(&url).await);
    assert_eq!(torrents().await, 1);
    let path = |row: &Value| format!("/v1/requests/{}", row["id"].as_str().unwrap());
    server.call(Method::DELETE, &path(&one), None).await;
    assert_eq!(server.call(Method::GET, &format!("{}/torrent", path(&one)), None).await.status(), 410);
    assert_eq!(server.call(Method::GET, &format!("{}/torrent", path(&two)), None).await.status(), 200);
    assert_eq!(torrents().await, 1, "the other request still refers to it");
    server.call(Method::DELETE, &path(&two), None).await;
    proxytorrent_tests::eventually("the torrent is no longer seeded", async || (torrents().await == 0).then_some(()))
        .await;
    assert_eq!(server.files("torrents").len(), 0);
    let again = server.fetch(&url).await;
    assert_eq!(again["infohash"], one["infohash"]);
    assert_eq!(torrents().await, 1, "the torrent can be seeded again");
}
