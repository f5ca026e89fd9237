//! Reverse proxy: the server behind nginx with its default settings, under a path prefix.

use std::fs;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt;
use metainfo::Value as Bencode;
use proxytorrent_tests::clients::aria2;
use proxytorrent_tests::documents::code_blocks;
use proxytorrent_tests::nginx::{Nginx, behind, behind_nginx};
use proxytorrent_tests::{ApiClient, Origin, TestServer, content, eventually, free_port, read_json, root, sha256};
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use tokio::process::Command;

/// Returns a client that follows redirects.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(redirect::Policy::limited(3)).build().expect("a client")
}

#[tokio::test]
async fn every_link_works_under_a_path_prefix() {
    let (server, _nginx, public) = behind_nginx(&[]).await;
    let client = client();
    let origin = Origin::start().await;
    let base = public.strip_suffix("/pt").expect("a path");
    let get = async |url: String| {
        let response = client.get(&url).send().await.expect("a response");
        assert_eq!(response.status(), 200, "{url}");
        response
    };
    let root = read_json(get(format!("{public}/")).await).await;
    for link in ["docs", "openapi", "health"] {
        get(format!("{base}{}", root[link].as_str().expect("a link"))).await;
    }
    // /docs redirects, and the page loads the OpenAPI document by a relative URL.
    let page = get(format!("{public}/docs")).await;
    assert_eq!(page.url().path(), "/pt/docs/index.html");
    let script = get(page.url().join("swagger-initializer.js").expect("a URL").to_string()).await;
    assert!(script.text().await.expect("text").contains("../openapi.json"));
    let description = read_json(get(page.url().join("../openapi.json").expect("a URL").to_string()).await).await;
    assert_eq!(description["servers"], json!([{ "url": "/pt" }]));

    let body = json!({ "url": origin.file(1_000, 1, "a.bin") }).to_string();
    let request = client.post(format!("{public}/v1/requests")).header("content-type", "application/json").body(body);
    let created = request.send().await.expect("a response");
    let location = created.headers()["location"].to_str().expect("text").to_owned();
    let id = read_json(created).await["id"].as_str().expect("an id").to_owned();
    assert_eq!(location, format!("/pt/v1/requests/{id}"));
    let row = read_json(get(format!("{base}{location}")).await).await;
    assert_eq!(row["links"]["self"], location);
    let ready = server.ready(&id).await;
    for (link, size) in [("torrent", None), ("magnet", None), ("content", Some(1_000))] {
        let response = get(format!("{base}{}", ready["links"][link].as_str().expect("a path"))).await;
        let length = response.bytes().await.expect("a body").len();
        assert!(size.is_none_or(|size| size == length) && length > 0, "{link}: {length} bytes");
    }
    let magnet = read_json(get(format!("{public}/v1/requests/{id}/magnet")).await).await;
    let tracker = format!("tr={}", public.replace(':', "%3A").replace('/', "%2F"));
    assert!(magnet["magnet_link"].as_str().expect("a link").contains(&tracker), "{magnet}");
}

#[tokio::test]
async fn events_are_not_buffered() {
    let (_server, _nginx, public) = behind_nginx(&[]).await;
    let client = client();
    assert_events_arrive(&public, &client).await;
}

/// The server block of `infra/compose/nginx.conf`, with other addresses and paths.
#[tokio::test]
async fn nginx_of_the_compose_file_adds_tls() {
    let (port, internal) = (free_port(), free_port().to_string());
    let public = format!("https://localhost:{port}");
    let settings = [("PUBLIC_URL", public.as_str()), ("PORT", &internal), ("SECURITY__TRUSTED_PROXIES", "127.0.0.1")];
    let _server = TestServer::with(&settings).await;
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let _nginx = Nginx::with(|folder| {
        fs::write(folder.join("fullchain.pem"), certified.cert.pem()).expect("written");
        fs::write(folder.join("privkey.pem"), certified.signing_key.serialize_pem()).expect("written");
        let server = fs::read_to_string(root().join("infra/compose/nginx.conf")).expect("text");
        server
            .replace("listen 443", &format!("listen 127.0.0.1:{port}"))
            .replace("/etc/nginx/tls", folder.to_str().expect("text"))
            .replace("http://vpn:8000", &format!("http://127.0.0.1:{internal}"))
    });
    let certificate = reqwest::Certificate::from_der(certified.cert.der()).expect("a certificate");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).build().expect("a client");
    eventually("nginx responds", async || client.get(format!("{public}/v1/health")).send().await.ok()).await;
    assert_events_arrive(&public, &client).await;
    // The longest body that the API accepts passes nginx, and is refused for its contents only.
    let start = r#"{"url":"http://127.0.0.1:1/","body":""#;
    let body = format!("{start}{}\"}}", "x".repeat(256 * 1024 - start.len() - 2));
    let request = client.post(format!("{public}/v1/requests")).header("content-type", "application/json").body(body);
    assert_eq!(request.send().await.expect("a response").status(), 422);
}

/// The `Caddyfile` of the manual, with a certificate of Caddy's own authority.
#[tokio::test]
async fn caddy_adds_tls_and_passes_on_the_address_of_its_client() {
    let (port, internal, folder) = (free_port(), free_port().to_string(), tempfile::tempdir().expect("a folder"));
    let public = format!("https://localhost:{port}");
    let settings = [("PUBLIC_URL", public.as_str()), ("PORT", &internal), ("SECURITY__TRUSTED_PROXIES", "127.0.0.1")];
    let _server = TestServer::with(&settings).await;
    let site = code_blocks("docs/operations.md", "caddyfile").remove(0);
    let site = site.replace("files.example.org", &public).replace("127.0.0.1:8000", &format!("127.0.0.1:{internal}"));
    let options = "admin off\n auto_https disable_redirects\n skip_install_trust\n default_bind 127.0.0.1";
    fs::write(folder.path().join("Caddyfile"), format!("{{\n {options}\n}}\n{site}")).expect("written");
    let mut caddy = Command::new("caddy");
    caddy.args(["run", "--config", "Caddyfile"]).current_dir(folder.path()).env("HOME", folder.path());
    caddy.env("XDG_DATA_HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path());
    let _caddy = caddy.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("caddy");
    let authority = folder.path().join("caddy/pki/authorities/local/root.crt");
    let authority = eventually("caddy has an authority", async || fs::read(&authority).ok()).await;
    let certificate = reqwest::Certificate::from_pem(&authority).expect("a certificate");
    let client_at = |address: IpAddr| {
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([certificate.clone()]);
        builder.local_address(address).build().expect("a client")
    };
    let client = client_at([127, 0, 0, 1].into());
    eventually("caddy responds", async || client.get(format!("{public}/v1/health")).send().await.ok()).await;
    assert_events_arrive(&public, &client).await;
    let peers = [client_at([127, 0, 0, 2].into()), client_at([127, 0, 0, 3].into())];
    let peers = announced_address(&ApiClient::new(public).with_http(client), [&peers[0], &peers[1]]).await;
    assert_eq!(peers[..4], [127, 0, 0, 2], "neither Caddy's address nor the one that the client claims");
}

async fn assert_events_arrive(public: &str, client: &reqwest::Client) {
    let origin = Origin::start().await;
    let body = json!({ "url": origin.url("/gated/100000/1") }).to_string();
    let request = client.post(format!("{public}/v1/requests")).header("content-type", "application/json").body(body);
    let created = read_json(request.send().await.expect("a response")).await;
    let id = created["id"].as_str().expect("an id");
    let response = client.get(format!("{public}/v1/requests/{id}/events")).send().await.expect("a response");
    let mut events = response.bytes_stream();
    // The request has not ended, so an event that arrives now was not buffered.
    let first = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("an event without delay");
    let first = first.expect("an event").expect("bytes");
    assert!(String::from_utf8_lossy(&first).starts_with("event: status"), "{first:?}");
    origin.open_gate();
    let mut rest = String::new();
    while let Some(event) = events.next().await {
        rest += &String::from_utf8_lossy(&event.expect("bytes"));
    }
    assert!(rest.contains("\"ready\""), "{rest}");
}

#[tokio::test]
async fn a_trusted_reverse_proxy_names_the_user() {
    let settings = [
        ("SECURITY__AUTH_ENABLED", "true"),
        ("SECURITY__USER_HEADER", "Remote-User"),
        ("SECURITY__TRUSTED_PROXIES", "127.0.0.1"),
        ("SECURITY__BEARER_TOKENS", "bob:bobs-token-000000"),
    ];
    let users = [("alice", "one"), ("bob", "two")];
    let (server, _nginx, public) = behind(&settings, |port, server| Nginx::with_users(port, server, &users)).await;
    let origin = Origin::start().await;
    let list = async |user: Option<(&str, &str)>, header: Option<&str>| {
        let mut call = server.http.get(format!("{public}/v1/requests"));
        if let Some((name, password)) = user {
            call = call.basic_auth(name, Some(password));
        }
        if let Some(name) = header {
            call = call.header("remote-user", name);
        }
        let response = call.send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    let body = json!({ "url": origin.file(1000, 1, "a.bin") }).to_string();
    let create = server.http.post(format!("{public}/v1/requests")).basic_auth("alice", Some("one"));
    let created = create.header("content-type", "application/json").body(body).send().await.unwrap();
    let id = read_json(created).await["id"].as_str().unwrap().to_owned();
    let ids = async |user, header| {
        let (status, bytes) = list(user, header).await;
        assert_eq!(status, 200);
        let page: Value = serde_json::from_slice(&bytes).unwrap();
        page["items"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some(users[0]), None).await, [id.as_str()]);
    assert_eq!(ids(Some(users[1]), None).await, [""; 0], "another user");
    assert_eq!(ids(Some(users[1]), Some("alice")).await, [""; 0], "nginx replaces the header of a client");
    assert_eq!(list(None, Some("alice")).await.0, 401);

    // The header of a client that is not the proxy has no effect, also on the machine of the proxy.
    let stranger = reqwest::Client::builder().no_proxy().local_address("127.0.0.2".parse::<IpAddr>().unwrap());
    let direct = format!("http://127.0.0.1:{}", server.setting("PORT"));
    let call = stranger.build().unwrap().get(format!("{direct}/v1/requests")).header("remote-user", "alice");
    assert_eq!(call.send().await.unwrap().status(), 401);
    let token = ApiClient::new(public.clone()).with_token("bobs-token-000000");
    assert_eq!(token.call(Method::GET, "/v1/requests", None).await.status(), 401, "nginx wants a password");
    let direct = ApiClient::new(direct).with_token("bobs-token-000000");
    assert_eq!(direct.call(Method::GET, "/v1/requests", None).await.status(), 200);

    // Peers need no password.
    let alice = server.http.get(format!("{public}/v1/requests/{id}?wait=25")).basic_auth("alice", Some("one"));
    eventually("the request is ready", async || {
        let row = read_json(alice.try_clone().unwrap().send().await.unwrap()).await;
        (row["status"] == "ready").then_some(())
    })
    .await;
    let torrent = server.http.get(format!("{public}/v1/requests/{id}/torrent")).basic_auth("alice", Some("one"));
    let path = server.scratch("peer").join("a.torrent");
    fs::write(&path, torrent.send().await.unwrap().bytes().await.unwrap()).unwrap();
    // libtorrent does not use a tracker on loopback below a path.
    let downloaded = aria2(path.to_str().unwrap(), &server.scratch("down"), "a.bin").await;
    assert_eq!(downloaded, sha256(&content(1000, 1)));
}

/// Announces two peers through a reverse proxy, each with one of the clients and a forwarded address. Returns the first
/// compact peer entry in the response to the second one.
async fn announced_address(public: &ApiClient, peers: [&reqwest::Client; 2]) -> Vec<u8> {
    let origin = Origin::start().await;
    let row: Value = public.fetch(&origin.file(1_000, 1, "a.bin")).await;
    let torrent = Bencode::decode(&public.torrent(row["id"].as_str().expect("an id")).await).expect("bencode");
    let announce = torrent.get("announce").and_then(Bencode::as_bytes).expect("a tracker").to_vec();
    let announce = String::from_utf8(announce).expect("text");
    assert!(announce.starts_with(&public.url), "{announce}");
    let infohash = row["infohash"].as_str().expect("an infohash").as_bytes().chunks(2);
    let infohash: Vec<_> = infohash.map(String::from_utf8_lossy).collect();
    let infohash = format!("%{}", infohash.join("%"));
    let ask = async |client: &reqwest::Client, peer: char, forwarded: &str| {
        let id = peer.to_string().repeat(20);
        let url = format!("{announce}&info_hash={infohash}&peer_id={id}&port=5000&left=1000");
        let request = client.get(url).header("x-forwarded-for", forwarded);
        Bencode::decode(&request.send().await.expect("a response").bytes().await.expect("a body")).expect("bencode")
    };
    ask(peers[0], 'a', "198.51.100.7").await;
    let answer = ask(peers[1], 'b', "198.51.100.8").await;
    answer.get("peers").and_then(Bencode::as_bytes).expect("peers")[..6].to_vec()
}

#[tokio::test]
async fn the_tracker_takes_peer_addresses_from_trusted_proxies_only() {
    // nginx appends the test's address to X-Forwarded-For. It is 127.0.0.1 too, so it counts as another trusted
    // proxy.
    let (_server, _nginx, public) = behind_nginx(&[("SECURITY__TRUSTED_PROXIES", "127.0.0.1/32")]).await;
    let peers = announced_address(&ApiClient::new(public), [&client(), &client()]).await;
    assert_eq!(peers, [&[198, 51, 100, 7][..], &5000_u16.to_be_bytes()].concat());
    // Without trusted proxies both peers have nginx's address and the same port: the second replaces the first, and
    // the response contains only the seeder.
    let (_server, _nginx, public) = behind_nginx(&[]).await;
    let peers = announced_address(&ApiClient::new(public), [&client(), &client()]).await;
    assert_eq!(peers[..4], [127, 0, 0, 1]);
}
