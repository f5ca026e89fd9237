//! The built-in tracker over HTTP (BEP 3): announces, scrapes, passkeys.

use metainfo::Value;
use proxytorrent_tests::{Origin, TestServer, content, python, run, sha256, tool};
use reqwest::Method;
use serde_json::json;

async fn ask(server: &TestServer, url: &str) -> Value {
    let response = server.http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    Value::decode(&response.bytes().await.unwrap()).unwrap()
}

/// Returns the announce URL in a request's torrent, and the percent-encoded infohash.
pub async fn announce_url(server: &TestServer, id: &str) -> (String, String) {
    let torrent = Value::decode(&std::fs::read(server.save_torrent(id).await).unwrap()).unwrap();
    let url = String::from_utf8(torrent.get("announce").unwrap().as_bytes().unwrap().to_vec()).unwrap();
    let infohash = server.get(id).await["infohash"].as_str().unwrap().to_owned();
    let bytes: Vec<_> = infohash.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    (url, format!("%{}", bytes.join("%")))
}

fn refusal(answer: &Value) -> Option<String> {
    answer.get("failure reason").and_then(Value::as_bytes).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[tokio::test]
async fn announces_return_the_seeder_and_the_other_peers() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let (url, infohash) = announce_url(&server, row["id"].as_str().unwrap()).await;
    let announce = |n: u8, more: &str| {
        let id = char::from(b'a' + n).to_string().repeat(20);
        format!("{url}&info_hash={infohash}&peer_id={id}&port={}&left=1000{more}", 5000 + u16::from(n))
    };
    let seeder_port: u16 = server.seeder.rsplit(':').next().unwrap().parse().unwrap();
    let endpoint = |port: u16| [&[127, 0, 0, 1][..], &port.to_be_bytes()].concat();

    let first = ask(&server, &announce(1, "&event=started")).await;
    assert_eq!(first.get("peers").unwrap().as_bytes().unwrap(), endpoint(seeder_port));
    assert_eq!(first.get("complete").unwrap().as_integer(), Some(1));
    let second = ask(&server, &announce(2, "&ip=203.0.113.9")).await;
    assert_eq!(second.get("peers").unwrap().as_bytes().unwrap(), [endpoint(5001), endpoint(seeder_port)].concat());
    let first = ask(&server, &announce(1, "")).await;
    let peers = first.get("peers").unwrap().as_bytes().unwrap().to_vec();
    assert_eq!(peers, [endpoint(5002), endpoint(seeder_port)].concat(), "the ip parameter is ignored");

    ask(&server, &announce(2, "&event=stopped")).await;
    let plain = ask(&server, &announce(1, "&compact=0")).await;
    let Value::List(peers) = plain.get("peers").unwrap() else { panic!("{plain:?}") };
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].get("port").unwrap().as_integer(), Some(seeder_port.into()));

    let scrape = ask(&server, &format!("{}&info_hash={infohash}", url.replace("/announce", "/scrape"))).await;
    let Some(Value::Dict(files)) = scrape.get("files") else { panic!("{scrape:?}") };
    let file = files.values().next().unwrap();
    assert_eq!(file.get("complete").unwrap().as_integer(), Some(1));
    assert_eq!(file.get("incomplete").unwrap().as_integer(), Some(1));
    assert_eq!(file.get("downloaded").unwrap().as_integer(), Some(0));
}

#[tokio::test]
async fn completed_downloads_are_counted_in_the_scrape_and_the_request() {
    let (mut server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let id = row["id"].as_str().unwrap();
    assert_eq!(row["swarm"], json!({ "seeders": 1, "leechers": 0, "completed": 0, "uploaded_bytes": 0 }));
    let (url, infohash) = announce_url(&server, id).await;
    let announce = |n: u8, left: u32, event: &str| {
        let id = char::from(b'a' + n).to_string().repeat(20);
        let port = 5000 + u16::from(n);
        format!("{url}&info_hash={infohash}&peer_id={id}&port={port}&left={left}{event}")
    };
    for (n, left, event) in [(1, 1000, "&event=started"), (2, 1000, "&event=started"), (1, 0, "&event=completed")] {
        ask(&server, &announce(n, left, event)).await;
    }
    let swarm = server.get(id).await["swarm"].clone();
    assert_eq!(swarm, json!({ "seeders": 2, "leechers": 1, "completed": 1, "uploaded_bytes": 0 }));
    server.terminate().await;
    let server = server.restart().await;
    // The new server has another port, and its tracker another URL.
    let (url, _) = announce_url(&server, id).await;
    let scrape = ask(&server, &format!("{}&info_hash={infohash}", url.replace("/announce", "/scrape"))).await;
    let Some(Value::Dict(files)) = scrape.get("files") else { panic!("{scrape:?}") };
    let file = files.values().next().unwrap();
    assert_eq!(file.get("downloaded").unwrap().as_integer(), Some(1));
}

#[tokio::test]
async fn unknown_passkeys_and_other_torrents_are_refused_with_a_reason() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let (url, infohash) = announce_url(&server, row["id"].as_str().unwrap()).await;
    let peer = "peer_id=aaaaaaaaaaaaaaaaaaaa&port=5000&left=1";
    let stranger = format!("{}?passkey={}&info_hash={infohash}&{peer}", url.split('?').next().unwrap(), "0".repeat(32));
    assert!(refusal(&ask(&server, &stranger).await).unwrap().contains("passkey"));
    let foreign = format!("{url}&info_hash={}&{peer}", "%aa".repeat(20));
    assert!(refusal(&ask(&server, &foreign).await).unwrap().contains("another torrent"));
    let broken = format!("{url}&info_hash=x&{peer}");
    assert!(refusal(&ask(&server, &broken).await).unwrap().contains("20 bytes"));
}

#[tokio::test]
async fn a_second_downloader_gets_the_content_from_the_first() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(3_000_000, 5, "shared.bin")).await;
    let torrent = server.save_torrent(row["id"].as_str().unwrap()).await;
    let (folder, script) = (server.scratch("exchange"), tool("exchange.py"));
    let arguments = [script.to_str().unwrap(), torrent.to_str().unwrap(), folder.to_str().unwrap()];
    let printed = run(python().to_str().unwrap(), &arguments, &folder).await;
    assert_eq!(sha256(&std::fs::read(printed.trim()).unwrap()), sha256(&content(3_000_000, 5)));
}

#[tokio::test]
async fn a_passkey_is_valid_for_its_own_torrent_until_its_request_ends() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let (one, other) =
        (server.fetch(&origin.file(1000, 1, "a.bin")).await, server.fetch(&origin.file(1000, 2, "b.bin")).await);
    let (id, other) = (one["id"].as_str().unwrap(), other["id"].as_str().unwrap());
    let ((url, infohash), (other_url, other_infohash)) =
        (announce_url(&server, id).await, announce_url(&server, other).await);
    let peer = "peer_id=aaaaaaaaaaaaaaaaaaaa&port=5000&left=1";
    assert_ne!(url, other_url);
    let own = format!("{url}&info_hash={infohash}&{peer}");
    assert_eq!(refusal(&ask(&server, &own).await), None);
    let foreign = format!("{url}&info_hash={other_infohash}&{peer}");
    assert!(refusal(&ask(&server, &foreign).await).unwrap().contains("another torrent"));
    let scrape = url.replace("/announce", "/scrape");
    let scraped = ask(&server, &format!("{scrape}&info_hash={infohash}&info_hash={other_infohash}")).await;
    let Some(Value::Dict(files)) = scraped.get("files") else { panic!("{scraped:?}") };
    assert_eq!(files.len(), 1, "the other torrent is not in the response");

    assert_eq!(server.call(Method::DELETE, &format!("/v1/requests/{id}"), None).await.status(), 204);
    assert!(refusal(&ask(&server, &own).await).unwrap().contains("has ended"));
    let kept = format!("{other_url}&info_hash={other_infohash}&{peer}");
    assert_eq!(refusal(&ask(&server, &kept).await), None);
}

#[tokio::test]
async fn revoked_passkeys_are_refused_and_new_ones_work() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let id = row["id"].as_str().unwrap();
    let peer = "peer_id=aaaaaaaaaaaaaaaaaaaa&port=5000&left=1";
    let (mut old, infohash) = announce_url(&server, id).await;
    for _ in 0..2 {
        assert_eq!(refusal(&ask(&server, &format!("{old}&info_hash={infohash}&{peer}")).await), None);
        assert_eq!(server.call(Method::DELETE, "/v1/passkeys", None).await.status(), 204);
        assert!(
            refusal(&ask(&server, &format!("{old}&info_hash={infohash}&{peer}")).await).unwrap().contains("not valid")
        );
        let (new, _) = announce_url(&server, id).await;
        assert_ne!(new, old);
        old = new;
    }
}

#[tokio::test]
async fn a_client_that_announces_no_encryption_support_is_warned() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let (url, infohash) = announce_url(&server, row["id"].as_str().unwrap()).await;
    let announce = format!("{url}&info_hash={infohash}&peer_id=aaaaaaaaaaaaaaaaaaaa&port=5000&left=1");
    let warned = async |more: &str| ask(&server, &format!("{announce}{more}")).await.get("warning message").is_some();
    assert!(warned("").await && warned("&supportcrypto=0").await);
    assert!(!warned("&supportcrypto=1").await && !warned("&requirecrypto=1").await);
}
