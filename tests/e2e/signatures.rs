//! Request signing (HMAC): with signatures made by the test, by the command line, and by the documented examples.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use proxytorrent_tests::documents::code_blocks;
use proxytorrent_tests::nginx::behind_nginx;
use proxytorrent_tests::{Origin, TestServer, program, python, read_json};
use reqwest::{Method, Response};
use serde_json::Value;
use sha2::Sha256;

const AUTH: [(&str, &str); 3] = [
    ("SECURITY__AUTH_ENABLED", "true"),
    ("SECURITY__HMAC_SECRET", "a secret"),
    ("SECURITY__HMAC_KEYS", "alice:her secret,bob:his secret"),
];

/// The body of a request for a closed port. The tests do not depend on the outcome of the fetch.
const BODY: &str = r#"{"url": "http://127.0.0.1:9/"}"#;

fn hmac(key: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

struct Signed<'a> {
    key_id: Option<&'a str>,
    key: &'a str,
    method: Method,
    path: &'a str,
    timestamp: u64,
    nonce: &'a str,
    body: &'a str,
}

impl<'a> Signed<'a> {
    fn new(nonce: &'a str) -> Self {
        let (key_id, key) = (None, "a secret");
        Self { key_id, key, method: Method::POST, path: "/v1/requests", timestamp: now(), nonce, body: BODY }
    }

    fn signature(&self) -> String {
        let digest = proxytorrent_tests::sha256(self.body.as_bytes());
        let text = format!("{}\n{}\n{}\n{}\n{digest}", self.method, self.path, self.timestamp, self.nonce);
        hmac(self.key, text.as_bytes())
    }

    async fn send(&self, server: &TestServer, signature: &str) -> u16 {
        self.answer(server, signature).await.status().as_u16()
    }

    async fn answer(&self, server: &TestServer, signature: &str) -> Response {
        let mut request = server
            .http
            .request(self.method.clone(), format!("{}{}", server.url, self.path))
            .header("content-type", "application/json")
            .header("x-signature", signature)
            .header("x-timestamp", self.timestamp)
            .header("x-nonce", self.nonce)
            .body(self.body.to_owned());
        if let Some(id) = self.key_id {
            request = request.header("x-key-id", id);
        }
        request.send().await.unwrap()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_signed_request_is_accepted_once_and_only_unchanged() {
    let server = TestServer::with(&AUTH).await;
    let body = BODY;
    let signed = |nonce, path, body| Signed { path, body, ..Signed::new(nonce) };

    let good = signed("nonce-number-1", "/v1/requests", body);
    let signature = good.signature();
    assert_eq!(good.send(&server, &signature).await, 201);
    assert_eq!(good.send(&server, &signature).await, 401, "a replay");
    let server = server.crash_and_restart().await;
    assert_eq!(good.send(&server, &signature).await, 401, "a replay after a restart");

    let fresh = signed("nonce-number-2", "/v1/requests", body);
    let signature = fresh.signature();
    let swaps = [
        Signed { body: r#"{"url": "http://127.0.0.1:9/other"}"#, ..signed("nonce-number-2", "/v1/requests", body) },
        Signed { path: "/v1/requests?x=1", ..signed("nonce-number-2", "/v1/requests", body) },
        Signed { nonce: "nonce-number-3", ..signed("nonce-number-2", "/v1/requests", body) },
        Signed { timestamp: fresh.timestamp + 1, ..signed("nonce-number-2", "/v1/requests", body) },
    ];
    for swap in swaps {
        assert_eq!(swap.send(&server, &signature).await, 401, "{} {}", swap.method, swap.path);
    }
    let old = Signed { timestamp: now() - 301, ..signed("nonce-number-4", "/v1/requests", body) };
    assert_eq!(old.send(&server, &old.signature()).await, 401);
    assert_eq!(fresh.send(&server, &signature).await, 201, "failed calls do not use up the nonce");

    let read = Signed { method: Method::GET, body: "", ..signed("nonce-number-5", "/v1/requests/x", "") };
    let signature = read.signature();
    let delete = Signed { method: Method::DELETE, ..read };
    assert_eq!(delete.send(&server, &signature).await, 401, "another method");
    let read = Signed { method: Method::GET, ..delete };
    assert_eq!(read.send(&server, &signature).await, 404, "an empty body can be signed");
}

#[tokio::test]
async fn each_key_is_a_separate_user() {
    let server = TestServer::with(&AUTH).await;
    let alice = Signed { key_id: Some("alice"), key: "her secret", ..Signed::new("nonce-number-1") };
    let created = alice.answer(&server, &alice.signature()).await;
    assert_eq!(created.status(), 201);
    let path = created.headers()["location"].to_str().unwrap().to_owned();
    let read =
        |key_id, key, nonce| Signed { method: Method::GET, path: &path, body: "", key_id, key, ..Signed::new(nonce) };
    let cases = [
        (Some("alice"), "her secret", 200),
        (Some("bob"), "his secret", 404),
        (None, "a secret", 404),
        (Some("bob"), "her secret", 401),
        (None, "her secret", 401),
        (Some("carol"), "her secret", 401),
    ];
    for (key_id, key, status) in cases {
        let request = read(key_id, key, "nonce-number-2");
        assert_eq!(request.send(&server, &request.signature()).await, status, "{key_id:?} {key}");
    }
    let told = async |id| {
        let request = read(Some(id), "wrong", "nonce-number-3");
        read_json(request.answer(&server, &request.signature()).await).await["detail"].clone()
    };
    assert_eq!(told("alice").await, told("carol").await, "the response does not reveal whether a key exists");
}

#[tokio::test]
async fn a_legacy_signature_over_the_body_is_accepted_only_if_enabled() {
    let post = async |server: &TestServer, signature: String| {
        let request = server.http.post(format!("{}/v1/requests", server.url)).body(BODY);
        let request = request.header("content-type", "application/json").header("x-signature", signature);
        request.send().await.unwrap().status().as_u16()
    };
    let server = TestServer::with(&AUTH).await;
    assert_eq!(post(&server, hmac("a secret", BODY.as_bytes())).await, 401);
    let legacy = TestServer::with(&[&AUTH[..], &[("SECURITY__LEGACY_HMAC", "true")]].concat()).await;
    assert_eq!(post(&legacy, hmac("a secret", BODY.as_bytes())).await, 201);
    let list = legacy.http.get(format!("{}/v1/requests", legacy.url)).header("x-signature", hmac("a secret", b""));
    assert_eq!(list.send().await.unwrap().status(), 200, "an empty body can be signed too");
    assert_eq!(post(&legacy, hmac("her secret", BODY.as_bytes())).await, 401);
    assert_eq!(post(&legacy, hmac("a secret", b"another body")).await, 401);
}

async fn ran(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").envs(environment.iter().copied());
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn the_command_line_signs_calls_and_lists_requests() {
    let (server, origin) = (TestServer::with(&AUTH).await, Origin::start().await);
    let folder = server.scratch("out");
    let key =
        [("CLIENT__SERVER", server.url.as_str()), ("CLIENT__KEY_ID", "alice"), ("CLIENT__KEY_SECRET", "her secret")];
    let proxytorrent = async |arguments: &[&str]| ran(&program(), arguments, &key).await;
    for n in 0..3 {
        proxytorrent(&["get", &origin.file(10, n, &format!("{n}.bin")), "-o", folder.to_str().unwrap()]).await;
    }
    let lines = proxytorrent(&["list"]).await;
    for (line, n) in lines.lines().zip([2, 1, 0]) {
        let [id, "ready", "10", created, name] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let row: Value = serde_json::from_str(&proxytorrent(&["status", id]).await).unwrap();
        assert_eq!((&row["created_at"], name), (&created.into(), format!("{n}.bin").as_str()));
    }
    assert_eq!(lines.lines().count(), 3);
    assert_eq!(proxytorrent(&["list", "--status", "failed"]).await, "");
    let line = proxytorrent(&["list", "-n", "1", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["file_name"], "2.bin");
}

#[tokio::test]
async fn the_command_line_signs_calls_under_a_path_prefix_and_an_api_prefix() {
    let (_server, _nginx, public) = behind_nginx(&[&AUTH[..], &[("API_PREFIX", "/api")]].concat()).await;
    let list = async |settings: &[(&str, &str)]| {
        let key = [("CLIENT__SERVER", &*public), ("CLIENT__KEY_ID", "alice"), ("CLIENT__KEY_SECRET", "her secret")];
        ran(&program(), &["list"], &[&key[..], settings].concat()).await
    };
    for prefix in ["/api", "api", "/api/"] {
        assert_eq!(list(&[("CLIENT__API_PREFIX", prefix)]).await, "");
    }
    let with_slash = format!("{public}/");
    assert_eq!(list(&[("CLIENT__API_PREFIX", "/api"), ("CLIENT__SERVER", &with_slash)]).await, "");
}

#[tokio::test]
async fn the_command_line_calls_a_server_without_an_api_prefix() {
    let server = TestServer::with(&[&AUTH[..], &[("API_PREFIX", "/")]].concat()).await;
    let key = [("CLIENT__SERVER", &*server.url), ("CLIENT__KEY_ID", "alice"), ("CLIENT__KEY_SECRET", "her secret")];
    assert_eq!(ran(&program(), &["list"], &[&key[..], &[("CLIENT__API_PREFIX", "/")]].concat()).await, "");
}

#[tokio::test]
async fn the_documented_examples_sign_calls() {
    let server = TestServer::with(&AUTH).await;
    let environment =
        [("SERVER", server.url.as_str()), ("KEY_ID", "bob"), ("KEY", "his secret"), ("URL", "http://127.0.0.1:9/")];
    for (program, language) in [(Path::new("/bin/bash"), "sh"), (&python(), "python")] {
        let block = code_blocks("docs/http-api.md", language).remove(0);
        let printed = ran(program, &["-c", &block], &environment).await;
        assert!(printed.contains("queued"), "{language}: {printed}");
    }
}
