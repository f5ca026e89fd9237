//! The listen port and the public address of the seeder, which follow files or a call, as behind a VPN.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{Origin, PATIENCE, TestServer, content, eventually, free_port, read_json, sha256};
use reqwest::{Response, StatusCode};
use serde_json::json;
use tempfile::TempDir;

const SIZE: usize = 100_000;

/// A server that seeds one torrent, and its request.
async fn seeding(extra: &[(&str, &str)]) -> (TestServer, String) {
    let origin = Origin::start().await;
    let server = TestServer::with(&[&[("TORRENT__ENCRYPTION", "preferred")], extra].concat()).await;
    let row = server.fetch(&origin.file(SIZE, 1, "a.bin")).await;
    let id = row["id"].as_str().unwrap().to_owned();
    (server, id)
}

/// Waits until magnet links have this port, and downloads from it.
async fn assert_reachable_at(server: &TestServer, id: &str, port: u16) {
    let peer = format!("x.pe=127.0.0.1:{port}");
    eventually("magnet links have the port", async || server.magnet(id).await.contains(&peer).then_some(())).await;
    let (torrent, magnet) = (server.save_torrent(id).await, server.magnet(id).await);
    for (source, name) in [(torrent.to_str().unwrap(), "torrent"), (&magnet, "magnet")] {
        let folder = server.scratch(&format!("{port}-{name}"));
        assert_eq!(libtorrent(source, &folder).await, sha256(&content(SIZE, 1)));
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn the_seeder_follows_the_port_in_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("forwarded_port");
    let (server, id) = seeding(&[("SEEDER__PORT_FILE", file.to_str().unwrap())]).await;
    // Until the file exists, the seeder has the configured port.
    let first = server.seeder.parse::<SocketAddr>().unwrap().port();
    assert!(server.magnet(&id).await.contains(&format!("x.pe=127.0.0.1:{first}")));
    for text in ["\n", ",6881\n"] {
        let port = free_port();
        fs::write(&file, format!("{port}{text}")).unwrap();
        assert_reachable_at(&server, &id, port).await;
        assert_eq!(server.seeding().await, 1);
    }
    eventually("the old socket is closed", async || (!is_open(first)).then_some(())).await;

    // A file without a port changes nothing.
    let port = server.magnet(&id).await;
    fs::write(&file, "").unwrap();
    // Nothing must happen, so there is no condition to wait for: longer than the interval at which the file is read.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(server.magnet(&id).await, port);
}

#[tokio::test]
async fn a_port_in_the_file_is_used_from_the_start() {
    let folder = TempDir::new().unwrap();
    let (file, port) = (folder.path().join("forwarded_port"), free_port());
    fs::write(&file, port.to_string()).unwrap();
    // The public address is that of a VPN server, with a port that is out of date.
    let public = [("SEEDER__PORT_FILE", file.to_str().unwrap()), ("SEEDER__PUBLIC_ADDRESS", "192.0.2.7:6881")];
    let (server, id) = seeding(&public).await;
    assert_eq!(server.seeder, format!("192.0.2.7:{port}"));
    assert!(server.magnet(&id).await.contains(&format!("x.pe=192.0.2.7:{port}")));
    assert!(is_open(port));
}

#[tokio::test]
async fn the_public_address_follows_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ip");
    let settings = [("SEEDER__PUBLIC_IP_FILE", file.to_str().unwrap()), ("SEEDER__PUBLIC_ADDRESS", "192.0.2.7:6881")];
    let (mut server, id) = seeding(&settings).await;
    assert!(server.magnet(&id).await.contains("x.pe=192.0.2.7:6881"));
    for (text, address) in [("203.0.113.9\n", "203.0.113.9:6881"), ("2001:db8::9", "[2001:db8::9]:6881")] {
        fs::write(&file, text).unwrap();
        eventually("magnet links have the address", async || {
            server.magnet(&id).await.contains(&format!("x.pe={address}")).then_some(())
        })
        .await;
    }
    // A server that starts while the VPN is up has the address at once.
    server.terminate().await;
    let server = server.restart().await;
    assert_eq!(server.seeder, "[2001:db8::9]:6881");
}

/// Connects as a peer without encryption and sends the handshake (BEP 3).
fn peer(port: u16, infohash: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let infohash = hex::decode(infohash).unwrap();
    let handshake = [&b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0"[..], &infohash, b"-XX0001-000000000001"].concat();
    stream.write_all(&handshake).unwrap();
    stream.read_exact(&mut [0; 68]).unwrap();
    stream
}

/// Requests a block and reads until it arrives.
fn receives_a_block(stream: &mut TcpStream) {
    let request = [&[0, 0, 0, 1, 2][..], &[0, 0, 0, 13, 6], &[0; 8], &[0, 0, 0x40, 0]].concat();
    stream.write_all(&request).unwrap();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut message).unwrap();
        match message.first() {
            // An unchoke: requests before it are ignored (BEP 3).
            Some(1) => stream.write_all(&request[5..]).unwrap(),
            Some(7) => return assert_eq!(message[9..], content(SIZE, 1)[..16_384]),
            _ => {}
        }
    }
}

async fn set_port(server: &TestServer, http: u16, body: &str) -> Response {
    let url = format!("http://127.0.0.1:{http}/listen-port");
    server.http.put(url).body(body.to_owned()).send().await.unwrap()
}

#[tokio::test]
async fn the_port_is_changed_by_a_call_and_connected_peers_stay() {
    let http = free_port();
    let (server, id) = seeding(&[("SEEDER__HTTP", &format!("127.0.0.1:{http}"))]).await;
    let first = server.seeder.parse::<SocketAddr>().unwrap().port();
    let infohash = server.get(&id).await["infohash"].as_str().unwrap().to_owned();
    let mut connected = tokio::task::spawn_blocking(move || peer(first, &infohash)).await.unwrap();

    let port = free_port();
    let response = set_port(&server, http, &port.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer = read_json(response).await;
    assert_eq!(answer, json!({ "addresses": [format!("127.0.0.1:{port}")] }));
    assert!(is_open(port), "the socket is open when the call returns");
    eventually("the old socket is closed", async || (!is_open(first)).then_some(())).await;
    tokio::task::spawn_blocking(move || receives_a_block(&mut connected)).await.unwrap();
    assert_reachable_at(&server, &id, port).await;
}

#[tokio::test]
async fn a_port_that_cannot_be_used_leaves_the_seeder_where_it_is() {
    let http = free_port();
    let (server, id) = seeding(&[("SEEDER__HTTP", &format!("127.0.0.1:{http}"))]).await;
    let first = server.seeder.parse::<SocketAddr>().unwrap().port();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port();
    for (body, status, detail) in [
        (taken.to_string(), StatusCode::CONFLICT, "cannot listen on port"),
        ("0".into(), StatusCode::BAD_REQUEST, "1 to 65535"),
        ("port=1".into(), StatusCode::BAD_REQUEST, "1 to 65535"),
    ] {
        let response = set_port(&server, http, &body).await;
        assert_eq!(response.status(), status, "{body}");
        let problem = read_json(response).await;
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    let url = format!("http://127.0.0.1:{http}/listen-port");
    let from_page = server.http.post(url).header("origin", "http://example.org").body("1");
    assert_eq!(from_page.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_reachable_at(&server, &id, first).await;
}

#[tokio::test]
async fn the_seeder_has_its_own_health_and_metrics() {
    let http = free_port();
    let (server, _) = seeding(&[("SEEDER__HTTP", &format!("127.0.0.1:{http}"))]).await;
    let get = async |path: &str| server.http.get(format!("http://127.0.0.1:{http}{path}")).send().await.unwrap();
    let health = read_json(get("/health").await).await;
    let addresses = [server.seeder.as_str()];
    assert_eq!(health, json!({ "status": "healthy", "torrents": 1, "peers": 0, "addresses": addresses }));
    let metrics = get("/metrics").await.text().await.unwrap();
    assert!(metrics.lines().any(|line| line == "proxytorrent_torrents_seeding 1"), "{metrics}");
}
