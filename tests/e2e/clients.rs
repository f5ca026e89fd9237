//! Downloads with real BitTorrent clients, from nothing but the torrent file or magnet link that the API returns. The
//! clients run with options of the tests, and for the table of clients with their default settings.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::BufRead;
use std::process::{Output, Stdio};

use proxytorrent_tests::clients::{aria2, libtorrent};
use proxytorrent_tests::documents::keep_part;
use proxytorrent_tests::{Origin, TestServer, content, eventually, program, python, run, sha256, tool};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

async fn everybody_downloads(size: usize) {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let expected = sha256(&content(size, 7));
    let row = server.fetch(&origin.file(size, 7, "a file.bin")).await;
    assert_eq!(row["content_hash"], expected);
    assert_eq!(row["content_size"], size);
    assert_eq!(row["file_name"], "a file.bin");

    let id = row["id"].as_str().unwrap();
    let (torrent, magnet) = (server.save_torrent(id).await, server.magnet(id).await);
    for (source, from) in [(torrent.to_str().unwrap(), "torrent"), (&magnet, "magnet")] {
        assert_eq!(libtorrent(source, &server.scratch(&format!("libtorrent-{from}"))).await, expected);
        assert_eq!(aria2(source, &server.scratch(&format!("aria2-{from}")), "a file.bin").await, expected);
    }
}

#[tokio::test]
async fn all_clients_download_one_byte() {
    everybody_downloads(1).await;
}

#[tokio::test]
async fn all_clients_download_10_kb() {
    everybody_downloads(10_000).await;
}

#[tokio::test]
async fn all_clients_download_5_mb() {
    everybody_downloads(5_000_000).await;
}

#[tokio::test]
async fn all_clients_download_45_mb() {
    everybody_downloads(45_000_000).await;
}

#[tokio::test]
async fn a_hybrid_torrent_is_downloaded_by_torrent_file_and_by_magnet_link() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.file(3_000_000, 1, "h.bin"), "format": "hybrid" })).await;
    let row = server.ready(&id).await;
    assert_eq!(row["infohash"].as_str().map(str::len), Some(40));
    assert_eq!(row["infohash_v2"].as_str().map(str::len), Some(64));
    let magnet = server.magnet(&id).await;
    assert!(magnet.contains(&format!("xt=urn:btmh:1220{}", row["infohash_v2"].as_str().unwrap())), "{magnet}");

    let expected = sha256(&content(3_000_000, 1));
    let torrent = server.save_torrent(&id).await;
    assert_eq!(libtorrent(torrent.to_str().unwrap(), &server.scratch("torrent")).await, expected);
    assert_eq!(libtorrent(&magnet, &server.scratch("magnet")).await, expected);
}

#[tokio::test]
async fn a_public_torrent_is_downloaded_by_its_magnet_link() {
    let (server, origin) = (TestServer::with(&[("TORRENT__PRIVATE_TRACKER", "false")]).await, Origin::start().await);
    let row = server.fetch(&origin.file(100_000, 1, "p.bin")).await;
    let magnet = server.magnet(row["id"].as_str().unwrap()).await;
    assert_eq!(libtorrent(&magnet, &server.scratch("magnet")).await, sha256(&content(100_000, 1)));
}

#[tokio::test]
async fn bytes_uploaded_to_peers_are_counted_in_the_metrics() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1_000_000, 3, "u.bin")).await;
    let torrent = server.save_torrent(row["id"].as_str().unwrap()).await;
    libtorrent(torrent.to_str().unwrap(), &server.scratch("peer")).await;
    let uploaded = eventually("the upload is counted", async || {
        let metrics = server.call(Method::GET, "/metrics", None).await.text().await.unwrap();
        let uploaded = metrics.lines().find_map(|line| line.strip_prefix("proxytorrent_uploaded_bytes_total "));
        uploaded.and_then(|bytes| bytes.parse::<u64>().ok()).filter(|bytes| *bytes > 0)
    })
    .await;
    assert!((1_000_000..2_000_000).contains(&uploaded), "{uploaded}");
}

#[tokio::test]
async fn upload_counters_survive_a_stop_and_a_crash() {
    let (mut server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(1_000_000, 3, "u.bin")).await;
    let id = row["id"].as_str().unwrap();
    let download = async |server: &TestServer, name: &str| {
        let torrent = server.save_torrent(id).await;
        libtorrent(torrent.to_str().unwrap(), &server.scratch(name)).await;
    };
    let uploaded = async |server: &TestServer| server.get(id).await["swarm"]["uploaded_bytes"].as_u64().unwrap();
    assert_eq!(uploaded(&server).await, 0);
    download(&server, "first").await;
    // The counters are saved at the stop, long before the end of the first interval.
    server.terminate().await;
    let mut server = server.restart_with(&[("SEEDER__SAVE_INTERVAL", "1")]).await;
    let saved = uploaded(&server).await;
    assert!((1_000_000..2_000_000).contains(&saved), "{saved}");

    eventually("the torrent is seeded", async || (server.seeding().await == 1).then_some(())).await;
    download(&server, "second").await;
    eventually("the counter is saved", async || (uploaded(&server).await >= saved + 1_000_000).then_some(())).await;
    server = server.crash_and_restart().await;
    let saved = uploaded(&server).await;
    assert!((2_000_000..4_000_000).contains(&saved), "{saved}");
}

/// Transmission ignores peers with addresses in 127.0.0.0/8 from a tracker, so this test needs a network of two
/// namespaces.
#[tokio::test]
async fn transmission_downloads_across_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let (script, program) = (tool("transmission.sh"), program());
    let arguments = [script.to_str().unwrap(), program.to_str().unwrap(), folder.path().to_str().unwrap()];
    let printed = run("bash", &arguments, folder.path()).await;
    assert!(printed.contains("the same"), "{printed}");
}

/// A column of the table of clients.
struct Column {
    title: &'static str,
    /// The arguments of `default_clients.py`.
    arguments: &'static [&'static str],
    /// The settings of the server that are not the default.
    settings: &'static [(&'static str, &'static str)],
}

/// A client that needs a second try makes it a minute later, after the deadline of 45 seconds.
const COLUMNS: [Column; 5] = [
    Column { title: "`.torrent`", arguments: &["--by", "torrent"], settings: &[] },
    Column { title: "Magnet link", arguments: &["--by", "magnet"], settings: &[] },
    Column { title: "Hybrid `.torrent`", arguments: &["--by", "hybrid", "--deadline", "30"], settings: &[] },
    Column {
        title: "`.torrent`, encryption preferred",
        arguments: &["--by", "torrent"],
        settings: &[("TORRENT__ENCRYPTION", "preferred")],
    },
    Column {
        title: "Webseed alone",
        arguments: &["--by", "webseed", "--size", "20000000", "--deadline", "30"],
        settings: &[("TORRENT__WEBSEED", "true")],
    },
];

/// The names of the clients of `default_clients.py`, in the order of the table.
const CLIENTS: [(&str, &str); 8] = [
    ("qbittorrent", "qBittorrent"),
    ("deluge", "Deluge"),
    ("transmission", "Transmission"),
    ("aria2", "aria2"),
    ("rtorrent", "rTorrent"),
    ("libtorrent", "libtorrent"),
    ("libtorrent_2_0", "libtorrent"),
    ("rqbit", "rqbit"),
];

/// Downloads with every client. Returns the output of the script, which has a line of JSON for each client.
async fn default_clients(column: &Column) -> Output {
    let folder = tempfile::tempdir().unwrap();
    // `timeout` ends the script with SIGTERM: it deletes its namespaces then.
    let mut command = Command::new("timeout");
    command.arg("240").arg(python()).arg(tool("default_clients.py")).arg(program()).arg(folder.path());
    command.args(column.arguments).envs(column.settings.iter().copied()).current_dir(folder.path());
    command.stdin(Stdio::null()).output().await.expect("it runs")
}

#[tokio::test]
async fn the_table_of_clients_shows_what_they_download() {
    // All scripts have ended before the first assertion: a script that is killed leaves its namespaces behind.
    let outputs = futures::future::join_all(COLUMNS.iter().map(default_clients)).await;
    let mut rows = BTreeMap::new();
    for line in outputs.iter().flat_map(|output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.lines()
    }) {
        let result: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
        println!("{result}");
        let text = |name: &str| result[name].as_str().expect("text").to_owned();
        let row = rows.entry(text("client")).or_insert_with(|| (text("version"), vec![]));
        row.1.push(if result["seconds"].is_null() { "no" } else { "yes" });
    }
    assert_eq!(rows.len(), CLIENTS.len());
    let mut table = format!("| Client | {} |\n|---|", COLUMNS.each_ref().map(|column| column.title).join(" | "));
    table += &("---|".repeat(COLUMNS.len()) + "\n");
    for (client, name) in CLIENTS {
        let (version, cells) = &rows[client];
        assert_eq!(cells.len(), COLUMNS.len(), "{client}");
        writeln!(table, "| {name} {version} | {} |", cells.join(" | ")).unwrap();
    }
    keep_part("docs/clients.md", "clients", &table);
}
