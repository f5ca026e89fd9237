//! The cache of chunks on disk.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy, Load,
    PsyncIoEngineConfig,
};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::chunk::{ChunkKey, kibibytes};

/// The least size in bytes of a file of the cache, the unit of its eviction.
const FILE: usize = 64 << 20;

/// The most files of the cache, which are all open.
const FILES: usize = 256;

/// The size in bytes of the buffer that is written at once. There are two. What does not fit is lost.
const BUFFER: usize = 32 << 20;

/// The bytes of chunks in the buffer. Each chunk has a header and padding there.
const BUFFERED: usize = BUFFER / 4 * 3;

/// The most bytes that wait for the buffer. More than that is not cached: the disk is slower than the store.
const QUEUE: usize = 128 << 20;

/// The error of a disk cache that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the seeder cannot use {folder} (SEEDER__CACHE_FOLDER; SEEDER__CACHE_DISK=0 needs none): {why}")]
pub struct CacheError {
    folder: String,
    why: String,
}

/// A cache of verified chunks on disk, which survives a restart. The oldest chunks are evicted first.
#[derive(Debug)]
pub(crate) struct DiskCache {
    /// Keeps nothing in memory.
    cache: HybridCache<ChunkKey, Bytes>,
    /// Permits in KiB.
    queue: Arc<Semaphore>,
    buffer: Arc<Semaphore>,
    /// Locked as long as this process uses the folder.
    _lock: File,
}

impl DiskCache {
    /// Opens the cache in this folder, and creates it if necessary. `size` is in bytes.
    pub async fn open(folder: &Path, size: usize) -> Result<Self, CacheError> {
        let failed = |why: String| CacheError { folder: folder.display().to_string(), why };
        let lock = lock(folder).map_err(failed)?;
        check_free(folder, size).map_err(failed)?;
        let device = FsDeviceBuilder::new(folder).with_capacity(size).build();
        let device = device.map_err(|error| failed(error.to_string()))?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(size.div_ceil(FILES).next_multiple_of(FILE))
            .with_buffer_pool_size(BUFFER);
        let cache = HybridCacheBuilder::new()
            .with_name("chunks")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(1)
            .with_shards(1)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine.with_submit_queue_size_threshold(BUFFER))
            .build()
            .await
            .map_err(|error| failed(error.to_string()))?;
        info!(folder = %folder.display(), size_bytes = size, "disk cache opened");
        let semaphore = |bytes: usize| Arc::new(Semaphore::new(bytes / 1024));
        Ok(Self { cache, queue: semaphore(QUEUE), buffer: semaphore(BUFFERED), _lock: lock })
    }

    /// Returns a chunk, if it is in the cache.
    pub async fn load(&self, key: &ChunkKey) -> Option<Bytes> {
        match self.cache.storage().load(key).await {
            Ok(Load::Entry { value, .. }) => Some(value),
            Ok(Load::Piece { piece, .. }) => Some(piece.value().clone()),
            Ok(Load::Miss | Load::Throttled) => None,
            Err(error) => {
                warn!(%error, "disk cache not read");
                None
            }
        }
    }

    /// Whether most of the queue of writes is full.
    pub fn is_busy(&self) -> bool {
        self.queue.available_permits() < QUEUE / 1024 / 4
    }

    /// Writes a chunk in the background, or drops it if too many are being written.
    pub fn insert(&self, key: ChunkKey, chunk: Bytes) {
        let kibibytes = kibibytes(chunk.len());
        let Ok(queued) = self.queue.clone().try_acquire_many_owned(kibibytes) else { return };
        let (cache, buffer) = (self.cache.clone(), self.buffer.clone());
        tokio::spawn(async move {
            let _queued = queued;
            let Ok(_buffered) = buffer.acquire_many_owned(kibibytes).await else { return };
            cache.storage_writer(key).insert(chunk);
            cache.storage().wait().await;
        });
    }

    /// Removes a chunk.
    pub fn remove(&self, key: &ChunkKey) {
        self.cache.remove(key);
    }
}

/// Returns an error if the files of the cache cannot grow to this size.
fn check_free(folder: &Path, size: usize) -> Result<(), String> {
    let space = || -> io::Result<u64> {
        let disk = rustix::fs::statvfs(folder)?;
        let mut space = disk.f_bavail * disk.f_frsize;
        for file in std::fs::read_dir(folder)? {
            // st_blocks is in units of 512 bytes (stat(2)).
            space += file?.metadata()?.blocks() * 512;
        }
        Ok(space)
    };
    match space() {
        Ok(space) if space < size as u64 => Err(format!("it needs {size} bytes, and the disk has {space}")),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Creates the folder and locks it: another seeder must not use it.
fn lock(folder: &Path) -> Result<File, String> {
    let open = || -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        File::create(folder.join("lock"))
    };
    let file = open().map_err(|error| error.to_string())?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => "another seeder uses it".into(),
        TryLockError::Error(error) => error.to_string(),
    })?;
    Ok(file)
}
