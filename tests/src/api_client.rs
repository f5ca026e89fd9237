//! A client of the REST API.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use url::Url;

use crate::process::{POLL, eventually_every};

/// A client of the REST API of one service.
#[derive(Debug, Clone)]
pub struct ApiClient {
    /// The base URL of the service, without a slash at the end.
    pub url: String,
    /// The HTTP client, for other kinds of calls.
    pub http: reqwest::Client,
    token: Option<String>,
    poll: Duration,
    long_poll: bool,
}

impl ApiClient {
    /// Returns a client without credentials.
    pub fn new(url: String) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redirect = reqwest::redirect::Policy::none();
        let http = reqwest::Client::builder().no_proxy().redirect(redirect).build().expect("a client");
        Self { url, http, token: None, poll: POLL, long_poll: false }
    }

    /// Returns the client with a bearer token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Returns the client with another HTTP client.
    #[must_use]
    pub fn with_http(self, http: reqwest::Client) -> Self {
        Self { http, ..self }
    }

    /// Returns the client with another polling interval.
    #[must_use]
    pub fn polling_every(self, poll: Duration) -> Self {
        Self { poll, ..self }
    }

    /// Returns the client with long polls: calls that wait up to ten seconds for a change.
    #[must_use]
    pub fn with_long_polls(self) -> Self {
        Self { long_poll: true, ..self }
    }

    /// Calls the API and returns the response.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.expect("a response")
    }

    /// Calls the API and returns the body of the response as JSON. Panics unless the call succeeded.
    pub async fn json(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let response = self.call(method, path, body).await;
        let status = response.status();
        let bytes = response.bytes().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// Creates a request and returns its id.
    pub async fn create(&self, body: Value) -> String {
        let created = self.json(Method::POST, "/v1/requests", Some(body)).await;
        created["id"].as_str().expect("an id").to_owned()
    }

    /// Returns the request as the API shows it.
    pub async fn get(&self, id: &str) -> Value {
        self.json(Method::GET, &format!("/v1/requests/{id}"), None).await
    }

    /// Waits until the request is ready and returns it. Panics if it ended otherwise.
    pub async fn ready(&self, id: &str) -> Value {
        let row = self.ended_or_ready(id).await;
        assert_eq!(row["status"], "ready", "{row:#}");
        row
    }

    /// Waits until the request has failed and returns it. Panics if it ended otherwise.
    pub async fn failed(&self, id: &str) -> Value {
        let row = self.ended_or_ready(id).await;
        assert_eq!(row["status"], "failed", "{row:#}");
        row
    }

    async fn ended_or_ready(&self, id: &str) -> Value {
        self.until(id, |row| matches!(row["status"].as_str(), Some("ready" | "failed" | "cancelled" | "expired"))).await
    }

    /// Waits until `wanted` is true for the request, and returns the request.
    pub async fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually_every(self.poll, "the request has the expected state", async || {
            let wait = if self.long_poll { "?wait=10" } else { "" };
            let row = self.json(Method::GET, &format!("/v1/requests/{id}{wait}"), None).await;
            wanted(&row).then_some(row)
        })
        .await
    }

    /// Creates a request for a URL, waits until it is ready, and returns it.
    pub async fn fetch(&self, url: &str) -> Value {
        let id = self.create(json!({ "url": url })).await;
        self.ready(&id).await
    }

    /// Returns the `.torrent` file of a ready request.
    pub async fn torrent(&self, id: &str) -> Vec<u8> {
        let response = self.call(Method::GET, &format!("/v1/requests/{id}/torrent"), None).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-bittorrent");
        response.bytes().await.expect("a torrent").into()
    }

    /// Returns the magnet link of a ready request.
    pub async fn magnet(&self, id: &str) -> String {
        let magnet = self.json(Method::GET, &format!("/v1/requests/{id}/magnet"), None).await;
        magnet["magnet_link"].as_str().expect("a link").to_owned()
    }

    /// Returns the URL of the webseed in the magnet link of a ready request, if there is one.
    pub async fn webseed(&self, id: &str) -> Option<String> {
        let magnet = Url::parse(&self.magnet(id).await).expect("a link");
        magnet.query_pairs().find(|(name, _)| name == "ws").map(|(_, url)| url.into_owned())
    }
}

/// Returns the body of a response as JSON.
pub async fn read_json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}
