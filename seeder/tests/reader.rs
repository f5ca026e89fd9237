//! Reads of contents: the cache of chunks, and the verification against the pieces of the torrent. The store is a folder
//! whose reads are counted, delayed, and made to fail.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::{ContentHash, FileName, InfoHash, RequestId, Timestamp, Torrent, TorrentState};
use embedded::{Database, DatabaseOptions, FolderContents, SpaceLimits, SqliteStatistics, SqliteTorrents};
use futures::future::join_all;
use libtorrent_sys::Pieces;
use metainfo::{TorrentBuilder, TorrentFormat};
use ports::{
    Check, Contents, Removal, Seeder, StagedUpload, StagingEntry, StoreError, Torrents, UploadToken, VerifiedReader,
};
use proxytorrent_seeder::{CacheError, ReadError, Reader, SeedSessions};
use settings::Settings;
use tempfile::TempDir;

const BLOCK: usize = 16 * 1024;
const CHUNK: usize = 1 << 20;

/// A store that is slow and fails.
struct Remote {
    folder: FolderContents,
    loads: AtomicUsize,
    /// The number of next reads that fail.
    failures: AtomicUsize,
}

#[async_trait]
impl Contents for Remote {
    async fn read_at(&self, content: ContentHash, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        // The latency of a store over a network.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let failed = self.failures.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if failed.is_ok() {
            return Err(StoreError::unavailable("the store", "it fails"));
        }
        self.folder.read_at(content, offset, buffer).await
    }

    fn report_unreadable(&self, content: ContentHash) {
        self.folder.report_unreadable(content);
    }

    async fn unreadable(&self) -> ContentHash {
        self.folder.unreadable().await
    }

    async fn stage(&self, id: RequestId) -> Result<Box<dyn StagedUpload>, StoreError> {
        self.folder.stage(id).await
    }

    async fn resume(&self, id: RequestId, token: &UploadToken) -> Result<Option<Box<dyn StagedUpload>>, StoreError> {
        self.folder.resume(id, token).await
    }

    async fn discard(&self, upload: &UploadToken) -> Result<(), StoreError> {
        self.folder.discard(upload).await
    }

    async fn staging(&self) -> Result<Vec<StagingEntry>, StoreError> {
        self.folder.staging().await
    }

    async fn size(&self, content: ContentHash) -> Result<Option<u64>, StoreError> {
        self.folder.size(content).await
    }

    async fn touch(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        self.folder.touch(content, now).await
    }

    async fn remove(&self, content: ContentHash, since: Timestamp) -> Result<Removal, StoreError> {
        self.folder.remove(content, since).await
    }

    async fn quarantine(&self, content: ContentHash) -> Result<(), StoreError> {
        self.folder.quarantine(content).await
    }

    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<ContentHash>, StoreError> {
        self.folder.list_unmodified(part, before).await
    }
}

#[async_trait]
impl Check for Remote {
    async fn check(&self) -> Result<(), StoreError> {
        self.folder.check().await
    }
}

/// A content in a store, with the pieces of its torrent.
struct TestEnv {
    store: Arc<Remote>,
    bytes: Vec<u8>,
    pieces: Pieces,
    torrent: Torrent,
    metainfo: Vec<u8>,
    folder: TempDir,
}

const CONTENT: ContentHash = ContentHash::new([7; 32]);

impl TestEnv {
    async fn new(size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let contents = FolderContents::open(folder.path().join("content"), SpaceLimits::default()).unwrap();
        let bytes: Vec<_> = (0..size as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        let mut staged = contents.stage(RequestId::new()).await.unwrap();
        staged.write(bytes.clone().into()).await.unwrap();
        staged.commit(CONTENT, Timestamp::from_millis(0)).await.unwrap();
        let builder =
            TorrentBuilder { name: "a".into(), private: true, source: None, created_by: None, creation_date: None };
        let metainfo = builder.build(metainfo::Pieces::of(TorrentFormat::V1, 1 << 18, &bytes)).unwrap();
        let torrent = Torrent {
            infohash: metainfo.infohash(),
            infohash_v2: None,
            content_hash: CONTENT,
            name: FileName::default(),
            size: size as u64,
            piece_length: 1 << 18,
            state: TorrentState::Adding,
            version: 0,
            created_at: Timestamp::from_millis(0),
        };
        let metainfo = metainfo.into_bytes();
        let pieces = Pieces::parse(&metainfo).unwrap();
        let store = Remote { folder: contents, loads: AtomicUsize::new(0), failures: AtomicUsize::new(0) };
        Self { store: Arc::new(store), bytes, pieces, torrent, metainfo, folder }
    }

    /// Returns a reader with a cache of 64 MiB in memory, and of this many bytes on disk.
    async fn cached(&self, disk: usize) -> Result<Reader, CacheError> {
        let folder = self.folder.path().join("cache").display().to_string();
        let settings = Settings::from_pairs([
            ("PROFILE", "development"),
            ("SEEDER__CACHE_MEMORY", "67108864"),
            ("SEEDER__CACHE_DISK", &disk.to_string()),
            ("SEEDER__CACHE_FOLDER", &folder),
            ("SEEDER__CACHE_CHUNK", "1048576"),
        ]);
        Reader::cached(self.store.clone(), &settings.unwrap().seeder).await
    }

    /// Reads the block at this offset.
    async fn read(&self, reader: &Reader, offset: usize) -> Result<(), ReadError> {
        let mut buffer = vec![0; BLOCK.min(self.bytes.len() - offset)];
        reader.read(CONTENT, offset as u64, &self.pieces, &mut buffer).await?;
        assert!(buffer == self.bytes[offset..offset + buffer.len()], "other bytes at {offset}");
        Ok(())
    }

    /// Reads a block of each chunk, one after another.
    async fn read_chunks(&self, reader: &Reader) {
        for offset in (0..self.bytes.len()).step_by(CHUNK) {
            self.read(reader, offset).await.unwrap();
        }
    }

    fn loads(&self) -> usize {
        self.store.loads.load(Ordering::SeqCst)
    }

    /// Changes a byte of the stored content.
    fn damage(&self, offset: u64) {
        let name = CONTENT.to_string();
        let path: PathBuf =
            [Path::new("content"), Path::new(&name[..2]), Path::new(&name[2..4]), Path::new(&name)].iter().collect();
        let file = std::fs::File::options().write(true).open(self.folder.path().join(path)).unwrap();
        file.write_all_at(&[!self.bytes[usize::try_from(offset).unwrap()]], offset).unwrap();
    }
}

#[tokio::test]
async fn a_chunk_is_loaded_once_for_all_peers() {
    let env = TestEnv::new(2 * CHUNK + 5).await;
    let reader = env.cached(0).await.unwrap();
    let blocks = (0..env.bytes.len()).step_by(BLOCK);
    let reads = join_all(blocks.map(|offset| env.read(&reader, offset))).await;
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
    assert_eq!(env.loads(), 3);
}

#[tokio::test]
async fn damaged_bytes_are_never_returned_and_the_content_is_reported() {
    let env = TestEnv::new(3 * CHUNK).await;
    env.damage((CHUNK + 9) as u64);
    for reader in [env.cached(0).await.unwrap(), Reader::local(env.store.clone())] {
        assert!(matches!(env.read(&reader, CHUNK).await, Err(ReadError::Damaged)));
        assert_eq!(env.store.unreadable().await, CONTENT);
        // Further requests do not load it again.
        let loads = env.loads();
        assert!(matches!(env.read(&reader, CHUNK + BLOCK).await, Err(ReadError::Damaged)));
        assert_eq!(env.loads(), loads);
        // The other chunks are served.
        env.read(&reader, 0).await.unwrap();
        env.read(&reader, 2 * CHUNK).await.unwrap();
    }
}

#[tokio::test]
async fn a_verified_chunk_of_a_local_store_is_read_from_the_store() {
    let env = TestEnv::new(CHUNK).await;
    let reader = Reader::local(env.store.clone());
    for _ in 0..3 {
        env.read(&reader, 0).await.unwrap();
    }
    assert_eq!(env.loads(), 3);
    // What is damaged later is for the scrub.
    env.damage(BLOCK as u64);
    env.read(&reader, 0).await.unwrap();
}

#[tokio::test]
async fn a_failed_load_fails_only_the_reads_that_wait_for_it() {
    let env = TestEnv::new(CHUNK).await;
    let reader = env.cached(0).await.unwrap();
    env.store.failures.store(1, Ordering::SeqCst);
    let reads = join_all((0..4).map(|n| env.read(&reader, n * BLOCK))).await;
    assert!(reads.iter().all(|read| matches!(read, Err(ReadError::Unavailable(_)))), "{reads:?}");
    env.read(&reader, 0).await.unwrap();
    assert_eq!(env.loads(), 2);
    let missing = reader.read(ContentHash::new([8; 32]), 0, &env.pieces, &mut [0; BLOCK]).await;
    assert!(matches!(missing, Err(ReadError::NotFound)), "{missing:?}");
}

#[tokio::test]
async fn what_leaves_the_memory_is_read_from_disk_also_after_a_restart() {
    let env = TestEnv::new(100 * CHUNK).await;
    let reader = env.cached(1 << 28).await.unwrap();
    for _ in 0..3 {
        env.read_chunks(&reader).await;
    }
    assert_eq!(env.loads(), 100);
    assert!(env.cached(1 << 28).await.unwrap_err().to_string().contains("another seeder uses it"));
    drop(reader);
    let reader = env.cached(1 << 28).await.unwrap();
    env.read_chunks(&reader).await;
    // What was in memory only is gone.
    assert!(env.loads() <= 164, "{}", env.loads());
}

#[tokio::test]
async fn a_forgotten_content_leaves_both_caches() {
    let env = TestEnv::new(100 * CHUNK).await;
    let reader = env.cached(1 << 28).await.unwrap();
    env.read_chunks(&reader).await;
    reader.forget(CONTENT);
    env.read_chunks(&reader).await;
    assert_eq!(env.loads(), 200);
}

/// Of a torrent that the session never had.
#[tokio::test]
async fn a_content_that_a_webseed_read_leaves_the_cache_with_its_torrent() {
    let env = TestEnv::new(2 * CHUNK + 5).await;
    let database = Database::open(&env.folder.path().join("db"), DatabaseOptions::default()).await.unwrap();
    let torrents = Arc::new(SqliteTorrents::open(database.clone(), env.folder.path().join("torrents")).unwrap());
    torrents.store(&env.torrent, &env.metainfo).await.unwrap();
    let settings = Settings::from_pairs([("PROFILE", "development"), ("SEEDER__LISTEN", "127.0.0.1:0")]).unwrap();
    let (reader, statistics) = (env.cached(0).await.unwrap(), Arc::new(SqliteStatistics::new(database)));
    let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, statistics).await.unwrap();
    let webseed = sessions.torrent_reader(torrents);
    let read = async || {
        // Across pieces and chunks.
        let mut bytes = vec![0; env.bytes.len() - 1];
        webseed.read_at(env.torrent.infohash, CONTENT, 1, &mut bytes).await.unwrap();
        assert!(bytes == env.bytes[1..]);
    };
    read().await;
    read().await;
    assert_eq!(env.loads(), 3);
    sessions.remove(env.torrent.infohash).await.unwrap();
    read().await;
    assert_eq!(env.loads(), 6);
    let unknown = webseed.read_at(InfoHash::new([1; 20]), CONTENT, 0, &mut [0; 1]).await;
    assert!(unknown.is_err(), "a torrent that does not exist");
    sessions.stop().await;
}

#[tokio::test]
async fn chunks_are_read_ahead_of_a_peer_that_reads_in_order() {
    let env = TestEnv::new(10 * CHUNK).await;
    let reader = env.cached(0).await.unwrap();
    let loaded = async |count| {
        let loading = async {
            while env.loads() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), loading).await.expect("in time");
    };
    reader.read_ahead(CONTENT, 0, &env.pieces);
    loaded(3).await;
    // Chunk 6 is out of order: nothing behind it is read.
    reader.read_ahead(CONTENT, 6 * CHUNK as u64, &env.pieces);
    loaded(4).await;
    env.read(&reader, 6 * CHUNK).await.unwrap();
    assert_eq!(env.loads(), 4);
    // The end of the content ends the read-ahead.
    reader.read_ahead(CONTENT, 7 * CHUNK as u64, &env.pieces);
    reader.read_ahead(CONTENT, 9 * CHUNK as u64, &env.pieces);
    loaded(7).await;
    for offset in [7, 8, 9] {
        env.read(&reader, offset * CHUNK).await.unwrap();
    }
    assert_eq!(env.loads(), 7);
}
