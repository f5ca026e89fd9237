//! Remote seeding benchmark: 512 MiB from an S3 with latency through the seeder's cache to one libtorrent client, with RC4.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws::{Bucket, Clients, S3Contents};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use domain::{ContentHash, InfoHash};
use metainfo::{Pieces, TorrentBuilder, TorrentFormat, piece_length_for};
use ports::{Seeder, Statistics, StoreError, Transferred};
use seeder::{Reader, SeedSessions};
use settings::Settings;

use crate::report;
use crate::seeding::{SIZE, file, rate};

/// The latencies of S3 in milliseconds.
const LATENCIES: [u64; 3] = [0, 20, 100];

/// An S3 with one object.
#[derive(Clone)]
struct Store {
    object: Bytes,
    latency: Duration,
    gets: Arc<AtomicUsize>,
}

/// Responds to a GET with one range.
async fn get(State(store): State<Store>, headers: HeaderMap) -> (StatusCode, Bytes) {
    store.gets.fetch_add(1, Ordering::Relaxed);
    // The latency of the network.
    tokio::time::sleep(store.latency).await;
    let range = headers[header::RANGE].to_str().expect("text").strip_prefix("bytes=").expect("bytes");
    let (from, to) = range.split_once('-').expect("a range");
    let (from, to): (usize, usize) = (from.parse().expect("a number"), to.parse().expect("a number"));
    (StatusCode::PARTIAL_CONTENT, store.object.slice(from..store.object.len().min(to + 1)))
}

/// Counts nothing: the benchmark has no database.
struct Uncounted;

#[async_trait::async_trait]
impl Statistics for Uncounted {
    async fn add(&self, _: InfoHash, _: Transferred) -> Result<(), StoreError> {
        Ok(())
    }

    async fn transferred(&self, _: InfoHash) -> Result<Transferred, StoreError> {
        Ok(Transferred::default())
    }
}

pub async fn run() {
    println!();
    let object = Bytes::from(file());
    let builder =
        TorrentBuilder { name: "file.bin".into(), private: true, source: None, created_by: None, creation_date: None };
    let pieces = Pieces::of(TorrentFormat::V1, piece_length_for(SIZE as u64), &object);
    let metainfo = builder.build(pieces).expect("a torrent");
    let infohash = metainfo.infohash();
    let metainfo = metainfo.into_bytes();
    for latency in LATENCIES {
        for disk in ["0", "4294967296"] {
            let store = Store { object: object.clone(), latency: Duration::from_millis(latency), gets: Arc::default() };
            let (rate, gets) = one(store, disk, infohash, &metainfo).await;
            let disk = if disk == "0" { "memory" } else { "memory and disk" };
            let what = format!("seed 512 MiB from S3, {latency} ms, {disk}");
            report(&what, &format!("{rate:.0} MB/s ({gets:.2} GETs per chunk)"));
        }
    }
}

/// Seeds the torrent to one client. Returns the rate in MB/s, and the number of GETs per chunk.
async fn one(store: Store, disk: &str, infohash: InfoHash, metainfo: &[u8]) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (object, gets) = (store.object.len(), store.gets.clone());
    let router = axum::Router::new().fallback(get).with_state(store);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "bench")))
        .http_client(aws::http_client())
        .endpoint_url(endpoint);
    let clients = Clients::new(config.build());
    let contents = Arc::new(S3Contents::new(Bucket::new(clients.s3(), "bucket"), clients.dynamodb(), "none", 0));
    let settings = Settings::from_pairs([
        ("PROFILE", "development"),
        ("SEEDER__LISTEN", "127.0.0.1:0"),
        ("SEEDER__CACHE_DISK", disk),
        ("SEEDER__CACHE_FOLDER", &folder.path().join("cache").display().to_string()),
    ]);
    let settings = settings.expect("settings");
    let reader = Reader::cached(contents, &settings.seeder).await.expect("a cache");
    let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, Arc::new(Uncounted)).await;
    let sessions = sessions.expect("a session");
    // The store has one object, whatever its key.
    sessions.add(infohash, ContentHash::new([1; 32]), metainfo).await.expect("added");

    let (torrent, down) = (folder.path().join("file.torrent"), folder.path().join("down"));
    std::fs::write(&torrent, metainfo).expect("written");
    let port = sessions.endpoints().borrow().sessions[0][0].port().to_string();
    let rate = rate(&[torrent.as_ref(), down.as_ref(), port.as_ref()]).await;
    sessions.stop().await;
    let chunks = object.div_ceil(settings.seeder.cache_chunk.get() as usize);
    (rate, gets.load(Ordering::Relaxed) as f64 / chunks as f64)
}
