//! Remote seeding benchmark: contents from an S3 with latency, through the seeder's cache, with RC4: 512 MiB to one
//! libtorrent client, and 20 GiB to clients that discard what they receive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws::{Bucket, Clients, S3Contents};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use domain::{ContentHash, InfoHash};
use futures::future::join_all;
use metainfo::{Pieces, TorrentBuilder, TorrentFormat, piece_length_for};
use ports::{Seeder, Statistics, StoreError, Transferred};
use seeder::{Reader, SeedSessions};
use settings::Settings;
use tempfile::TempDir;
use tests::leecher::{Leecher, PIECE_LENGTH};
use tests::memory_mb;
use tokio::task::spawn_blocking;

use crate::report;
use crate::seeding::{SIZE, file, rate};

/// The latencies of S3 in milliseconds.
const LATENCIES: [u64; 3] = [0, 20, 100];

/// An S3 in which each object has the same bytes.
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
    let pieces = Pieces::of(TorrentFormat::V1, piece_length_for(SIZE as u64), &object);
    let (infohash, metainfo) = torrent("file.bin", pieces);
    for latency in LATENCIES {
        for disk in ["0", "4294967296"] {
            let (rate, gets) = one(&object, latency, disk, infohash, &metainfo).await;
            let disk = if disk == "0" { "memory" } else { "memory and disk" };
            let what = format!("seed 512 MiB from S3, {latency} ms, {disk}");
            report(&what, &format!("{rate:.0} MB/s ({gets:.2} GETs per chunk)"));
        }
    }
    large_bucket(&object).await;
}

fn torrent(name: &str, pieces: Pieces) -> (InfoHash, Vec<u8>) {
    let builder =
        TorrentBuilder { name: name.into(), private: true, source: None, created_by: None, creation_date: None };
    let metainfo = builder.build(pieces).expect("a torrent");
    (metainfo.infohash(), metainfo.into_bytes())
}

/// A seeder with contents in S3.
struct Remote {
    sessions: SeedSessions,
    settings: Settings,
    gets: Arc<AtomicUsize>,
    folder: TempDir,
}

impl Remote {
    /// Starts a seeder on a store whose objects are all this one, with these settings of the cache.
    async fn start(object: &Bytes, latency_ms: u64, cache: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let latency = Duration::from_millis(latency_ms);
        let store = Store { object: object.clone(), latency, gets: Arc::default() };
        let gets = store.gets.clone();
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
        let cache_folder = folder.path().join("cache").display().to_string();
        let others = [
            ("PROFILE", "development"),
            ("SEEDER__LISTEN", "127.0.0.1:0"),
            ("SEEDER__CACHE_FOLDER", cache_folder.as_str()),
        ];
        let settings = Settings::from_pairs(others.into_iter().chain(cache.iter().copied())).expect("settings");
        let reader = Reader::cached(contents, &settings.seeder).await.expect("a cache");
        let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, Arc::new(Uncounted)).await;
        Self { sessions: sessions.expect("a session"), settings, gets, folder }
    }

    fn address(&self) -> SocketAddr {
        self.sessions.endpoints().borrow().sessions[0][0]
    }

    /// Returns the number of GETs for each chunk of so many bytes.
    fn gets_per_chunk(&self, bytes: u64) -> f64 {
        self.gets.load(Ordering::Relaxed) as f64 * f64::from(self.settings.seeder.cache_chunk.get()) / bytes as f64
    }
}

/// Seeds the torrent to one client. Returns the rate in MB/s, and the number of GETs per chunk.
async fn one(object: &Bytes, latency_ms: u64, disk: &str, infohash: InfoHash, metainfo: &[u8]) -> (f64, f64) {
    let remote = Remote::start(object, latency_ms, &[("SEEDER__CACHE_DISK", disk)]).await;
    remote.sessions.add(infohash, ContentHash::new([1; 32]), metainfo).await.expect("added");
    let (torrent, down) = (remote.folder.path().join("file.torrent"), remote.folder.path().join("down"));
    std::fs::write(&torrent, metainfo).expect("written");
    let port = remote.address().port().to_string();
    let rate = rate(&[torrent.as_ref(), down.as_ref(), port.as_ref()]).await;
    remote.sessions.stop().await;
    (rate, remote.gets_per_chunk(object.len() as u64))
}

/// The number of contents of 512 MiB in the large bucket: 20 GiB.
const CONTENTS: u8 = 40;

/// The number of clients at once, each with a content of its own.
const CLIENTS: usize = 8;

/// How long each client downloads.
const TIME: Duration = Duration::from_secs(12);

/// Measures a cache that is much smaller than what is downloaded: 256 MiB in memory, and none on disk.
async fn large_bucket(object: &Bytes) {
    let cache = [("SEEDER__CACHE_DISK", "0"), ("SEEDER__CACHE_MEMORY", "268435456")];
    let remote = Remote::start(object, 20, &cache).await;
    let pieces = Pieces::of(TorrentFormat::V1, PIECE_LENGTH, object);
    let count = u32::try_from(object.len()).expect("it fits") / PIECE_LENGTH;
    let mut infohashes = vec![];
    for number in 0..CONTENTS {
        let (infohash, metainfo) = torrent(&format!("{number}.bin"), pieces.clone());
        remote.sessions.add(infohash, ContentHash::new([number; 32]), &metainfo).await.expect("added");
        infohashes.push(infohash);
    }
    let (memory, started) = (memory_mb(std::process::id(), "VmRSS"), Instant::now());
    let (mut bytes, address) = (0, remote.address());
    for some in infohashes.chunks(CLIENTS) {
        let downloads = some.iter().copied().map(|infohash| {
            spawn_blocking(move || {
                // One in 256 encrypted handshakes fails (arvidn/libtorrent#8434).
                let connect = || Leecher::connect(address, infohash, count);
                let client = connect().or_else(|_| connect()).expect("connected");
                client.download(0, Instant::now() + TIME).expect("the seeder sends")
            })
        });
        bytes += join_all(downloads).await.into_iter().map(|bytes| bytes.expect("no panic")).sum::<u64>();
    }
    let rate = bytes as f64 / 1e6 / started.elapsed().as_secs_f64();
    let (gets, more) = (remote.gets_per_chunk(bytes), memory_mb(std::process::id(), "VmRSS") - memory);
    let figure = format!("{rate:.0} MB/s ({gets:.2} GETs per chunk, {more:.0} MB more)");
    report(&format!("{CLIENTS} clients, 20 GiB in S3, 20 ms, 256 MiB cache"), &figure);
    remote.sessions.stop().await;
}
