//! Space limits of the content folder: free-space floor of the disk, maximum size of all contents.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ports::StoreError;
use rustix::fs::statvfs;
use tracing::warn;

use crate::data_folder::OpenError;
use crate::files;

/// The maximum of the default floor in bytes. The default floor is 1 % of the disk.
const MAX_DEFAULT_FLOOR: u64 = 512 * 1024 * 1024;

/// The interval at which files without a limit are counted again.
const COUNT_AGAIN: Duration = Duration::from_secs(3600);

/// The interval at which the files of a shared folder are counted again: other processes store and remove some, too.
const COUNT_SHARED_AGAIN: Duration = Duration::from_secs(300);

/// The name of this store in errors.
pub(crate) const STORE: &str = "the content folder";

/// The name of the folder of damaged contents (quarantine).
pub(crate) const DAMAGED: &str = "damaged";

/// The limits of the content folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpaceLimits {
    /// The number of bytes that must stay free on the disk (`STORAGE__MIN_FREE`). `None` is the default floor.
    pub min_free: Option<u64>,
    /// The maximum number of bytes of all contents (`STORAGE__MAX_BYTES`). `None` is no limit.
    pub max_bytes: Option<u64>,
}

/// The space usage of the content folder.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    limits: SpaceLimits,
    /// The number of bytes of all contents and staged uploads. If [`Space::count_again`] is set, it is approximate.
    used: Arc<AtomicI64>,
    /// The interval at which the bytes are counted again in the background. `None`: they are exact.
    count_again: Option<Duration>,
    counted: Mutex<Option<Instant>>,
}

/// Returns the space that must stay free on a disk of this size by default: 1 %, at most 512 MiB. Both are in bytes.
pub fn default_min_free(size: u64) -> u64 {
    (size / 100).min(MAX_DEFAULT_FLOOR)
}

impl Space {
    /// Counts the files in the folder before it returns, if they are limited.
    pub fn new(folder: &Path, limits: SpaceLimits, is_shared: bool) -> Result<Self, OpenError> {
        let size = match limits.max_bytes {
            Some(_) => contents_size(folder).map_err(OpenError::io(folder))?,
            None => 0,
        };
        let used = Arc::new(AtomicI64::new(signed(size)));
        let count_again = match (is_shared, limits.max_bytes) {
            (true, _) => Some(COUNT_SHARED_AGAIN),
            (false, None) => Some(COUNT_AGAIN),
            (false, Some(_)) => None,
        };
        let counted = Mutex::new(limits.max_bytes.map(|_| Instant::now()));
        Ok(Self { folder: folder.to_owned(), limits, used, count_again, counted })
    }

    /// Returns the number of bytes of all contents and staged uploads. Without a limit, the first call returns 0 and starts
    /// to count.
    pub fn used(&self) -> u64 {
        if let Some(interval) = self.count_again {
            self.count_sometimes(interval);
        }
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts the files on a thread of its own, because the walk through 100,000 files can take many seconds. Changes during
    /// the walk may be missed, so that it is repeated.
    fn count_sometimes(&self, interval: Duration) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        *counted = Some(Instant::now());
        let (folder, used) = (self.folder.clone(), self.used.clone());
        std::thread::spawn(move || match contents_size(&folder) {
            Ok(size) => used.store(signed(size), Ordering::Relaxed),
            Err(error) => warn!(%error, "contents not counted, the stored bytes in the metrics are wrong"),
        });
    }

    /// Checks that `bytes` more fit into both limits. Returns [`StoreError::Full`] if not.
    pub fn check(&self, bytes: u64) -> Result<(), StoreError> {
        if self.limits.max_bytes.is_some_and(|max| self.used().saturating_add(bytes.max(1)) > max) {
            return Err(StoreError::Full { store: STORE });
        }
        self.check_disk(bytes)
    }

    /// Checks that the disk has space for `bytes` above the floor. Returns [`StoreError::Full`] if not.
    pub fn check_disk(&self, bytes: u64) -> Result<(), StoreError> {
        let disk = statvfs(&self.folder).map_err(|error| files::store_error(STORE, error.into()))?;
        let size = disk.f_blocks.saturating_mul(disk.f_frsize);
        let floor = self.limits.min_free.unwrap_or_else(|| default_min_free(size));
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < floor.saturating_add(bytes) { Err(StoreError::Full { store: STORE }) } else { Ok(()) }
    }

    /// Counts `bytes` as used. Returns [`StoreError::Full`] if that exceeds the limit; the bytes are counted even
    /// then.
    pub fn take(&self, bytes: u64) -> Result<(), StoreError> {
        self.used.fetch_add(signed(bytes), Ordering::Relaxed);
        if self.limits.max_bytes.is_some_and(|max| self.used() > max) {
            Err(StoreError::Full { store: STORE })
        } else {
            Ok(())
        }
    }

    /// Counts `bytes` as no longer used.
    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(signed(bytes), Ordering::Relaxed);
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Whether this is the name of a folder `ab`.
pub(crate) fn is_part(name: &OsStr) -> bool {
    name.len() == 2 && name.to_str().is_some_and(|name| u8::from_str_radix(name, 16).is_ok())
}

/// Returns the number of bytes of the contents in `ab/cd`, in `staging` and in `damaged`. Other
/// folders, such as `lost+found`, do not count.
fn contents_size(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "staging" || name == DAMAGED || is_part(&name) {
            size += folder_size(&entry.path())?;
        }
    }
    Ok(size)
}

fn folder_size(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A file may be removed during the walk.
        let Some(metadata) = files::absent_is_none(entry.metadata())? else { continue };
        if metadata.is_dir() {
            size += folder_size(&entry.path())?;
        } else {
            size += metadata.len();
        }
    }
    Ok(size)
}
