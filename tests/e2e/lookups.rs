//! DNS resolution: where names are resolved, blocked addresses, and DNS rebinding. Uses a name server for tests.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use proxytorrent_tests::TestServer;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::proxies::{EXIT, Proxy};
use crate::raw::{Peer, Raw};

/// A name server (RFC 1035) with responses that the test sets. Each instance has a separate loopback address.
struct NameServer {
    address: Ipv4Addr,
    asked: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
    _stop: DropGuard,
}

impl NameServer {
    /// Starts the server. `answers(name, n)` returns the IPv4 addresses of the name; `n` is the number of earlier
    /// queries for it.
    async fn start(answers: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + 'static) -> Self {
        let (socket, address) = loop {
            let [_, b, c, d] = rand::random::<[u8; 4]>();
            let address = Ipv4Addr::new(127, 1.max(b), c, d.clamp(1, 254));
            if let Ok(socket) = UdpSocket::bind((address, 53)).await {
                break (socket, address);
            }
        };
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("resolv.conf"), format!("nameserver {address}\n")).expect("written");
        let asked = Arc::new(Mutex::new(vec![]));
        let log = asked.clone();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut query = [0; 512];
            while let Ok((size, from)) = socket.recv_from(&mut query).await {
                let (name, is_a, end) = question(&query[..size]);
                let addresses = if is_a {
                    let mut log = log.lock().unwrap();
                    let earlier = log.iter().filter(|asked| **asked == name).count();
                    log.push(name.clone());
                    answers(&name, earlier)
                } else {
                    vec![]
                };
                let mut answer = query[..end].to_vec();
                // Header of a response without an error: one question, and these answers.
                answer[2..12].copy_from_slice(&[
                    0x81,
                    0x80,
                    0,
                    1,
                    0,
                    u8::try_from(addresses.len()).unwrap(),
                    0,
                    0,
                    0,
                    0,
                ]);
                for address in addresses {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    answer.extend(address.octets());
                }
                let _ = socket.send_to(&answer, from).await;
            }
        }));
        Self { address, asked, folder, _stop: stop.drop_guard() }
    }

    /// Returns the names that were queried for IPv4 addresses, in order.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Starts a server that uses only this name server.
    async fn serving(&self, extra: &[(&str, &str)]) -> TestServer {
        let path = self.folder.path().join("resolv.conf");
        TestServer::inside(&mounting(path.to_str().expect("a path"), "/etc/resolv.conf"), extra).await
    }
}

/// Parses a query. Returns the name, whether it asks for IPv4 addresses (type A), and the end of the question.
fn question(query: &[u8]) -> (String, bool, usize) {
    let (mut labels, mut at) = (vec![], 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
        at = end;
    }
    (labels.join("."), query[at + 1..at + 3] == [0, 1], at + 5)
}

/// Returns a wrapper command that runs one program with `file` mounted over `place`, in a separate mount namespace.
fn mounting(file: &str, place: &str) -> Vec<String> {
    let script = format!("mount --bind {file} {place} && exec \"$0\" \"$@\"");
    ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned).into()
}

async fn page(mut peer: Peer) {
    peer.request().await;
    peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\npage").await;
}

#[tokio::test]
async fn all_addresses_of_a_name_must_be_allowed() {
    let origin = Raw::start(page).await;
    let names = NameServer::start(|name, _| match name {
        "good.test" => vec![Ipv4Addr::LOCALHOST],
        "private.test" => vec![Ipv4Addr::new(10, 0, 0, 1)],
        "metadata.test" => vec![Ipv4Addr::new(169, 254, 169, 254)],
        "mixed.test" => vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)],
        _ => vec![],
    })
    .await;
    let server = names.serving(&[("FETCHER__MAX_RETRIES", "0")]).await;
    let url = |name: &str| format!("http://{name}:{}/", origin.address.port());
    server.fetch(&url("good.test")).await;
    for (name, code) in [
        ("private.test", "blocked_address"),
        ("metadata.test", "blocked_address"),
        ("mixed.test", "blocked_address"),
        ("nowhere.test", "name_not_resolved"),
    ] {
        let id = server.create(json!({ "url": url(name) })).await;
        assert_eq!(server.failed(&id).await["error_code"], code, "{name}");
    }
    assert_eq!(origin.connections(), 1);
    assert!(names.asked().contains(&"mixed.test".to_owned()), "on {}", names.address);
}

#[tokio::test]
async fn dns_rebinding_does_not_reach_another_address() {
    // The first query returns an allowed address; later queries return a blocked one.
    let names = NameServer::start(|_, n| vec![Ipv4Addr::new(127, 0, 0, if n == 0 { 1 } else { 2 })]).await;
    let origin = Raw::start(|mut peer: Peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 302 Found\r\nLocation: /again\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let server = names.serving(&[("FETCHER__MAX_RETRIES", "0")]).await;
    let id = server.create(json!({ "url": format!("http://rebound.test:{}/", origin.address.port()) })).await;
    assert_eq!(server.failed(&id).await["error_code"], "blocked_address");
    assert_eq!(origin.connections(), 1, "the checked address is the one that is connected to");
}

#[tokio::test]
async fn names_are_resolved_by_the_proxy_or_locally_as_configured() {
    let origin = Raw::start(page).await;
    let names = NameServer::start(|_, _| vec![Ipv4Addr::new(127, 0, 0, 2)]).await;
    let hosts = names.folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 only-the-proxy-knows.test\n").expect("written");
    let proxy = Proxy::microsocks_inside(&mounting(hosts.to_str().expect("a path"), "/etc/hosts")).await;
    let urls = proxy.url("socks5", "");
    let base = [("PROXY__PROXY_ENABLED", "true"), ("PROXY__URLS", &urls), ("FETCHER__MAX_RETRIES", "0")];
    let url = format!("http://only-the-proxy-knows.test:{}/", origin.address.port());

    let remote = names.serving(&base).await;
    remote.fetch(&url).await;
    assert_eq!(names.asked(), Vec::<String>::new(), "the server makes no DNS query");

    let local = names.serving(&[&base[..], &[("PROXY__RESOLVE", "local")]].concat()).await;
    let id = local.create(json!({ "url": url })).await;
    assert_eq!(local.failed(&id).await["error_code"], "blocked_address", "the address is checked");
    assert_eq!(names.asked(), ["only-the-proxy-knows.test"]);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_proxy_may_have_a_name_and_a_private_address() {
    let origin = proxytorrent_tests::Origin::start().await;
    let proxy = Proxy::microsocks(&[]).await;
    let names = NameServer::start(|_, _| vec![Ipv4Addr::LOCALHOST]).await;
    let urls = format!("socks5://proxy.test:{}", proxy.port);
    let server = names.serving(&[("PROXY__PROXY_ENABLED", "true"), ("PROXY__URLS", &urls)]).await;
    server.fetch(&origin.file(1000, 1, "a.bin")).await;
    assert_eq!(origin.peers(), [EXIT.parse::<IpAddr>().expect("an address")]);
    let id = server.create(json!({ "url": "http://proxy.test/" })).await;
    assert_eq!(server.failed(&id).await["error_code"], "blocked_host");
}
