//! Hostile and broken origins: each request fails with its error code, within the limits, and leaves no staged
//! upload.

use std::time::{Duration, Instant};

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use proxytorrent_tests::TestServer;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::raw::{Authority, Peer, Raw};

/// The read timeout is long, because the origin of the test compresses its bombs on the same processors.
const LIMITS: [(&str, &str); 4] = [
    ("FETCHER__MAX_SIZE", "1000000"),
    ("FETCHER__READ_TIMEOUT", "60"),
    ("FETCHER__CONNECT_TIMEOUT", "2"),
    ("FETCHER__MAX_RETRIES", "0"),
];

fn answer(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{headers}\r\n").as_bytes(), body].concat()
}

/// Sends the same bytes until the peer closes the connection.
async fn forever(peer: &mut Peer, bytes: &[u8]) {
    while peer.send(bytes).await {}
}

macro_rules! encoded {
    ($encoder:ident, $content:expr) => {{
        let mut encoder = $encoder::new(vec![]);
        encoder.write_all($content).await.expect("encoded");
        encoder.shutdown().await.expect("encoded");
        encoder.into_inner()
    }};
}

async fn encoded(coding: &str, content: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => encoded!(GzipEncoder, content),
        "deflate" => encoded!(ZlibEncoder, content),
        "br" => encoded!(BrotliEncoder, content),
        "zstd" => encoded!(ZstdEncoder, content),
        other => panic!("{other} is not a content coding"),
    }
}

/// Serves one connection of the hostile origin. The path selects the behavior.
#[expect(clippy::too_many_lines, reason = "a table of hostile responses")]
async fn hostile_origin(mut peer: Peer) {
    let head = peer.request().await;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let kilobyte = [b'x'; 1024];
    match path.trim_start_matches('/') {
        "endless-chunks" => {
            peer.send(answer("Transfer-Encoding: chunked\r\n", b"")).await;
            forever(&mut peer, &[b"400\r\n", &kilobyte[..], b"\r\n"].concat()).await;
        }
        "endless" => {
            peer.send(answer("", b"")).await;
            forever(&mut peer, &kilobyte).await;
        }
        "huge-length" => {
            peer.send(answer("Content-Length: 999999999999\r\n", b"x")).await;
            peer.closed().await;
        }
        "length-too-long" => {
            peer.send(answer("Content-Length: 100\r\n", &[b'x'; 50])).await;
        }
        "length-too-short" => {
            peer.send(answer("Content-Length: 5\r\n", b"0123456789")).await;
        }
        "two-lengths" => {
            peer.send(answer("Content-Length: 5\r\nContent-Length: 7\r\n", b"0123456")).await;
        }
        "slow-headers" => {
            for byte in answer("X-A: b\r\n", b"").iter().cycle() {
                // The rate of the origin.
                tokio::time::sleep(Duration::from_millis(200)).await;
                if !peer.send([*byte]).await {
                    break;
                }
            }
        }
        "continue-forever" => forever(&mut peer, b"HTTP/1.1 100 Continue\r\n\r\n").await,
        "header-flood" => {
            peer.send("HTTP/1.1 200 OK\r\n").await;
            forever(&mut peer, b"X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").await;
        }
        "one-long-header" => {
            peer.send("HTTP/1.1 200 OK\r\nX-Long: ").await;
            forever(&mut peer, &kilobyte).await;
        }
        "bad-chunk" => {
            peer.send(answer("Transfer-Encoding: chunked\r\n", b"5\r\n01234\r\nnonsense\r\n")).await;
        }
        "chunk-overflow" => {
            peer.send(answer("Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\n0")).await;
        }
        "last-chunk-missing" => {
            peer.send(answer("Transfer-Encoding: chunked\r\n", b"5\r\n01234\r\n")).await;
        }
        "not-http" => {
            peer.send("220 mail.example.org ESMTP\r\n").await;
            peer.closed().await;
        }
        "closed-at-once" => {}
        "closed-in-headers" => {
            peer.send("HTTP/1.1 200 OK\r\nContent-Ty").await;
        }
        "http-1.0" => {
            peer.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold").await;
        }
        "partial" => {
            peer.send("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/10\r\nContent-Length: 3\r\n\r\nabc")
                .await;
        }
        "redirect-nowhere" => {
            peer.send("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n").await;
        }
        "redirect-chain" => {
            peer.send("HTTP/1.1 302 Found\r\nLocation: /redirect-chain\r\nContent-Length: 0\r\n\r\n").await;
        }
        "redirect-credentials" => {
            peer.send("HTTP/1.1 302 Found\r\nLocation: http://u:p@127.0.0.1:6379/\r\nContent-Length: 0\r\n\r\n").await;
        }
        "html-as-image" => {
            let html = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n<!DOCTYPE html><html><script>1</script>";
            peer.send(html).await;
        }
        "tiny-chunks" => {
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            peer.send("1\r\na\r\n".repeat(200_000)).await;
        }
        "empty-gzips" => {
            peer.send(answer("Content-Encoding: gzip\r\n", b"")).await;
            let empty = encoded("gzip", b"").await.repeat(100);
            forever(&mut peer, &empty).await;
        }
        "broken-gzip" => {
            let gzip = encoded("gzip", b"content").await;
            peer.send(answer("Content-Encoding: gzip\r\n", &gzip[..gzip.len() - 4])).await;
        }
        "transfer-coding" => {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\ncoded?").await;
        }
        "unknown-coding" => {
            peer.send(answer("Content-Encoding: rot13\r\n", b"pbagrag")).await;
        }
        "wrong-digest" => {
            let other = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
            peer.send(answer(&format!("Repr-Digest: {other}\r\nContent-Length: 1\r\n"), b"x")).await;
        }
        "good-digest" => {
            let md5 = "XUFAKrxLKna5cZ2REBfFkg==";
            peer.send(answer(&format!("Content-MD5: {md5}\r\nContent-Length: 5\r\n"), b"hello")).await;
        }
        other => match other.split_once('/') {
            Some(("bomb", coding)) => {
                let bomb = encoded(coding, &vec![0; 20_000_000]).await;
                peer.send(answer(&format!("Content-Encoding: {coding}\r\n"), &bomb)).await;
            }
            Some(("nested-bomb", coding)) => {
                let inner = encoded(coding, &vec![0; 20_000_000]).await;
                let bomb = encoded("gzip", &inner).await;
                peer.send(answer(&format!("Content-Encoding: {coding}, gzip\r\n"), &bomb)).await;
            }
            Some(("encoded", coding)) => {
                let body = encoded(coding, &b"content ".repeat(1000)).await;
                peer.send(answer(&format!("Content-Encoding: {coding}\r\n"), &body)).await;
            }
            Some(("status", status)) => {
                let status = format!("HTTP/1.1 {status} Some\r\nContent-Type: text/plain\r\n");
                let body = if status.contains("204") || status.contains("304") { "" } else { "an error page" };
                peer.send(format!("{status}Content-Length: {}\r\n\r\n{body}", body.len())).await;
            }
            _ => panic!("unknown path: {other}"),
        },
    }
}

#[tokio::test]
async fn the_server_does_not_fetch_from_itself_under_any_name() {
    let server = TestServer::with(&[("FETCHER__ALLOW_NETWORKS", "127.0.0.1/32,::1/128")]).await;
    let port = server.url.rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let seeder = server.seeder.rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]"] {
        for port in [&port, &seeder] {
            let id = server.create(json!({ "url": format!("http://{host}:{port}/v1/health") })).await;
            let row = server.failed(&id).await;
            assert_eq!(row["error_code"], "blocked_address", "{host}: {row:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_response_fails_with_its_error_code() {
    let (server, origin) = (TestServer::with(&LIMITS).await, Raw::start(hostile_origin).await);
    let cases = [
        ("endless-chunks", "too_large"),
        ("endless", "too_large"),
        ("huge-length", "too_large"),
        ("length-too-long", "transfer_broken"),
        ("two-lengths", "bad_response"),
        ("header-flood", "bad_response"),
        ("one-long-header", "bad_response"),
        ("bad-chunk", "bad_response"),
        ("chunk-overflow", "bad_response"),
        ("last-chunk-missing", "transfer_broken"),
        ("not-http", "bad_response"),
        ("closed-at-once", "transfer_broken"),
        ("closed-in-headers", "transfer_broken"),
        ("partial", "origin_status"),
        ("status/204", "origin_status"),
        ("status/205", "origin_status"),
        ("status/304", "origin_status"),
        ("status/300", "origin_status"),
        ("status/403", "origin_status"),
        ("status/500", "origin_unavailable"),
        ("redirect-nowhere", "bad_redirect"),
        ("redirect-chain", "too_many_redirects"),
        ("redirect-credentials", "blocked_port"),
        ("html-as-image", "media_type_not_allowed"),
        ("bomb/gzip", "too_large"),
        ("bomb/deflate", "too_large"),
        ("bomb/br", "too_large"),
        ("bomb/zstd", "too_large"),
        ("nested-bomb/gzip", "bad_encoding"),
        ("nested-bomb/br", "bad_encoding"),
        ("tiny-chunks", "transfer_broken"),
        ("empty-gzips", "too_large"),
        ("broken-gzip", "bad_encoding"),
        ("unknown-coding", "bad_encoding"),
        ("transfer-coding", "bad_encoding"),
        ("wrong-digest", "checksum_mismatch"),
    ];
    // Concurrently: the requests must not affect each other either.
    let rows = futures::future::join_all(cases.iter().map(async |(path, _)| {
        let id = server.create(json!({ "url": origin.url(&format!("/{path}")) })).await;
        server.failed(&id).await
    }))
    .await;
    for ((path, code), row) in cases.iter().zip(rows) {
        assert_eq!(row["error_code"], *code, "{path}: {row:#}");
        assert!(row["content_hash"].is_null(), "{path}");
    }
    assert_eq!(server.files("content"), Vec::<std::path::PathBuf>::new());
    assert!(server.memory_mb("VmHWM") < 150.0, "peak memory: {} MB", server.memory_mb("VmHWM"));
}

#[tokio::test]
async fn a_response_whose_head_does_not_end_fails_at_the_read_timeout() {
    let limits = [("FETCHER__READ_TIMEOUT", "2"), ("FETCHER__MAX_RETRIES", "0")];
    let (server, origin) = (TestServer::with(&limits).await, Raw::start(hostile_origin).await);
    for path in ["/slow-headers", "/continue-forever"] {
        let id = server.create(json!({ "url": origin.url(path) })).await;
        assert_eq!(server.failed(&id).await["error_code"], "read_timeout", "{path}");
    }
}

#[tokio::test]
async fn unusual_but_valid_responses_are_fetched() {
    let (server, origin) = (TestServer::with(&LIMITS).await, Raw::start(hostile_origin).await);
    let hash = |content: &[u8]| Value::from(proxytorrent_tests::sha256(content));
    assert_eq!(server.fetch(&origin.url("/http-1.0")).await["content_hash"], hash(b"old"));
    assert_eq!(server.fetch(&origin.url("/length-too-short")).await["content_hash"], hash(b"01234"));
    assert_eq!(server.fetch(&origin.url("/good-digest")).await["content_hash"], hash(b"hello"));
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let row = server.fetch(&origin.url(&format!("/encoded/{coding}"))).await;
        assert_eq!(row["content_hash"], hash(&b"content ".repeat(1000)), "{coding}");
    }
}

#[tokio::test]
async fn a_transfer_of_one_byte_per_second_fails_within_thirty_seconds() {
    let server = TestServer::with(&[("FETCHER__MAX_RETRIES", "0")]).await;
    let origin = Raw::start(async |mut peer: Peer| {
        peer.request().await;
        peer.send(answer("Content-Length: 1000\r\n", b"")).await;
        while peer.send(b"x").await {
            // The rate of the origin.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let started = Instant::now();
    let id = server.create(json!({ "url": origin.url("/") })).await;
    assert_eq!(server.failed(&id).await["error_code"], "too_slow");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn certificates_must_be_valid_unless_verification_is_disabled() {
    let authority = Authority::new();
    let page = async |mut peer: Peer| {
        peer.request().await;
        peer.send(answer("Content-Length: 6\r\n", b"secret")).await;
    };
    let good = Raw::with(Some(authority.server("127.0.0.1", |_| {})), page).await;
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let bad = [
        Raw::with(Some(authority.server("127.0.0.1", expired)), page).await,
        Raw::with(Some(authority.server("other.example", |_| {})), page).await,
        Raw::with(Some(Authority::new().server("127.0.0.1", |_| {})), page).await,
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = folder.path().join("authority.pem");
    std::fs::write(&trusted, authority.pem()).expect("written");
    let trusted = ("SSL_CERT_FILE", trusted.to_str().expect("a path"));
    let url = |origin: &Raw| format!("https://{}/", origin.address);

    let server = TestServer::with(&[trusted]).await;
    server.fetch(&url(&good)).await;
    for origin in &bad {
        let id = server.create(json!({ "url": url(origin) })).await;
        assert_eq!(server.failed(&id).await["error_code"], "tls_failed");
        assert_eq!(origin.seen(), Vec::<String>::new(), "no request is sent");
    }
    let plain = Raw::start(async |mut peer: Peer| {
        peer.send(answer("Content-Length: 6\r\n", b"secret")).await;
        peer.closed().await;
    })
    .await;
    let id = server.create(json!({ "url": url(&plain) })).await;
    assert_eq!(server.failed(&id).await["error_code"], "tls_failed", "the origin does not use TLS");

    let careless = TestServer::with(&[trusted, ("FETCHER__VERIFY_SSL", "false")]).await;
    for origin in &bad {
        careless.fetch(&url(origin)).await;
    }
}

#[tokio::test]
async fn credentials_are_sent_only_to_their_origin() {
    let page = async |mut peer: Peer| {
        peer.request().await;
        peer.send(answer("Content-Length: 4\r\n", b"page")).await;
    };
    let elsewhere = Raw::start(page).await;
    let target = elsewhere.url("/there");
    let origin = Raw::start(move |mut peer: Peer| {
        let target = target.clone();
        async move {
            // Redirects within the same origin first, then to another origin.
            for target in ["/again", &target] {
                peer.request().await;
                peer.send(format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n")).await;
            }
        }
    })
    .await;
    let server = TestServer::with(&[("FETCHER__ALLOW_CREDENTIAL_HEADERS", "true")]).await;
    let headers = json!({ "Authorization": "Bearer a", "Cookie": "b=c", "X-Api-Key": "d", "Accept-Language": "de" });
    let id = server.create(json!({ "url": origin.url("/"), "headers": headers })).await;
    server.ready(&id).await;
    let [first, again] = &origin.seen()[..] else { panic!("{:?}", origin.seen()) };
    for head in [first, again] {
        for sent in ["authorization: Bearer a", "cookie: b=c", "x-api-key: d", "accept-language: de"] {
            assert!(head.contains(sent), "{sent}: {head}");
        }
    }
    let there = &elsewhere.seen()[0];
    assert!(there.contains("accept-language: de"), "{there}");
    for kept in ["authorization", "cookie", "x-api-key"] {
        assert!(!there.contains(kept), "{kept}: {there}");
    }
}
