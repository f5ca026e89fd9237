//! Rate limits, quotas, idempotency keys, and limits on slow or malformed HTTP requests.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use proxytorrent_tests::{Origin, TestServer, eventually, read_json};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const ON: (&str, &str) = ("RATE_LIMIT__RATE_LIMIT_ENABLED", "true");

async fn post(server: &TestServer, token: &str, headers: &[(&str, &str)], body: &Value) -> Response {
    let mut request = server.http.post(format!("{}/v1/requests", server.url)).bearer_auth(token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.header("content-type", "application/json").body(body.to_string()).send().await.expect("a response")
}

#[tokio::test]
async fn exactly_the_rate_limit_passes_of_two_hundred_concurrent_requests() {
    let users = [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:a-token,bob:b-token")];
    let server = TestServer::with(&[&[ON, ("RATE_LIMIT__REQUESTS_PER_IP_MINUTE", "100")], &users[..]].concat()).await;
    let origin = Origin::start().await;
    let body = json!({ "url": origin.file(10, 1, "a") });
    let answers = join_all((0..200).map(|_| post(&server, "a-token", &[], &body))).await;
    let passed = answers.iter().filter(|answer| answer.status() == 201).count();
    assert_eq!(passed, 60);
    let refused = answers.into_iter().find(|answer| answer.status() == 429).expect("one was refused");
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert!((1..=61).contains(&header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(
        header("ratelimit-policy"),
        "\"user-minute\";q=60;w=60, \"user-hour\";q=1000;w=3600, \"ip-minute\";q=100;w=60"
    );
    assert!(header("ratelimit").starts_with("\"user-minute\";r=0;t="), "{}", header("ratelimit"));
    assert_eq!((header("x-ratelimit-limit"), header("x-ratelimit-remaining")), ("60".into(), "0".into()));
    assert_eq!(read_json(refused).await["code"], "rate_limited");

    // Another user has a separate limit, but shares the limit of the address.
    let answers = join_all((0..60).map(|_| post(&server, "b-token", &[], &body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status() == 201).count(), 40);
    let seen = server.http.get(format!("{}/v1/requests", server.url)).bearer_auth("a-token").send().await.unwrap();
    assert_eq!(seen.status(), 200, "reads have a separate limit");
}

#[tokio::test]
async fn the_client_address_comes_from_trusted_proxies_only() {
    let settings = [ON, ("RATE_LIMIT__REQUESTS_PER_IP_MINUTE", "1")];
    let server = TestServer::with(&[&settings[..], &[("SECURITY__TRUSTED_PROXIES", "127.0.0.0/8")]].concat()).await;
    let origin = Origin::start().await;
    let body = json!({ "url": origin.file(10, 1, "a") });
    let from = async |server: &TestServer, address: &str| {
        post(server, "", &[("x-forwarded-for", address)], &body).await.status().as_u16()
    };
    assert_eq!(from(&server, "192.0.2.1").await, 201);
    assert_eq!(from(&server, "192.0.2.2").await, 201);
    assert_eq!(from(&server, "198.51.100.1, 192.0.2.2").await, 429, "an entry that the client wrote itself is ignored");
    let server = TestServer::with(&settings).await;
    assert_eq!(from(&server, "192.0.2.1").await, 201);
    assert_eq!(from(&server, "192.0.2.2").await, 429);
}

#[tokio::test]
async fn quotas_limit_active_requests_and_stored_bytes() {
    let origin = Origin::start().await;
    let server = TestServer::with(&[("LIMITS__ACTIVE_REQUESTS", "3")]).await;
    let burst = (0..40).map(|n| json!({ "url": origin.url(&format!("/gated/10/{n}")) }));
    let burst = join_all(burst.map(|body| server.call(Method::POST, "/v1/requests", Some(body)))).await;
    assert_eq!(
        burst.iter().filter(|answer| answer.status() == 201).count(),
        3,
        "the quota holds for concurrent requests too"
    );

    let server = TestServer::with(&[("LIMITS__ACTIVE_REQUESTS", "2"), ("LIMITS__STORED_BYTES", "1000")]).await;
    let mut ids = vec![];
    for n in 0..2 {
        ids.push(server.create(json!({ "url": origin.url(&format!("/gated/600/{n}")) })).await);
    }
    let full = server.call(Method::POST, "/v1/requests", Some(json!({ "url": origin.file(10, 1, "a") }))).await;
    assert_eq!((full.status().as_u16(), &read_json(full).await["code"]), (429, &json!("quota_exceeded")));
    origin.open_gate();
    for id in &ids {
        server.ready(id).await;
    }
    let full = server.call(Method::POST, "/v1/requests", Some(json!({ "url": origin.file(10, 1, "a") }))).await;
    let detail = read_json(full).await["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("1200 bytes") && detail.contains("1000"), "{detail}");
    server.call(Method::DELETE, &format!("/v1/requests/{}", ids[0]), None).await;
    server.fetch(&origin.file(10, 1, "a")).await;
}

#[tokio::test]
async fn a_repeated_idempotency_key_returns_the_same_request() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let key = [("idempotency-key", "5f1d-first")];
    let body = json!({ "url": origin.file(10, 1, "a") });
    let first = post(&server, "", &key, &body).await;
    let location = first.headers()["location"].clone();
    let first = read_json(first).await;
    server.ready(first["id"].as_str().unwrap()).await;
    let again = post(&server, "", &key, &body).await;
    assert_eq!((again.status().as_u16(), &again.headers()["location"]), (201, &location));
    assert_eq!(read_json(again).await, first, "the stored response, although the request is ready by now");

    let other = post(&server, "", &key, &json!({ "url": origin.file(10, 2, "a") })).await;
    assert_eq!((other.status().as_u16(), &read_json(other).await["code"]), (422, &json!("idempotency_key_reused")));
    let bad = post(&server, "", &[("idempotency-key", "")], &body).await;
    assert_eq!((bad.status().as_u16(), &read_json(bad).await["code"]), (400, &json!("invalid_idempotency_key")));

    // A refused request does not use up its key.
    let key = [("idempotency-key", "second")];
    assert_eq!(post(&server, "", &key, &json!({ "url": "ftp://h/" })).await.status(), 422);
    assert_eq!(post(&server, "", &key, &body).await.status(), 201);

    let key = [("idempotency-key", "third")];
    let many = join_all((0..20).map(|_| post(&server, "", &key, &body))).await;
    let mut ids = std::collections::HashSet::new();
    for answer in many {
        match answer.status().as_u16() {
            201 => drop(ids.insert(read_json(answer).await["id"].to_string())),
            status => assert_eq!((status, &read_json(answer).await["code"]), (409, &json!("idempotency_key_in_use"))),
        }
    }
    assert_eq!(ids.len(), 1, "concurrent calls create one request");
    let listed = read_json(server.call(Method::GET, "/v1/requests?limit=100", None).await).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_unauthenticated_body_is_not_read_and_a_malformed_one_gets_400() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    let settings =
        [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "you:a-token"), ("CLIENT_TIMEOUT", "60")];
    let server = TestServer::with(&settings).await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let ask = async |lines: &str| {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let head =
            format!("POST /v1/requests HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut status = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut status)).await;
        read.expect("a response before the timeout").expect("a response");
        String::from_utf8_lossy(&status).into_owned()
    };
    assert_eq!(ask("Content-Length: 1000000\r\n\r\n{").await, "HTTP/1.1 401");
    let known = "Authorization: Bearer a-token\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n";
    assert_eq!(ask(known).await, "HTTP/1.1 400");
}

#[tokio::test]
async fn a_call_must_have_exactly_one_host_header() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    let server = TestServer::start().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    for (version, hosts, expected) in [
        ("1.1", "", "HTTP/1.1 400"),
        ("1.1", "Host: localhost\r\nHost: localhost\r\n", "HTTP/1.1 400"),
        ("1.1", "Host: localhost\r\n", "HTTP/1.1 200"),
        ("1.0", "", "HTTP/1.0 200"),
    ] {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let head = format!("GET /v1/health HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("a response");
        assert_eq!(String::from_utf8_lossy(&status), expected, "{head}");
    }
}

#[tokio::test]
async fn slow_clients_time_out_and_two_thousand_connections_are_served() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    let server = TestServer::with(&[("CLIENT_TIMEOUT", "1")]).await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let head = "POST /v1/requests HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let dawdle = async |sent: String| {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await;
        read.expect("the connection closes").expect("text");
        answer
    };
    assert_eq!(dawdle(head.to_owned()).await, "", "incomplete headers");
    let body = dawdle(format!("{head}Content-Length: 100\r\nConnection: close\r\n\r\n{{")).await;
    assert!(body.starts_with("HTTP/1.1 408 "), "incomplete body: {body}");

    let server = TestServer::start().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let mut streams = vec![];
    for _ in 0..2_000 {
        streams.push(TcpStream::connect(&address).await.expect("connected"));
    }
    let ask = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = join_all(streams.into_iter().map(async |mut stream| {
        stream.write_all(ask.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("a response");
        answer
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")));
}

#[tokio::test]
async fn one_client_has_a_quarter_of_the_connections_and_a_proxy_has_all() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    let settings = [("MAX_HTTP_CONNECTIONS", "32"), ("SECURITY__TRUSTED_PROXIES", "127.0.0.9")];
    let server = TestServer::with(&settings).await;
    let address = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    // Returns the connection if it is served. It stays open.
    let call = async |from: &str| -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let mut stream = socket.connect(address).await.expect("connected");
        let _ = stream.write_all(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.ok()?;
        assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 200");
        Some(stream)
    };
    let calls = async |from: &str| {
        let mut served = vec![];
        while let Some(stream) = call(from).await {
            served.push(stream);
        }
        served
    };
    let first = calls("127.0.0.2").await;
    assert_eq!(first.len(), 8);
    let second = calls("127.0.0.3").await;
    assert_eq!(second.len(), 8);
    let proxied = calls("127.0.0.9").await;
    // The client of the test may have some.
    assert!((12..=16).contains(&proxied.len()), "{}", proxied.len());
    assert!(call("127.0.0.4").await.is_none(), "all are open");
    drop(first);
    eventually("a connection is served", async || call("127.0.0.4").await.map(drop)).await;
    let metrics = server.call(Method::GET, "/metrics", None).await.text().await.unwrap();
    assert!(metrics.contains("\nproxytorrent_http_connections_refused_total "), "{metrics}");
}

#[tokio::test]
async fn failed_authentication_is_rate_limited_per_address() {
    let settings = [
        ON,
        ("SECURITY__AUTH_ENABLED", "true"),
        ("SECURITY__BEARER_TOKENS", "alice:a-token"),
        ("SECURITY__TRUSTED_PROXIES", "127.0.0.0/8"),
        ("RATE_LIMIT__FAILURES_PER_IP_MINUTE", "5"),
    ];
    let server = TestServer::with(&settings).await;
    let call = async |path: &str, token: &str, client: &str| {
        let request = server.http.get(format!("{}{path}", server.url)).header("x-forwarded-for", client);
        request.bearer_auth(token).send().await.expect("a response")
    };
    // Invalid passkeys are counted separately: old torrents must not lock their user out of the API.
    let announce = format!("/announce?passkey={}", "0".repeat(64));
    for n in 0..5 {
        assert_eq!(call(&announce, "", "192.0.2.1").await.status(), 200);
        assert_eq!(call("/v1/requests", &format!("wrong-{n}"), "192.0.2.1").await.status(), 401);
    }
    for (path, token) in [("/v1/requests", "wrong"), ("/v1/requests", "a-token"), (announce.as_str(), "")] {
        let refused = call(path, token, "192.0.2.1").await;
        assert_eq!(refused.status(), 429, "{path} {token}: a correct guess must look like a wrong one");
        let seconds: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds));
    }
    assert_eq!(call("/v1/requests", "a-token", "192.0.2.2").await.status(), 200, "other addresses are not limited");
}

#[tokio::test]
async fn announces_and_reads_have_separate_rate_limits() {
    let settings = [ON, ("RATE_LIMIT__ANNOUNCES_PER_IP_MINUTE", "3"), ("RATE_LIMIT__READS_PER_MINUTE", "4")];
    let server = TestServer::with(&settings).await;
    let statuses = async |path: &str, calls: usize| {
        let mut statuses = vec![];
        for _ in 0..calls {
            statuses.push(server.call(Method::GET, path, None).await.status().as_u16());
        }
        statuses
    };
    assert_eq!(statuses("/scrape", 5).await, [200, 200, 200, 429, 429]);
    assert_eq!(statuses("/v1/requests", 5).await, [200, 200, 200, 200, 429]);
    assert_eq!(statuses("/v1/health", 5).await, [200; 5]);
}
