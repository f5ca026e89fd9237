//! Fairness between users: fetches of one user do not delay those of another.

use futures::future::join_all;
use proxytorrent_tests::{Origin, TestServer, eventually, read_json};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const USERS: [(&str, &str); 2] =
    [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:a-token,bob:b-token")];

fn call(server: &TestServer, token: &str, method: Method, path: &str) -> RequestBuilder {
    server.http.request(method, format!("{}/v1/requests{path}", server.url)).bearer_auth(token)
}

async fn create(server: &TestServer, token: &str, url: &str) -> Value {
    let request = call(server, token, Method::POST, "").header("content-type", "application/json");
    let response = request.body(json!({ "url": url, "ttl": 0 }).to_string()).send().await.expect("a response");
    assert_eq!(response.status(), 201);
    read_json(response).await
}

async fn status(server: &TestServer, token: &str, id: &str) -> String {
    let row = read_json(call(server, token, Method::GET, &format!("/{id}")).send().await.expect("a response")).await;
    row["status"].as_str().expect("a status").to_owned()
}

#[tokio::test]
async fn slow_fetches_of_one_user_do_not_delay_another() {
    let settings = [("FETCHER__MAX_CONCURRENT", "20"), ("FETCHER__READ_TIMEOUT", "600")];
    let server = TestServer::with(&[&USERS[..], &settings].concat()).await;
    let origin = Origin::start().await;
    let urls: Vec<_> = (0..100).map(|n| origin.url(&format!("/silent/{n}"))).collect();
    let slow = join_all(urls.iter().map(|url| create(&server, "a-token", url))).await;
    eventually("the first user's share of fetches runs", async || (origin.hits() >= 10).then_some(())).await;

    let small = create(&server, "b-token", &origin.file(1_000, 1, "small.bin")).await;
    let small = small["id"].as_str().expect("an id");
    eventually("the other user's request is ready", async || {
        (status(&server, "b-token", small).await == "ready").then_some(())
    })
    .await;
    // The slow fetches still run, in half of the fetch slots.
    assert_eq!(origin.hits(), 11);
    let mut queued = 0;
    for request in &slow {
        queued += usize::from(status(&server, "a-token", request["id"].as_str().expect("an id")).await == "queued");
    }
    assert_eq!(queued, 90);
}

#[tokio::test]
async fn a_slow_host_uses_only_its_share_of_a_users_fetch_slots() {
    let settings = [("FETCHER__MAX_PER_HOST", "4"), ("FETCHER__READ_TIMEOUT", "600")];
    let server = TestServer::with(&[&USERS[..], &settings].concat()).await;
    let (slow, fast) = (Origin::start().await, Origin::start().await);
    for n in 0..20 {
        create(&server, "a-token", &slow.url(&format!("/silent/{n}")).replace("127.0.0.1", "localhost")).await;
    }
    let small = create(&server, "a-token", &fast.file(1_000, 1, "small.bin")).await;
    let small = small["id"].as_str().expect("an id");
    eventually("the request to another host is ready", async || {
        (status(&server, "a-token", small).await == "ready").then_some(())
    })
    .await;
    assert_eq!(slow.hits(), 4);
}

#[tokio::test]
async fn the_estimate_counts_the_requests_ahead_in_the_queue() {
    let settings = [("FETCHER__MAX_CONCURRENT", "2"), ("FETCHER__READ_TIMEOUT", "600")];
    let server = TestServer::with(&[&USERS[..], &settings].concat()).await;
    let origin = Origin::start().await;
    // The response takes a second.
    let first = create(&server, "a-token", &origin.url("/delayed/1000/1")).await;
    let first = first["id"].as_str().expect("an id");
    eventually("the request is ready", async || (status(&server, "a-token", first).await == "ready").then_some(()))
        .await;
    for n in 0..5 {
        create(&server, "a-token", &origin.url(&format!("/silent/{n}"))).await;
    }
    let own = create(&server, "a-token", &origin.url("/silent/5")).await["estimated_ready"].as_u64().expect("known");
    let others = create(&server, "b-token", &origin.url("/silent/6")).await["estimated_ready"].as_u64().expect("known");
    assert!(own >= 6 && others < own, "{own} {others}");
}
