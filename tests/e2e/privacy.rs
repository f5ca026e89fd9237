//! Privacy: what origins, peers and holders of a torrent file can learn about the server and its users.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use metainfo::Value;
use proxytorrent_tests::{Origin, TestServer, program, python, read_json, run, tool};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Starts an origin that keeps connections open. Returns its address and a list of the requests, each with the
/// client's port.
async fn noting_origin() -> (SocketAddr, Arc<Mutex<Vec<(u16, String)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = Arc::new(Mutex::new(vec![]));
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let noted = noted.clone();
            tokio::spawn(async move {
                let (mut head, mut byte) = (String::new(), [0]);
                while stream.read_exact(&mut byte).await.is_ok() {
                    head.push(char::from(byte[0]));
                    if head.ends_with("\r\n\r\n") {
                        noted.lock().expect("a list").push((peer.port(), std::mem::take(&mut head)));
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
                        stream.write_all(answer).await.expect("sent");
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn an_origin_sees_the_headers_of_curl() {
    let (address, seen) = noting_origin().await;
    let server = TestServer::start().await;
    server.fetch(&format!("http://{address}/a")).await;
    let head = seen.lock().expect("a list")[0].1.clone();
    let mut lines: Vec<_> = head.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.remove(0), "GET /a HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(lines, ["Accept: */*", &format!("Host: {address}"), "User-Agent: curl/7.88.1"]);
}

#[tokio::test]
async fn users_do_not_share_connections_to_an_origin() {
    let (address, seen) = noting_origin().await;
    let tokens = [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:a-token,bob:b-token")];
    let server = TestServer::with(&tokens).await;
    for (n, token) in ["a-token", "b-token", "a-token", "b-token"].into_iter().enumerate() {
        let body = json!({ "url": format!("http://{address}/{n}") }).to_string();
        let call = |method, path: &str| {
            server.http.request(method, format!("{}/v1/requests{path}", server.url)).bearer_auth(token)
        };
        let created = call(Method::POST, "").header("content-type", "application/json").body(body);
        let id = read_json(created.send().await.expect("a response")).await["id"].as_str().expect("an id").to_owned();
        loop {
            let row = read_json(call(Method::GET, &format!("/{id}?wait=25")).send().await.expect("a response")).await;
            if row["status"] == "ready" {
                break;
            }
        }
    }
    let ports: Vec<_> = seen.lock().expect("a list").iter().map(|(port, _)| *port).collect();
    assert_eq!((ports[0], ports[1]), (ports[2], ports[3]), "a user's connection is reused");
    assert_ne!(ports[0], ports[1]);
}

async fn metainfo(server: &TestServer, id: &str) -> Value {
    Value::decode(&std::fs::read(server.save_torrent(id).await).expect("a file")).expect("bencode")
}

#[tokio::test]
async fn private_torrents_name_neither_program_nor_time() {
    let origin = Origin::start().await;
    for (private, named) in [("true", false), ("false", true)] {
        let server = TestServer::with(&[("TORRENT__PRIVATE_TRACKER", private)]).await;
        let row = server.fetch(&origin.file(1_000, 1, "a.bin")).await;
        let torrent = metainfo(&server, row["id"].as_str().expect("an id")).await;
        for key in ["created by", "creation date"] {
            assert_eq!(torrent.get(key).is_some(), named, "{private} {key}");
        }
    }
}

#[tokio::test]
async fn a_salt_makes_infohashes_unpredictable() {
    let origin = Origin::start().await;
    let url = origin.file(1_000, 1, "a.bin");
    let infohash = async |settings: &[(&str, &str)]| {
        let server = TestServer::with(settings).await;
        server.fetch(&url).await["infohash"].as_str().expect("an infohash").to_owned()
    };
    let plain = infohash(&[]).await;
    let one = infohash(&[("TORRENT__SALT", "a secret of the one")]).await;
    let other = infohash(&[("TORRENT__SALT", "a secret of the other")]).await;
    assert!(plain != one && one != other && other != plain);
    assert_eq!(infohash(&[("TORRENT__SALT", "a secret of the one")]).await, one, "equal contents have one torrent");
    let owned = infohash(&[("TORRENT__SALT", "a secret of the one"), ("TORRENT__SALT_SCOPE", "owner")]).await;
    assert_ne!(owned, one);
    // Public torrents are not salted: anyone may compute their infohash.
    let public = infohash(&[("TORRENT__PRIVATE_TRACKER", "false")]).await;
    let salted = [("TORRENT__PRIVATE_TRACKER", "false"), ("TORRENT__SALT", "a secret of the one")];
    assert_eq!(infohash(&salted).await, public);
}

/// No DHT, local service discovery, UPnP or NAT-PMP, and no plaintext handshake: nothing but connections with the peer.
#[tokio::test]
async fn the_seeder_sends_nothing_but_encrypted_connections_with_its_peers() {
    for kind in ["private", "public"] {
        let folder = tempfile::tempdir().expect("a folder");
        let (script, program) = (tool("quiet.py"), program());
        let arguments = [script.to_str(), program.to_str(), folder.path().to_str(), Some(kind)];
        let arguments = arguments.map(|argument| argument.expect("text"));
        let printed = run(python().to_str().expect("text"), &arguments, folder.path()).await;
        assert_eq!(printed, "quiet\n", "{kind}");
    }
}

/// While the interface is down, neither fetches nor look-ups nor the seeder use another one, which reaches the same hosts.
#[tokio::test]
async fn nothing_leaves_by_another_interface_while_the_configured_one_is_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let (script, program) = (tool("interface.py"), program());
    let arguments = [script.to_str(), program.to_str(), folder.path().to_str()];
    let arguments = arguments.map(|argument| argument.expect("text"));
    let printed = run(python().to_str().expect("text"), &arguments, folder.path()).await;
    assert_eq!(printed, "bound\n");
}
