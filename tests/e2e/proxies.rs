//! Outbound proxies: fetching through real proxies, error codes, failover, and no traffic that bypasses them.

use std::process::Stdio;
use std::sync::Arc;

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{Origin, PATIENCE, TestServer, content, eventually, read_json, sha256};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::raw::{Authority, Peer, Raw};
use crate::tracker::announce_url;

/// The source address of every test proxy. It differs from the server's, so that an origin can tell them apart.
pub const EXIT: &str = "127.0.0.9";

/// The service name of squid, which is the prefix of its files in shared memory.
const SQUID: &str = "proxytorrenttest";

/// A proxy process. It is killed when it is dropped.
pub struct Proxy {
    child: Child,
    pub port: u16,
    _folder: Arc<TempDir>,
}

impl Proxy {
    async fn start(program: &str, arguments: &[&str], port: u16, folder: Arc<TempDir>) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        eventually(&format!("{program} accepts connections"), async || {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        assert!(child.try_wait().expect("a process").is_none(), "{program} {arguments:?} has ended");
        Self { child, port, _folder: folder }
    }

    /// Starts a program with a configuration file in a temporary folder.
    async fn configured(program: &str, before: &[&str], config: impl FnOnce(u16, &TempDir) -> String) -> Self {
        let (port, folder) = (free_port().await, Arc::new(tempfile::tempdir().expect("a folder")));
        let path = folder.path().join("proxy.conf");
        std::fs::write(&path, config(port, &folder)).expect("written");
        let arguments = [before, &[path.to_str().expect("a path")]].concat();
        Self::start(program, &arguments, port, folder).await
    }

    /// Starts a SOCKS5 proxy by a wrapper command such as `unshare`.
    pub async fn microsocks_inside(wrapper: &[String]) -> Self {
        let port = free_port().await;
        let text = port.to_string();
        let words = wrapper[1..].iter().map(String::as_str);
        let arguments: Vec<_> = words.chain(["microsocks", "-i", "127.0.0.1", "-b", EXIT, "-p", &text]).collect();
        Self::start(&wrapper[0], &arguments, port, Arc::new(tempfile::tempdir().expect("a folder"))).await
    }

    pub async fn microsocks(more: &[&str]) -> Self {
        let port = free_port().await;
        let text = port.to_string();
        let arguments = [&["-i", "127.0.0.1", "-b", EXIT, "-p", &text], more].concat();
        Self::start("microsocks", &arguments, port, Arc::new(tempfile::tempdir().expect("a folder"))).await
    }

    pub async fn dante(rules: &str) -> Self {
        Self::configured("danted", &["-N", "1", "-f"], |port, _| {
            format!(
                "internal: 127.0.0.1 port = {port}\nexternal: {EXIT}\nsocksmethod: none\nclientmethod: none\n\
                 user.privileged: root\nuser.unprivileged: nobody\nlogoutput: /dev/null\n\
                 client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n{rules}\n"
            )
        })
        .await
    }

    async fn tinyproxy(more: &str) -> Self {
        Self::configured("tinyproxy", &["-d", "-c"], |port, _| {
            format!("Port {port}\nListen 127.0.0.1\nBind {EXIT}\nTimeout 60\nAllow 127.0.0.1\n{more}\n")
        })
        .await
    }

    /// Starts an HTTPS proxy with a certificate of this authority for 127.0.0.1.
    async fn squid(authority: &Authority) -> Self {
        let (certificate, key) = authority.issue("127.0.0.1", |_| {});
        Self::configured("squid", &["-N", "-n", SQUID, "-f"], |port, folder| {
            let pem = folder.path().join("certificate.pem");
            std::fs::write(&pem, certificate.pem() + &key.serialize_pem()).expect("written");
            format!(
                "https_port 127.0.0.1:{port} tls-cert={}\ntcp_outgoing_address {EXIT}\nhttp_access allow all\n\
                 cache deny all\naccess_log none\ncache_log stdio:/dev/null\npid_filename none\n\
                 coredump_dir none\nmemory_cache_shared off\npinger_enable off\nnetdb_filename none\n",
                pem.display(),
            )
        })
        .await
    }

    /// Returns the proxy's URL. `user` is the user information including the `@`, or empty.
    pub fn url(&self, scheme: &str, user: &str) -> String {
        format!("{scheme}://{user}127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A killed squid leaves its shared memory behind.
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(SQUID) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Starts a server that fetches through these proxies and does not retry.
async fn through(urls: &str, more: &[(&str, &str)]) -> TestServer {
    let base = [
        ("PROXY__PROXY_ENABLED", "true"),
        ("PROXY__URLS", urls),
        ("FETCHER__MAX_RETRIES", "0"),
        ("FETCHER__CONNECT_TIMEOUT", "2"),
    ];
    TestServer::with(&[&base, more].concat()).await
}

async fn fails_with(server: &TestServer, url: &str, code: &str) -> Value {
    let id = server.create(json!({ "url": url })).await;
    let row = server.failed(&id).await;
    assert_eq!(row["error_code"], code, "{row:#}");
    assert!(row["error_message"].as_str().is_some_and(|message| message.contains("proxy")), "{row:#}");
    assert!(!row.to_string().contains("geheim"), "{row:#}");
    row
}

async fn proxy_health(server: &TestServer) -> (u16, Value) {
    let health = server.call(Method::GET, "/v1/health", None).await;
    (health.status().as_u16(), read_json(health).await["checks"]["proxy"].clone())
}

#[tokio::test]
async fn content_is_fetched_through_every_kind_of_proxy() {
    let authority = Authority::new();
    let pem = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(pem.path(), authority.pem()).expect("written");
    let trusted = [("SSL_CERT_FILE", pem.path().to_str().expect("a path"))];
    let page = async |mut peer: Peer| {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    };
    let secure = Raw::with(Some(authority.server("127.0.0.1", |_| {})), page).await;
    let origin = Origin::start().await;
    let pass = "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }";
    for (proxy, scheme, user) in [
        (Proxy::microsocks(&[]).await, "socks5", ""),
        (Proxy::microsocks(&["-u", "me", "-P", "p@ss,word"]).await, "socks5h", "me:p%40ss%2Cword@"),
        (Proxy::dante(pass).await, "socks5", ""),
        (Proxy::tinyproxy("").await, "http", ""),
        (Proxy::tinyproxy("BasicAuth me geheim").await, "http", "me:geheim@"),
        (Proxy::squid(&authority).await, "https", ""),
    ] {
        let server = through(&proxy.url(scheme, user), &trusted).await;
        server.fetch(&origin.file(1_000_000, 1, "a.bin")).await;
        server.fetch(&format!("https://{}/", secure.address)).await;
        let (status, health) = proxy_health(&server).await;
        assert_eq!((status, health["working"].as_u64()), (200, Some(1)), "{scheme}: {health}");
        let id = server.create(json!({ "url": "http://127.0.0.2/" })).await;
        assert_eq!(
            server.failed(&id).await["error_code"],
            "blocked_address",
            "address literals are checked with a proxy too"
        );
    }
    assert!(origin.peers().iter().all(|peer| peer.to_string() == EXIT), "{:?}", origin.peers());
}

#[tokio::test]
async fn every_proxy_failure_has_its_code_and_nothing_bypasses_the_proxy() {
    let origin = Origin::start().await;
    let (plain, secure) = (origin.file(1000, 1, "a.bin"), origin.url("/a").replace("http:", "https:"));
    let down = free_port().await;
    for scheme in ["socks5", "http", "https"] {
        let server = through(&format!("{scheme}://me:geheim@127.0.0.1:{down}"), &[]).await;
        fails_with(&server, &plain, "proxy_unreachable").await;
        fails_with(&server, &secure, "proxy_unreachable").await;
        let (status, health) = proxy_health(&server).await;
        assert_eq!((status, &health["status"]), (503, &json!("unhealthy")), "{scheme}");
    }

    let (socks, http) =
        (Proxy::microsocks(&["-u", "me", "-P", "right"]).await, Proxy::tinyproxy("BasicAuth me right").await);
    for (proxy, scheme) in [(&socks, "socks5"), (&http, "http")] {
        for user in ["me:geheim@", ""] {
            let server = through(&proxy.url(scheme, user), &[]).await;
            fails_with(&server, &plain, "proxy_auth_failed").await;
            fails_with(&server, &secure, "proxy_auth_failed").await;
            assert_eq!(proxy_health(&server).await.0, 503, "{scheme}");
        }
    }

    let refusing = Proxy::dante("socks block { from: 0.0.0.0/0 to: 0.0.0.0/0 }").await;
    let server = through(&refusing.url("socks5", ""), &[]).await;
    fails_with(&server, &plain, "proxy_refused").await;
    assert_eq!(proxy_health(&server).await.0, 200, "the proxy works, but refuses this origin");
    let refusing = Proxy::tinyproxy("ConnectPort 444").await;
    fails_with(&through(&refusing.url("http", ""), &[]).await, &secure, "proxy_refused").await;

    let working = Proxy::microsocks(&[]).await;
    let nowhere = format!("http://127.0.0.1:{}/", free_port().await);
    fails_with(&through(&working.url("socks5", ""), &[]).await, &nowhere, "connection_failed").await;
    // For an http URL the proxy itself responds if it cannot or may not connect to the origin.
    let (tiny, squid) = (Proxy::tinyproxy("").await, Proxy::squid(&Authority::new()).await);
    fails_with(&through(&tiny.url("http", ""), &[]).await, &nowhere, "proxy_refused").await;
    let unverified = [("FETCHER__VERIFY_SSL", "false")];
    fails_with(&through(&squid.url("https", ""), &unverified).await, &nowhere, "proxy_refused").await;
    let other = Origin::start().await;
    let here = through(&format!("{},{}", tiny.url("http", ""), tiny.url("http", "")), &[]).await;
    let row = here.failed(&here.create(json!({ "url": other.url("/status/404") })).await).await;
    assert_eq!(
        row["error_code"], "origin_status",
        "an error of the origin is not reported as one of the proxy: {row:#}"
    );

    let silent = Raw::start(async |mut peer: Peer| peer.closed().await).await;
    let closing = Raw::start(async |mut peer: Peer| drop(peer.read(1).await)).await;
    let babbling = Raw::start(async |mut peer: Peer| {
        peer.send("220 mail.example.org ESMTP\r\n").await;
        peer.closed().await;
    })
    .await;
    for scheme in ["socks5", "http"] {
        for (proxy, code) in
            [(&silent, "proxy_timeout"), (&closing, "proxy_unreachable"), (&babbling, "proxy_unreachable")]
        {
            let more = [("FETCHER__READ_TIMEOUT", "3")];
            let server = through(&format!("{scheme}://127.0.0.1:{}", proxy.address.port()), &more).await;
            fails_with(&server, &plain, code).await;
            fails_with(&server, &secure, code).await;
        }
    }
    assert_eq!(origin.peers(), Vec::<std::net::IpAddr>::new(), "no byte reached the origin");
}

#[tokio::test]
async fn a_proxy_that_dies_during_a_transfer_is_not_bypassed() {
    let origin = Origin::start().await;
    let mut proxy = Proxy::microsocks(&[]).await;
    let server = through(&proxy.url("socks5", ""), &[("FETCHER__MAX_RETRIES", "1")]).await;
    let id = server.create(json!({ "url": origin.url("/gated/4000000/1") })).await;
    eventually("a staged upload exists", async || (!server.files("content/staging").is_empty()).then_some(())).await;
    proxy.child.kill().await.expect("killed");
    origin.open_gate();
    let row = server.failed(&id).await;
    assert_eq!((row["error_code"].as_str(), row["retry_count"].as_u64()), (Some("proxy_unreachable"), Some(1)));
    assert!(server.files("content").is_empty());
    assert!(origin.peers().iter().all(|peer| peer.to_string() == EXIT), "{:?}", origin.peers());
}

#[tokio::test]
async fn the_next_proxy_is_tried_and_the_failed_one_cools_down() {
    let origin = Origin::start().await;
    let tried = Raw::start(async |mut peer: Peer| drop(peer.read(1).await)).await;
    let refusing = Proxy::dante("socks block { from: 0.0.0.0/0 to: 0.0.0.0/0 }").await;
    let working = Proxy::microsocks(&[]).await;
    let urls = format!("socks5://{},{},{}", tried.address, refusing.url("socks5", ""), working.url("socks5", ""));
    let server = through(&urls, &[]).await;
    for n in 0..5 {
        server.fetch(&origin.file(1000, n, "a.bin")).await;
    }
    assert_eq!(tried.connections(), 1, "the failed proxy cools down");
    let (status, health) = proxy_health(&server).await;
    assert_eq!((status, &health["working"], &health["configured"]), (200, &json!(2), &json!(3)));
}

#[tokio::test]
async fn each_request_has_its_own_socks_user_for_tor_isolation() {
    // Like Tor's SOCKS port: any user name is accepted, and selects the circuit.
    let (users, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let proxy = Raw::start(move |mut peer: Peer| {
        let users = users.clone();
        async move {
            let methods = peer.read(2).await[1];
            peer.read(methods.into()).await;
            peer.send([5, 2]).await;
            let length = peer.read(2).await[1];
            let user = peer.read(length.into()).await;
            let length = peer.read(1).await[0];
            peer.read(length.into()).await;
            peer.send([1, 0]).await;
            peer.read(10).await;
            peer.send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
            users.send(String::from_utf8(user).expect("text")).expect("the test waits");
            let path = peer.request().await;
            // Redirects the first request once.
            let answer = if path.starts_with("GET /first") {
                "HTTP/1.1 302 Found\r\nLocation: /second\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
            };
            peer.send(answer).await;
        }
    })
    .await;
    let server = through(&format!("socks5://{}", proxy.address), &[("PROXY__ISOLATE", "true")]).await;
    for path in ["first", "other", "another"] {
        server.fetch(&format!("http://127.0.0.1:65000/{path}")).await;
    }
    let mut names = vec![];
    while let Ok(name) = seen.try_recv() {
        names.push(name);
    }
    assert_eq!(names.len(), 4);
    assert_eq!(names[0], names[1], "a redirect uses the same circuit as its request");
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[tokio::test]
async fn a_connection_through_the_proxy_is_reused() {
    let (origin, proxy) = (Origin::start().await, Proxy::microsocks(&[]).await);
    let server = through(&proxy.url("socks5", ""), &[]).await;
    for n in 0..5 {
        server.fetch(&origin.file(1000, n, "a.bin")).await;
    }
    assert_eq!(origin.peers().len(), 1);
}

/// A peer that listens sees the address of the proxy, and none can connect to the seeder.
#[tokio::test]
async fn the_seeder_reaches_peers_through_its_proxy_only() {
    let mut proxy = Proxy::microsocks(&["-u", "me", "-P", "p@ss"]).await;
    let url = proxy.url("socks5", "me:p%40ss@");
    let (server, origin) = (TestServer::with(&[("SEEDER__PROXY", &url)]).await, Origin::start().await);
    let row = server.fetch(&origin.file(1_000_000, 1, "a.bin")).await;
    let id = row["id"].as_str().expect("an id");
    assert!(!server.magnet(id).await.contains("x.pe="), "no peer can connect to it");
    assert_eq!(server.json(Method::GET, "/v1/health", None).await["status"], "healthy");

    let (announce, infohash) = announce_url(&server, id).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connected = async |peer: char| {
        let peer = peer.to_string().repeat(20);
        let url = format!("{announce}&info_hash={infohash}&peer_id={peer}&port={port}&left=1000&event=started");
        assert_eq!(server.http.get(url).send().await.expect("a response").status(), 200);
        tokio::time::timeout(PATIENCE / 10, listener.accept()).await.ok()
    };
    let (_, from) = connected('a').await.expect("a connection").expect("accepted");
    assert_eq!(from.ip().to_string(), EXIT);
    let torrent = server.save_torrent(id).await;
    let downloaded = libtorrent(torrent.to_str().expect("a path"), &server.scratch("down")).await;
    assert_eq!(downloaded, sha256(&content(1_000_000, 1)));

    proxy.child.kill().await.expect("killed");
    // Connections that the proxy made before may still wait to be accepted.
    while let Some(accepted) = connected('b').await {
        assert_eq!(accepted.expect("accepted").1.ip().to_string(), EXIT, "a connection without the proxy");
    }
}
