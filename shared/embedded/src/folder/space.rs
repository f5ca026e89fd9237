//! How much room the content folder has: the free-space floor and the limit of all contents.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ports::StoreError;
use rustix::fs::statvfs;

use crate::data_folder::OpenError;
use crate::files;

/// The default floor: 1 % of the disk, and no more than this.
const MAX_DEFAULT_FLOOR: u64 = 512 * 1024 * 1024;

/// The folder of damaged contents.
pub(crate) const DAMAGED: &str = "damaged";

/// Limits of the content folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpaceLimits {
    /// Bytes that stay free on the disk; `None` is the default floor.
    pub min_free: Option<u64>,
    /// The most bytes of contents; `None` is no limit.
    pub max_bytes: Option<u64>,
}

/// The room that is left.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    limits: SpaceLimits,
    /// Bytes of all contents and of those being fetched; counted only if they are limited.
    used: AtomicU64,
}

impl Space {
    pub fn new(folder: &Path, limits: SpaceLimits) -> Result<Self, OpenError> {
        let used = match limits.max_bytes {
            Some(_) => contents_size(folder).map_err(OpenError::io(folder))?,
            None => 0,
        };
        Ok(Self { folder: folder.to_owned(), limits, used: AtomicU64::new(used) })
    }

    /// [`StoreError::Full`] unless `bytes` more fit.
    pub fn check(&self, bytes: u64) -> Result<(), StoreError> {
        let used = self.used.load(Ordering::Relaxed);
        if self.limits.max_bytes.is_some_and(|max| used.saturating_add(bytes.max(1)) > max) {
            return Err(StoreError::Full);
        }
        self.check_disk(bytes)
    }

    /// [`StoreError::Full`] unless the disk has room for `bytes` above the floor.
    pub fn check_disk(&self, bytes: u64) -> Result<(), StoreError> {
        let disk = statvfs(&self.folder).map_err(|error| files::store_error("the content folder", error.into()))?;
        let default = (disk.f_blocks.saturating_mul(disk.f_frsize) / 100).min(MAX_DEFAULT_FLOOR);
        let floor = self.limits.min_free.unwrap_or(default);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < floor.saturating_add(bytes) { Err(StoreError::Full) } else { Ok(()) }
    }

    /// Counts `bytes` as used; [`StoreError::Full`] if that exceeds the limit: they are counted all the same.
    pub fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if self.limits.max_bytes.is_some_and(|max| used > max) { Err(StoreError::Full) } else { Ok(()) }
    }

    pub fn give_back(&self, bytes: u64) {
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
    }
}

/// Bytes of the contents in `ab/cd`, and of those in `staging` and `damaged`. What else lies there, such as `lost+found`, is not ours.
fn contents_size(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "staging"
            || name == DAMAGED
            || name.len() == 2 && name.to_str().is_some_and(|name| u8::from_str_radix(name, 16).is_ok())
        {
            size += folder_size(&entry.path())?;
        }
    }
    Ok(size)
}

fn folder_size(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { folder_size(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}
