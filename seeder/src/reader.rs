//! Reads of contents: verified against the pieces of the torrent, through a cache of chunks.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use domain::ContentHash;
use foyer::{Cache, CacheBuilder, LruConfig};
use libtorrent_sys::Pieces;
use ports::{Contents, StoreError};
use sha1::{Digest, Sha1};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tracing::error;

use crate::chunk::{ChunkKey, Chunks, kibibytes};
use crate::disk_cache::{CacheError, DiskCache};
use crate::lock::lock;

/// The least bytes that are verified at once in a local store, and the memory for chunks that are being verified.
const LOCAL_CHUNK: u32 = 1 << 20;
const LOCAL_MEMORY: usize = 16 << 20;

/// The most bytes that are being loaded at once for peers that wait, and the most that are read ahead.
const LOADING: usize = 64 << 20;

/// The number of chunks that are read ahead of a peer that reads in order.
const READ_AHEAD: u64 = 2;

/// The timeout for loading a chunk.
const LOAD: Duration = Duration::from_secs(30);

/// The timeout for loading a chunk from the disk cache. Then the store is read.
const DISK: Duration = Duration::from_secs(5);

/// How long reads of a damaged chunk fail without loading it again.
const DAMAGED: Duration = Duration::from_secs(60);

/// Chunks up to this size in bytes are hashed without another thread.
const SMALL: usize = 64 << 10;

/// The error of a read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The content does not exist.
    #[error("the content does not exist")]
    NotFound,
    /// The bytes do not match the pieces of the torrent. The content was reported.
    #[error("the bytes do not match the pieces of the torrent")]
    Damaged,
    /// The store failed.
    #[error("{0}")]
    Unavailable(String),
}

/// Reads contents for the session. Every byte is verified against the pieces of a torrent before a peer gets it: when a
/// chunk of it enters the cache, or in a local store when it is read first.
///
/// A chunk is loaded once, however many peers wait for it. It has a multiple of the piece length, and at least the
/// configured size.
pub struct Reader {
    contents: Arc<dyn Contents>,
    memory: Cache<ChunkKey, Bytes>,
    disk: Option<Arc<DiskCache>>,
    chunk: u32,
    /// Whether verified chunks are read from the store again and not from the cache.
    is_local: bool,
    /// The chunks that were loaded and verified.
    verified: Arc<Mutex<BTreeMap<(ContentHash, u32), Chunks>>>,
    /// The chunks that were damaged, and when they were loaded.
    damaged: Arc<Mutex<HashMap<ChunkKey, Instant>>>,
    /// Permits in KiB.
    loading: Arc<Semaphore>,
    reading_ahead: Arc<Semaphore>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("chunk", &self.chunk).field("is_local", &self.is_local).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads from a store on this machine, whose files the system caches.
    pub fn local(contents: Arc<dyn Contents>) -> Self {
        Self::new(contents, LOCAL_MEMORY, None, LOCAL_CHUNK, true)
    }

    /// Reads from a store over a network, through the cache that the settings describe.
    pub async fn cached(contents: Arc<dyn Contents>, seeder: &settings::Seeder) -> Result<Self, CacheError> {
        let disk = match seeder.cache_disk.get_usize() {
            0 => None,
            size => Some(Arc::new(DiskCache::open(&seeder.cache_folder, size).await?)),
        };
        Ok(Self::new(contents, seeder.cache_memory.get_usize(), disk, seeder.cache_chunk.get(), false))
    }

    fn new(
        contents: Arc<dyn Contents>,
        memory: usize,
        disk: Option<Arc<DiskCache>>,
        chunk: u32,
        is_local: bool,
    ) -> Self {
        // One shard: a chunk is so large that a part of the memory would have room for a few only.
        let memory = CacheBuilder::new(memory).with_shards(1).with_eviction_config(LruConfig::default());
        let semaphore = || Arc::new(Semaphore::new(LOADING / 1024));
        Self {
            contents,
            memory: memory.with_weighter(|_: &ChunkKey, bytes: &Bytes| bytes.len()).build(),
            disk,
            chunk,
            is_local,
            verified: Arc::default(),
            damaged: Arc::default(),
            loading: semaphore(),
            reading_ahead: semaphore(),
        }
    }

    /// Fills `buffer` with the bytes of the content from `offset` on, which must be in one piece.
    pub async fn read(
        &self,
        content: ContentHash,
        offset: u64,
        pieces: &Pieces,
        buffer: &mut [u8],
    ) -> Result<(), ReadError> {
        let key = self.key(content, offset, pieces);
        if self.is_local && self.is_verified(&key) {
            return Ok(self.contents.read_at(content, offset, buffer).await?);
        }
        let cached = self.memory.get(&key);
        let chunk = match cached {
            Some(chunk) => chunk,
            None if self.is_damaged(&key) => return Err(ReadError::Damaged),
            None => self.memory.get_or_fetch(&key, || self.load(key, pieces, None)).await.map_err(read_error)?,
        };
        let from = usize::try_from(offset - key.offset()).unwrap_or(usize::MAX);
        let part = chunk.get(from..from.saturating_add(buffer.len()));
        buffer.copy_from_slice(part.ok_or_else(|| ReadError::Unavailable("read after the end of the content".into()))?);
        Ok(())
    }

    /// Loads a chunk that a peer is about to read, and those that follow if peers read in order. Does nothing if too
    /// much is being read ahead. Must be called in a Tokio runtime.
    pub fn read_ahead(&self, content: ContentHash, offset: u64, pieces: &Pieces) {
        if self.is_local {
            return;
        }
        // What the disk cache cannot take would be loaded again.
        if self.disk.as_ref().is_some_and(|disk| disk.is_busy()) {
            return;
        }
        let first = self.key(content, offset, pieces);
        let is_in_order = first.index == 0 || self.memory.contains(&first.at(first.index - 1));
        let last = if is_in_order { first.index + READ_AHEAD } else { first.index };
        for key in (first.index..=last).map(|index| first.at(index)) {
            if key.offset() >= pieces.size() || self.memory.contains(&key) || self.is_damaged(&key) {
                continue;
            }
            let Ok(permit) = self.reading_ahead.clone().try_acquire_many_owned(kibibytes(length(&key, pieces))) else {
                return;
            };
            // It runs in a task of its own. A failure concerns the peer that reads the chunk.
            drop(self.memory.get_or_fetch(&key, || self.load(key, pieces, Some(permit))));
        }
    }

    /// Whether any chunk of a content was read.
    pub fn has_read(&self, content: ContentHash) -> bool {
        lock(&self.verified).range((content, 0)..=(content, u32::MAX)).next().is_some()
            || lock(&self.damaged).keys().any(|key| key.content == content)
    }

    /// Removes the chunks of a content from the cache, except those that are being loaded or written to disk.
    pub fn forget(&self, content: ContentHash) {
        lock(&self.damaged).retain(|key, _| key.content != content);
        let mut verified = lock(&self.verified);
        let units: Vec<_> = verified.range((content, 0)..=(content, u32::MAX)).map(|(key, _)| *key).collect();
        for (_, size) in &units {
            let chunks = verified.remove(&(content, *size)).unwrap_or_default();
            for key in chunks.iter().map(|index| ChunkKey { content, size: *size, index }) {
                self.memory.remove(&key);
                if let Some(disk) = &self.disk {
                    disk.remove(&key);
                }
            }
        }
    }

    fn key(&self, content: ContentHash, offset: u64, pieces: &Pieces) -> ChunkKey {
        // Both are powers of two, so that a chunk has whole pieces.
        let size = self.chunk.max(pieces.length());
        ChunkKey { content, size, index: offset / u64::from(size) }
    }

    fn is_verified(&self, key: &ChunkKey) -> bool {
        lock(&self.verified).get(&(key.content, key.size)).is_some_and(|chunks| chunks.contains(key.index))
    }

    fn is_damaged(&self, key: &ChunkKey) -> bool {
        lock(&self.damaged).get(key).is_some_and(|at| at.elapsed() < DAMAGED)
    }

    /// Loads a chunk from the disk cache, or from the store and verifies it.
    fn load(
        &self,
        key: ChunkKey,
        pieces: &Pieces,
        permit: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = Result<Bytes, ReadError>> + Send + use<> {
        let (contents, loading, pieces) = (self.contents.clone(), self.loading.clone(), pieces.clone());
        let (verified, damaged, disk) = (self.verified.clone(), self.damaged.clone(), self.disk.clone());
        async move {
            let _permit = match permit {
                Some(permit) => permit,
                None => loading
                    .acquire_many_owned(kibibytes(length(&key, &pieces)))
                    .await
                    .map_err(|error| ReadError::Unavailable(error.to_string()))?,
            };
            if let Some(disk) = &disk
                && let Ok(Some(bytes)) = tokio::time::timeout(DISK, disk.load(&key)).await
            {
                lock(&verified).entry((key.content, key.size)).or_default().insert(key.index);
                return Ok(bytes);
            }
            // Twice: the bytes may have been damaged on their way.
            for _ in 0..2 {
                let mut bytes = BytesMut::zeroed(length(&key, &pieces));
                let reading = contents.read_at(key.content, key.offset(), &mut bytes);
                let read = tokio::time::timeout(LOAD, reading).await;
                let read = read.unwrap_or_else(|_| Err(StoreError::unavailable("contents", "no response in time")));
                if let Err(error) = read {
                    count("failed");
                    return Err(error.into());
                }
                let bytes = bytes.freeze();
                if are_intact(&key, &bytes, &pieces).await? {
                    count("loaded");
                    lock(&verified).entry((key.content, key.size)).or_default().insert(key.index);
                    if let Some(disk) = &disk {
                        disk.insert(key, bytes.clone());
                    }
                    return Ok(bytes);
                }
            }
            count("damaged");
            let mut damaged = lock(&damaged);
            damaged.retain(|_, at| at.elapsed() < DAMAGED);
            damaged.insert(key, Instant::now());
            drop(damaged);
            error!(content.hash = %key.content, offset = key.offset(), "content does not match its torrent");
            contents.report_unreadable(key.content);
            Err(ReadError::Damaged)
        }
    }
}

fn count(result: &'static str) {
    metrics::counter!("proxytorrent_chunk_loads_total", "result" => result).increment(1);
}

/// Returns the number of bytes in a chunk: the last one of a content is shorter.
#[expect(clippy::cast_possible_truncation, reason = "at most the size of a chunk, a u32")]
fn length(key: &ChunkKey, pieces: &Pieces) -> usize {
    u64::from(key.size).min(pieces.size().saturating_sub(key.offset())) as usize
}

/// Returns whether the bytes of a chunk match the pieces.
async fn are_intact(key: &ChunkKey, bytes: &Bytes, pieces: &Pieces) -> Result<bool, ReadError> {
    // The hashes of a torrent with more pieces than that would not fit into memory.
    let first = u32::try_from(key.offset() / u64::from(pieces.length())).unwrap_or(u32::MAX);
    let (length, hashes) = (pieces.length() as usize, pieces.clone());
    let verify = move |bytes: &[u8]| {
        bytes.chunks(length).zip(first..).all(|(piece, index)| hashes.hash(index) == Some(Sha1::digest(piece).into()))
    };
    if bytes.len() <= SMALL {
        return Ok(verify(bytes));
    }
    let bytes = bytes.clone();
    spawn_blocking(move || verify(&bytes)).await.map_err(|error| ReadError::Unavailable(error.to_string()))
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::NotFound,
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// Returns the error of the load that failed.
fn read_error(error: foyer::Error) -> ReadError {
    error.downcast_ref::<ReadError>().cloned().unwrap_or_else(|| ReadError::Unavailable(error.to_string()))
}
