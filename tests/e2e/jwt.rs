//! JSON Web Tokens of an OpenID provider as bearer tokens.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{ApiClient, Origin, TestServer, content, eventually, free_port, root, sha256, tool};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::process::{Child, Command};

use crate::raw::{Peer, Raw};

/// The OpenID provider `oidc-provider` of npm. It is stopped when it is dropped.
struct Issuer {
    _process: Child,
    _folder: TempDir,
    url: String,
}

impl Issuer {
    async fn start(port: u16, key_id: &str) -> Self {
        let (folder, url) = (tempfile::tempdir().unwrap(), format!("http://127.0.0.1:{port}"));
        std::os::unix::fs::symlink(root().join(".tools/node/node_modules"), folder.path().join("node_modules"))
            .unwrap();
        let script = folder.path().join("issuer.mjs");
        std::fs::copy(tool("issuer.mjs"), &script).unwrap();
        let mut command = Command::new("node");
        command.arg(script).arg(port.to_string()).arg(key_id).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let http = ApiClient::new(url.clone()).http;
        let discovery = format!("{url}/.well-known/openid-configuration");
        eventually("the issuer responds", async || http.get(&discovery).send().await.ok()).await;
        Self { _process: process, _folder: folder, url }
    }

    /// Returns an access token, by the grant of client credentials (RFC 6749, 4.4).
    async fn token(&self) -> String {
        let call = ApiClient::new(self.url.clone()).http.post(format!("{}/token", self.url));
        let call = call.basic_auth("app", Some("app-secret")).body("grant_type=client_credentials");
        let response = call.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        body["access_token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

/// Starts a server that accepts tokens of this issuer.
async fn server(issuer: &str, extra: &[(&str, &str)]) -> TestServer {
    let settings = [
        ("SECURITY__AUTH_ENABLED", "true"),
        ("SECURITY__JWT_ISSUER", issuer),
        ("SECURITY__JWT_AUDIENCE", "proxytorrent"),
        ("SECURITY__JWT_DIRECT", "true"),
    ];
    TestServer::with(&[&settings, extra].concat()).await
}

async fn status(server: &TestServer, token: &str) -> StatusCode {
    ApiClient::new(server.url.clone()).with_token(token).call(Method::GET, "/v1/requests", None).await.status()
}

#[tokio::test]
async fn a_token_of_an_openid_provider_is_that_of_its_user() {
    let (issuer, origin) = (Issuer::start(free_port(), "one").await, Origin::start().await);
    let mut server = server(&issuer.url, &[("SECURITY__JWT_USER_CLAIM", "preferred_username")]).await;
    let token = issuer.token().await;
    let alice = ApiClient::new(server.url.clone()).with_token(&token);
    let id = alice.create(json!({ "url": origin.file(10, 1, "a") })).await;
    alice.ready(&id).await;
    // The tracker accepts the passkey of a user whom no setting names.
    let downloaded = libtorrent(&alice.magnet(&id).await, &server.scratch("peer")).await;
    assert_eq!(downloaded, sha256(&content(10, 1)));

    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let root = URL_SAFE_NO_PAD.encode(r#"{"preferred_username":"root"}"#);
    for forged in [format!("{header}.{root}.{signature}"), format!("{head}."), "a.b.c".to_owned()] {
        assert_eq!(status(&server, &forged).await, StatusCode::UNAUTHORIZED, "{forged}");
    }

    // The same name is the same user, however it is authenticated.
    server.terminate().await;
    let server = server.restart_with(&[("SECURITY__BEARER_TOKENS", "alice:a-long-enough-token")]).await;
    let alice = ApiClient::new(server.url.clone()).with_token("a-long-enough-token");
    assert_eq!(alice.get(&id).await["id"], id);
}

#[tokio::test]
async fn keys_that_the_issuer_adds_are_found_and_those_that_it_removes_are_refused() {
    let port = free_port();
    let issuer = Issuer::start(port, "old").await;
    let server = server(&issuer.url, &[]).await;
    assert_eq!(status(&server, &issuer.token().await).await, StatusCode::OK);
    let old = issuer.token().await;
    drop(issuer);
    // No key is read for a token whose key is known.
    assert_eq!(status(&server, &old).await, StatusCode::OK);
    let issuer = Issuer::start(port, "new").await;
    let token = issuer.token().await;
    // The keys are read again at most every ten seconds.
    eventually("the new key is accepted", async || (status(&server, &token).await == StatusCode::OK).then_some(()))
        .await;
    assert_eq!(status(&server, &old).await, StatusCode::UNAUTHORIZED, "the issuer has withdrawn the old key");
}

#[tokio::test]
async fn without_its_issuer_a_token_cannot_be_verified() {
    let port = free_port();
    let server = server(&format!("http://127.0.0.1:{port}"), &[]).await;
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"one"}"#);
    let unverified = ApiClient::new(server.url.clone()).with_token(&format!("{header}.e30.AAAA"));
    let response = unverified.call(Method::GET, "/v1/requests", None).await;
    assert_eq!(
        (response.status(), &response.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"10".parse().unwrap())
    );
}

/// An issuer whose keys the test has.
struct TestIssuer {
    raw: Raw,
    key: KeyPair,
    reads: Arc<AtomicUsize>,
}

impl TestIssuer {
    async fn start() -> Self {
        Self::with_delay(Duration::ZERO).await
    }

    async fn with_delay(delay: Duration) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        // An uncompressed point: 4, x, y.
        let point = key.der_bytes().to_vec();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": x, "y": y });
        let mut for_encryption = jwk.clone();
        (for_encryption["kid"], for_encryption["use"]) = (json!("two"), json!("enc"));
        let symmetric = json!({ "kty": "oct", "kid": "shared", "k": URL_SAFE_NO_PAD.encode("secret") });
        let keys = json!({ "keys": [jwk, for_encryption, symmetric] }).to_string();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = reads.clone();
        let raw = Raw::start(move |mut peer: Peer| {
            let (keys, counted) = (keys.clone(), counted.clone());
            async move {
                let head = peer.request().await;
                let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
                let body = if head.starts_with("GET /keys ") {
                    counted.fetch_add(1, Ordering::Relaxed);
                    // A slow issuer.
                    tokio::time::sleep(delay).await;
                    keys
                } else {
                    json!({ "issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/keys") }).to_string()
                };
                let length = body.len();
                peer.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"))
                    .await;
            }
        })
        .await;
        Self { raw, key, reads }
    }

    fn url(&self) -> String {
        self.raw.url("")
    }

    fn sign(&self, key_id: &str, claims: &Value) -> String {
        self.sign_with(Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::ES256) }, claims)
    }

    fn sign_with(&self, header: Header, claims: &Value) -> String {
        encode(&header, claims, &EncodingKey::from_ec_der(&self.key.serialize_der())).unwrap()
    }

    /// Returns valid claims with these in place of others; null removes one.
    fn claims(&self, changes: Value) -> Value {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut claims = json!({ "iss": self.url(), "aud": "proxytorrent", "sub": "alice", "exp": now + 300 });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }
}

#[tokio::test]
async fn only_valid_tokens_of_the_issuer_for_this_service_are_accepted() {
    let issuer = TestIssuer::start().await;
    let server = server(&issuer.url(), &[]).await;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for good in [json!({}), json!({ "aud": ["other", "proxytorrent"] }), json!({ "nbf": now - 10 })] {
        assert_eq!(status(&server, &issuer.sign("one", &issuer.claims(good.clone()))).await, StatusCode::OK, "{good}");
    }
    for bad in [
        json!({ "iss": "https://other.example" }),
        json!({ "iss": null }),
        json!({ "aud": "other" }),
        json!({ "aud": null }),
        json!({ "exp": now - 120 }),
        json!({ "exp": null }),
        json!({ "nbf": now + 120 }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": "a\nb" }),
        json!({ "sub": ["alice"] }),
        json!({ "sub": " alice" }),
        json!({ "sub": "anonymous" }),
        json!({ "events": {} }),
    ] {
        let token = issuer.sign("one", &issuer.claims(bad.clone()));
        assert_eq!(status(&server, &token).await, StatusCode::UNAUTHORIZED, "{bad}");
    }
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
    let (logout, critical) = (Some("logout+jwt".to_owned()), Some(vec!["b64".to_owned()]));
    for (name, header, expected) in [
        ("one key can verify it", Header { kid: None, ..header.clone() }, StatusCode::OK),
        ("an access token", Header { typ: Some("at+jwt".to_owned()), ..header.clone() }, StatusCode::OK),
        ("a key for encryption", Header { kid: Some("two".to_owned()), ..header.clone() }, StatusCode::UNAUTHORIZED),
        ("a token of a logout", Header { typ: logout, ..header.clone() }, StatusCode::UNAUTHORIZED),
        ("an unknown extension", Header { crit: critical, ..header }, StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(status(&server, &issuer.sign_with(header, &issuer.claims(json!({})))).await, expected, "{name}");
    }
    // Unsigned, and signed with what everybody can know.
    let claims = issuer.claims(json!({}));
    let none =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut header = Header { kid: Some("shared".to_owned()), ..Header::new(Algorithm::HS256) };
    let symmetric = encode(&header, &claims, &EncodingKey::from_secret(b"secret")).unwrap();
    header.kid = Some("one".to_owned());
    let confused = encode(&header, &claims, &EncodingKey::from_secret(issuer.key.der_bytes())).unwrap();
    for forged in [none, symmetric, confused] {
        assert_eq!(status(&server, &forged).await, StatusCode::UNAUTHORIZED, "{forged}");
    }
}

/// Anybody can send such tokens.
#[tokio::test]
async fn tokens_with_unknown_keys_do_not_make_the_server_read_the_keys_again_and_again() {
    let issuer = TestIssuer::start().await;
    let server = server(&issuer.url(), &[]).await;
    let started = Instant::now();
    for key in 0..20 {
        let token = issuer.sign(&format!("unknown-{key}"), &issuer.claims(json!({})));
        assert_eq!(status(&server, &token).await, StatusCode::UNAUTHORIZED);
    }
    // Once, and once more every ten seconds.
    let most = 1 + usize::try_from(started.elapsed().as_secs() / 10).unwrap();
    assert!((1..=most).contains(&issuer.reads.load(Ordering::Relaxed)));
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_stop_the_keys_from_being_read() {
    let issuer = TestIssuer::with_delay(Duration::from_secs(1)).await;
    let server = server(&issuer.url(), &[]).await;
    let token = issuer.sign("one", &issuer.claims(json!({})));
    let call = server.http.get(format!("{}/v1/requests", server.url)).bearer_auth(&token);
    let impatient = call.timeout(Duration::from_millis(200)).send().await;
    assert!(impatient.is_err_and(|error| error.is_timeout()));
    assert_eq!(status(&server, &token).await, StatusCode::OK);
    assert_eq!(issuer.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_keys_are_read_through_the_proxy() {
    let proxy = Raw::start(async |mut peer: Peer| {
        peer.request().await;
        peer.send("HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let port = proxy.url("").rsplit(':').next().unwrap().to_owned();
    let settings = [
        ("SECURITY__JWT_DIRECT", "false"),
        ("PROXY__PROXY_ENABLED", "true"),
        ("PROXY__PROXY_TYPE", "http"),
        ("PROXY__PROXY_HOST", "127.0.0.1"),
        ("PROXY__PROXY_PORT", port.as_str()),
    ];
    let server = server("https://auth.example/realm", &settings).await;
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"one"}"#);
    assert_eq!(status(&server, &format!("{header}.e30.AAAA")).await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(proxy.seen().iter().any(|head| head.starts_with("CONNECT auth.example:443 ")), "{:?}", proxy.seen());
}
