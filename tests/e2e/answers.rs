//! HTTP responses: contents, webseeds, the OpenAPI document, CORS and security headers, metrics, retention.

use std::ops::Deref;

use metainfo::Value as Bencode;
use proxytorrent_tests::clients::{aria2, libtorrent, without_trackers};
use proxytorrent_tests::documents::keep_file;
use proxytorrent_tests::{Origin, TestServer, content, eventually, read_json, root, sha256};
use reqwest::{Method, Response};
use serde_json::{Value, json};

async fn ask(server: &TestServer, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = server.http.request(method, format!("{}{path}", server.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("a response")
}

/// Returns a header of a response. Panics if it is missing.
fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().expect("text")
}

#[tokio::test]
async fn content_is_served_whole_and_by_range_and_is_never_executed() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1_000_000, 1, "<b>.html")).await;
    let path = format!("/v1/requests/{}/content", row["id"].as_str().unwrap());
    let bytes = content(1_000_000, 1);
    let whole = ask(&server, Method::GET, &path, &[]).await;
    let etag = header(&whole, "etag").to_owned();
    assert_eq!((whole.status().as_u16(), header(&whole, "content-length")), (200, "1000000"));
    assert_eq!(header(&whole, "x-content-type-options"), "nosniff");
    assert!(header(&whole, "content-security-policy").starts_with("sandbox"));
    assert!(header(&whole, "content-disposition").starts_with("attachment; filename="));
    assert!(header(&whole, "repr-digest").starts_with("sha-256=:"));
    assert_eq!(whole.bytes().await.unwrap(), bytes);

    let head = ask(&server, Method::HEAD, &path, &[]).await;
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "1000000"));
    assert_eq!(head.bytes().await.unwrap().len(), 0);

    for (range, first, last) in
        [("bytes=0-0", 0, 0), ("bytes=500000-", 500_000, 999_999), ("bytes=-7", 999_993, 999_999)]
    {
        let part = ask(&server, Method::GET, &path, &[("range", range), ("if-range", &etag)]).await;
        assert_eq!(
            (part.status().as_u16(), header(&part, "content-range")),
            (206, format!("bytes {first}-{last}/1000000").as_str())
        );
        assert_eq!(part.bytes().await.unwrap(), bytes[first..=last]);
    }
    let changed = ask(&server, Method::GET, &path, &[("range", "bytes=0-0"), ("if-range", "\"another\"")]).await;
    assert_eq!(changed.status(), 200, "a different ETag gets the whole content");
    let outside = ask(&server, Method::GET, &path, &[("range", "bytes=1000000-")]).await;
    assert_eq!((outside.status().as_u16(), header(&outside, "content-range")), (416, "bytes */1000000"));
    assert_eq!(read_json(outside).await["code"], "range_not_satisfiable");
    assert_eq!(ask(&server, Method::GET, &path, &[("if-none-match", &etag)]).await.status(), 304);
}

/// Returns the path of the webseed in a request's magnet link.
async fn webseed_path(server: &TestServer, id: &str) -> Option<String> {
    let webseed = server.webseed(id).await?;
    Some(webseed.strip_prefix(&server.url).expect("on this server").to_owned())
}

#[tokio::test]
async fn a_webseed_without_tls_is_off_by_default_while_encryption_is_forced() {
    let origin = Origin::start().await;
    for (encryption, has_webseed) in [("forced", false), ("preferred", true)] {
        let server = TestServer::with(&[("TORRENT__WEBSEED", ""), ("TORRENT__ENCRYPTION", encryption)]).await;
        let row = server.fetch(&origin.file(1_000, 1, "a.bin")).await;
        let id = row["id"].as_str().unwrap();
        assert_eq!(webseed_path(&server, id).await.is_some(), has_webseed, "{encryption}");
        let torrent = Bencode::decode(&server.torrent(id).await).unwrap();
        assert_eq!(torrent.get("url-list").is_some(), has_webseed, "{encryption}");
    }
    let cdn = [("TORRENT__WEBSEED", ""), ("TORRENT__WEBSEED_URL", "https://cdn.example.org/pt/")];
    let server = TestServer::with(&cdn).await;
    let row = server.fetch(&origin.file(1_000, 1, "a.bin")).await;
    let magnet = server.magnet(row["id"].as_str().unwrap()).await;
    assert!(magnet.contains("&ws=https%3A%2F%2Fcdn.example.org%2Fpt%2Fwebseed%2F"), "{magnet}");
}

#[tokio::test]
async fn webseeds_keep_the_upload_limit_and_are_counted() {
    const LIMIT: usize = 1_000_000;
    let limit = LIMIT.to_string();
    let settings = [("TORRENT__WEBSEED", "true"), ("TORRENT__UPLOAD_RATE_LIMIT", limit.as_str())];
    let (server, origin) = (TestServer::with(&settings).await, Origin::start().await);
    let row = server.fetch(&origin.file(2 * LIMIT, 1, "a.bin")).await;
    let path = webseed_path(&server, row["id"].as_str().unwrap()).await.expect("a webseed");
    let started = std::time::Instant::now();
    let bodies = [1, 2].map(|_| async { ask(&server, Method::GET, &path, &[]).await.bytes().await.unwrap() });
    for body in futures::future::join_all(bodies).await {
        assert_eq!(sha256(&body), sha256(&content(2 * LIMIT, 1)));
    }
    // Two downloads of two seconds each share the limit.
    assert!(started.elapsed().as_secs_f64() > 3.5, "{:?}", started.elapsed());
    let metrics = server.call(Method::GET, "/metrics", None).await.text().await.unwrap();
    let sent = format!("proxytorrent_webseed_bytes_total {}", 4 * LIMIT);
    assert!(metrics.lines().any(|line| line == sent), "{metrics}");
}

#[tokio::test]
async fn the_webseed_alone_serves_real_clients_until_the_request_ends() {
    let (server, origin) = (TestServer::with(&[("TORRENT__WEBSEED", "true")]).await, Origin::start().await);
    let row = server.fetch(&origin.file(2_000_000, 1, "a.bin")).await;
    let id = row["id"].as_str().unwrap();
    let file = server.scratch("torrents").join("webseed.torrent");
    std::fs::write(&file, without_trackers(&server.torrent(id).await)).unwrap();
    let (file, expected) = (file.to_str().unwrap(), sha256(&content(2_000_000, 1)));
    assert_eq!(aria2(file, &server.scratch("aria2"), "a.bin").await, expected);
    assert_eq!(libtorrent(file, &server.scratch("libtorrent")).await, expected);

    let path = webseed_path(&server, id).await.expect("a webseed");
    assert_eq!(ask(&server, Method::GET, &path, &[]).await.status(), 200);
    let head = ask(&server, Method::HEAD, &path, &[]).await;
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "2000000"));
    let part = ask(&server, Method::GET, &path, &[("range", "bytes=1000000-1000009")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), content(2_000_000, 1)[1_000_000..1_000_010]);
    let guess = format!("{}0", &path[..path.len() - 1]);
    let guess = if guess == path { format!("{}1", &path[..path.len() - 1]) } else { guess };
    for missing in [guess.as_str(), "/webseed/a/b", "/webseed/a"] {
        let missing = ask(&server, Method::GET, missing, &[]).await;
        assert_eq!((missing.status().as_u16(), &read_json(missing).await["code"]), (404, &json!("not_found")));
    }
    server.call(Method::DELETE, &format!("/v1/requests/{id}"), None).await;
    assert_eq!(ask(&server, Method::GET, &path, &[]).await.status(), 404);
}

/// Also of a download that is running, although another request has the content.
#[tokio::test]
async fn a_webseed_ends_with_its_request() {
    // 30 seconds long, or twice that: webseeds have half of the limit at first.
    let settings = [("TORRENT__WEBSEED", "true"), ("TORRENT__UPLOAD_RATE_LIMIT", "200000")];
    let (server, origin) = (TestServer::with(&settings).await, Origin::start().await);
    let url = origin.file(6_000_000, 1, "a.bin");
    let (ended, other) = (server.fetch(&url).await, server.fetch(&url).await);
    let id = ended["id"].as_str().unwrap();
    let path = webseed_path(&server, id).await.expect("a webseed");
    let response = ask(&server, Method::GET, &path, &[]).await;
    assert_eq!(response.status(), 200);
    server.call(Method::DELETE, &format!("/v1/requests/{id}"), None).await;
    assert!(response.bytes().await.is_err(), "it was sent to its end");
    let path = webseed_path(&server, other["id"].as_str().unwrap()).await.expect("a webseed");
    assert_eq!(ask(&server, Method::GET, &path, &[]).await.status(), 200);
}

/// Two requests for one content: their torrents are the same.
#[tokio::test]
async fn a_request_can_have_no_webseed() {
    let (server, origin) = (TestServer::with(&[("TORRENT__WEBSEED", "true")]).await, Origin::start().await);
    let url = origin.file(1_000, 1, "a.bin");
    let with = server.fetch(&url).await;
    let created = server.create(json!({ "url": url, "webseed": false })).await;
    let without = server.ready(&created).await;
    assert_eq!((&with["webseed"], &without["webseed"]), (&json!(true), &json!(false)));
    assert_eq!(with["infohash"], without["infohash"]);
    let (with, without) = (with["id"].as_str().unwrap(), without["id"].as_str().unwrap());
    let path = webseed_path(&server, with).await.expect("a webseed");
    assert_eq!(ask(&server, Method::GET, &path, &[]).await.status(), 200);
    assert_eq!(webseed_path(&server, without).await, None);
    let torrent = Bencode::decode(&server.torrent(without).await).unwrap();
    assert!(torrent.get("url-list").is_none());
}

/// The API serves others meanwhile.
#[tokio::test]
async fn downloads_from_a_webseed_are_limited() {
    let settings = [("TORRENT__WEBSEED", "true"), ("TORRENT__MAX_CONNECTIONS", "16")];
    let (server, origin) = (TestServer::with(&settings).await, Origin::start().await);
    let row = server.fetch(&origin.file(20_000_000, 1, "a.bin")).await;
    let path = webseed_path(&server, row["id"].as_str().unwrap()).await.expect("a webseed");
    let mut slow = vec![];
    for _ in 0..16 {
        let response = ask(&server, Method::GET, &path, &[]).await;
        assert_eq!(response.status(), 200);
        slow.push(response);
    }
    let refused = ask(&server, Method::GET, &path, &[]).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "10"));
    assert_eq!(read_json(refused).await["code"], "too_many_downloads");
    assert_eq!(server.json(Method::GET, "/v1/health", None).await["status"], "healthy");
    drop(slow);
    eventually("a download is accepted", async || {
        (ask(&server, Method::GET, &path, &[]).await.status() == 200).then_some(())
    })
    .await;
}

/// A client that is generated from the document fails on an unknown value of a closed enum.
#[test]
fn the_enums_of_the_openapi_document_accept_values_of_later_versions() {
    let document = std::fs::read_to_string(root().join("shared/api/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let closed: Vec<_> = schemas.iter().filter(|(_, schema)| schema["enum"].is_array()).map(|(name, _)| name).collect();
    // docs/http-api.md says that these stay as they are.
    assert_eq!(closed, ["Method", "Status", "TorrentFormat"]);
}

#[tokio::test]
async fn the_openapi_document_matches_the_committed_file() {
    let server = TestServer::with(&[("SECURITY__WEBHOOK_SECRET", "a secret")]).await;
    let mut document = read_json(server.call(Method::GET, "/openapi.json", None).await).await;
    assert_eq!(document["openapi"], "3.1.0");
    document["info"]["version"] = "VERSION".into();
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    keep_file("shared/api/openapi.json", &text);
}

#[tokio::test]
async fn the_documentation_page_loads_no_external_resources() {
    let server = TestServer::start().await;
    let page = ask(&server, Method::GET, "/docs/", &[]).await;
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    let links = page.split(['"', '\'']).filter(|text| matches!(text.rsplit_once('.'), Some((_, "js" | "css"))));
    let mut files = 0;
    for link in links {
        assert!(!link.contains("//"), "{link}");
        let file = ask(&server, Method::GET, &format!("/docs/{}", link.trim_start_matches("./")), &[]).await;
        assert_eq!(file.status(), 200, "{link}");
        files += 1;
    }
    assert!(files >= 3, "{page}");
}

#[tokio::test]
async fn cors_is_allowed_only_for_configured_origins() {
    let page = [("origin", "https://app.example")];
    let server = TestServer::start().await;
    let answer = ask(&server, Method::GET, "/v1/health", &page).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["x-frame-options"], "DENY");
    let rebound = ask(&server, Method::GET, "/v1/requests", &[("host", "rebound.example")]).await;
    assert_eq!((rebound.status().as_u16(), &read_json(rebound).await["code"]), (421, &json!("unknown_host")));

    let server = TestServer::with(&[("CORS_ORIGINS", "https://app.example")]).await;
    let answer = ask(&server, Method::GET, "/v1/health", &page).await;
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
    let other = ask(&server, Method::GET, "/v1/health", &[("origin", "https://evil.example")]).await;
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    let asks = [("access-control-request-method", "POST"), ("access-control-request-headers", "idempotency-key")];
    let preflight = ask(&server, Method::OPTIONS, "/v1/requests", &[&page[..], &asks].concat()).await;
    assert_eq!(preflight.status(), 200);
    assert!(preflight.headers()["access-control-allow-headers"].to_str().unwrap().contains("idempotency-key"));
}

#[tokio::test]
async fn a_path_lists_its_allowed_methods() {
    let server = TestServer::start().await;
    for (path, allowed) in [("/v1/requests", "GET,HEAD,POST"), ("/v1/requests/x", "GET,HEAD,DELETE,PATCH")] {
        let answer = server.call(Method::PUT, path, None).await;
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], allowed);
    }
}

#[tokio::test]
async fn the_root_is_a_page_for_browsers_and_a_summary_for_programs() {
    let server = TestServer::start().await;
    let summary = server.call(Method::GET, "/", None).await;
    assert_eq!(header(&summary, "vary"), "accept");
    assert_eq!(read_json(summary).await["docs"], "/docs");
    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let page = ask(&server, Method::GET, "/", &browser).await;
    assert_eq!((header(&page, "content-type"), header(&page, "vary")), ("text/html; charset=utf-8", "accept"));
    let policy = header(&page, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let etag = header(&page, "etag").to_owned();
    let again = ask(&server, Method::GET, "/", &[browser[0], ("if-none-match", &etag)]).await;
    assert_eq!(again.status(), 304);
    let text = page.text().await.unwrap();
    let files = text.split("\"page/").skip(1).map(|rest| rest.split('"').next().unwrap());
    for file in files {
        let file = server.call(Method::GET, &format!("/page/{file}"), None).await;
        assert_eq!((file.status().as_u16(), header(&file, "cache-control")), (200, "no-cache"), "{}", file.url());
        assert_eq!(header(&file, "x-content-type-options"), "nosniff");
    }
    for missing in ["/page/none.js", "/page/..%2findex.html", "/page/"] {
        assert_eq!(server.call(Method::GET, missing, None).await.status(), 404, "{missing}");
    }
}

#[tokio::test]
async fn suffixes_lead_to_the_torrent_and_the_magnet_link() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let id = row["id"].as_str().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |suffix: &str| {
        client.get(format!("{}/v1/requests/{id}{suffix}", server.url)).send().await.unwrap().bytes().await.unwrap()
    };
    assert_eq!(get(".torrent").await, server.torrent(id).await);
    assert_eq!(get(".magnet").await, server.magnet(id).await + "\n");
    for wrong in [".txt", ".torrent.torrent", "."] {
        assert_eq!(server.call(Method::GET, &format!("/v1/requests/{id}{wrong}"), None).await.status(), 404, "{wrong}");
    }
    let wrong = server.call(Method::GET, &format!("/v1/requests/{id}/magnet?format=xml"), None).await;
    assert_eq!(read_json(wrong).await["errors"][0]["field"], "format");
}

#[tokio::test]
async fn a_download_link_is_for_one_request_and_one_hour() {
    let users = [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:alices-token-0000")];
    let (server, origin) = (TestServer::with(&users).await, Origin::start().await);
    let alice = server.deref().clone().with_token("alices-token-0000");
    let ready = alice.fetch(&origin.file(1000, 1, "a.bin")).await;
    let id = ready["id"].as_str().unwrap();
    let path = format!("/v1/requests/{id}/content-link");
    assert_eq!(server.call(Method::GET, &path, None).await.status(), 401, "only the owner gets the link");
    let link = alice.json(Method::GET, &path, None).await["url"].as_str().unwrap().to_owned();
    let whole = server.call(Method::GET, &link, None).await;
    assert!(header(&whole, "content-disposition").starts_with("attachment"));
    assert_eq!(whole.bytes().await.unwrap(), content(1000, 1));
    let part = ask(&server, Method::GET, &link, &[("range", "bytes=10-19")]).await;
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, &content(1000, 1)[10..20]));
    let fields: Vec<_> = link.split('/').collect();
    let [_, "download", _, expires_at, key] = fields[..] else { panic!("{link}") };
    let other = alice.fetch(&origin.file(1000, 2, "b.bin")).await;
    let later = expires_at.parse::<i64>().unwrap() + 1;
    for forged in [
        format!("/download/{}/{expires_at}/{key}", other["id"].as_str().unwrap()),
        format!("/download/{id}/{later}/{key}"),
        format!("/download/{id}/{expires_at}/{}", "0".repeat(32)),
        format!("/download/{id}/never/{key}"),
    ] {
        assert_eq!(server.call(Method::GET, &forged, None).await.status(), 404, "{forged}");
    }
    let head = ask(&server, Method::HEAD, &link, &[("range", "bytes=10-19")]).await;
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "1000"), "ranges are for GET only");
    let script = ask(&server, Method::GET, &link, &[("sec-fetch-dest", "script")]).await;
    assert_eq!(script.status(), 403, "a page cannot run it");
    alice.call(Method::DELETE, "/v1/passkeys", None).await;
    assert_eq!(server.call(Method::GET, &link, None).await.status(), 404, "the links are revoked");
    let link = alice.json(Method::GET, &path, None).await["url"].as_str().unwrap().to_owned();
    assert_eq!(server.call(Method::GET, &link, None).await.status(), 200);
    alice.call(Method::DELETE, &format!("/v1/requests/{id}"), None).await;
    assert_eq!(server.call(Method::GET, &link, None).await.status(), 404, "the request has ended");
    assert_eq!(alice.call(Method::GET, &path, None).await.status(), 410);
}

#[tokio::test]
async fn metrics_count_events_and_require_authentication() {
    let users = [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:a-token")];
    let (server, origin) = (TestServer::with(&users).await, Origin::start().await);
    assert_eq!(ask(&server, Method::GET, "/metrics", &[]).await.status(), 401);
    let token = ("authorization", "Bearer a-token");
    for path in ["/bytes/1000/1/a", "/status/404"] {
        let request = server.http.post(format!("{}/v1/requests", server.url)).header(token.0, token.1);
        let body = serde_json::json!({ "url": origin.url(path) }).to_string();
        request.header("content-type", "application/json").body(body).send().await.unwrap();
    }
    let wanted = [
        "proxytorrent_requests_created_total 2",
        "proxytorrent_requests_ready_total 1",
        "proxytorrent_requests_failed_total{step=\"fetch\",code=\"origin_status\"} 1",
        "proxytorrent_fetched_bytes_total 1000",
        "proxytorrent_torrents_seeding 1",
        "proxytorrent_storage_used_bytes 1000",
        "proxytorrent_tasks_oldest_age_seconds{step=\"fetch\"} 0",
        "proxytorrent_proxies{state=\"available\"} 0",
        "proxytorrent_step_duration_seconds_count{step=\"package\"} 1",
        "proxytorrent_http_requests_total{method=\"POST\",route=\"/v1/requests\",status=\"201\"} 2",
    ];
    proxytorrent_tests::eventually("all events are counted", async || {
        let text = ask(&server, Method::GET, "/metrics", &[token]).await.text().await.unwrap();
        wanted.iter().all(|line| text.lines().any(|found| found == *line)).then_some(())
    })
    .await;

    let server = TestServer::with(&[("MONITORING__METRICS_ENABLED", "false")]).await;
    assert_eq!(ask(&server, Method::GET, "/metrics", &[]).await.status(), 404);
}

#[tokio::test]
async fn retention_is_set_at_creation_and_can_be_changed() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let day = |row: &Value, field: &str| {
        let time = row[field].as_str().expect("a time");
        time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339).expect("RFC 3339")
    };
    let kept = |row: &Value| (day(row, "expires_at") - day(row, "completed_at")).whole_seconds();
    let row = server.fetch(&origin.file(10, 1, "a")).await;
    assert_eq!((&row["keep"], &row["ttl"], kept(&row)), (&json!(2_592_000), &json!(3600), 2_592_000));
    let id = server.create(json!({ "url": origin.file(10, 2, "b"), "keep": 60, "ttl": 0 })).await;
    assert_eq!(kept(&server.ready(&id).await), 60);
    let id = server.create(json!({ "url": origin.file(10, 3, "c"), "keep": 0 })).await;
    let row = server.ready(&id).await;
    assert_eq!((&row["keep"], &row["expires_at"]), (&json!(0), &Value::Null));

    let path = format!("/v1/requests/{id}");
    let patch = async |path: &str, body: Value| {
        let response = server.call(Method::PATCH, path, Some(body)).await;
        (response.status().as_u16(), read_json(response).await)
    };
    let (status, row) = patch(&path, json!({ "keep": 7200 })).await;
    assert_eq!((status, &row["keep"]), (200, &json!(7200)), "{row:#}");
    assert!((7190..=7210).contains(&kept(&row)), "{row:#}");
    for (body, code) in [
        (json!({}), "required"),
        (json!({ "keep": -1 }), "out_of_range"),
        (json!({ "keep": 3_000_000_001_u64 }), "out_of_range"),
        (json!({ "keep": 1, "ttl": 1 }), "unknown_field"),
    ] {
        let (status, problem) = patch(&path, body).await;
        assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!(code)), "{problem:#}");
    }
    assert_eq!(patch("/v1/requests/01a20583-ba94-7002-8c0b-bbdc5e108857", json!({ "keep": 1 })).await.0, 404);
    assert_eq!(server.call(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(patch(&path, json!({ "keep": 1 })).await.0, 410);
}

#[tokio::test]
async fn a_request_outlives_its_ttl_and_expires_after_its_retention() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let url = origin.file(10, 1, "a");
    let id = server.create(json!({ "url": url, "ttl": 1, "keep": 4 })).await;
    server.ready(&id).await;
    // After its `ttl` the content is not reused: an identical request fetches again.
    let hits = origin.hits();
    eventually("an identical request fetches again", async || {
        let again = server.create(json!({ "url": url, "ttl": 1 })).await;
        server.ready(&again).await;
        (origin.hits() > hits).then_some(())
    })
    .await;
    server.until(&id, |row| row["status"] == "expired").await;
}
