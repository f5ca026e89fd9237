//! The ports on one machine: SQLite, a folder and channels. Nothing else to install.
//!
//! **Invariant**: one process at a time works on a data folder (it holds a lock on it), so leases
//! found at start-up belong to nobody and are let go.

mod clock;
mod contents;
mod database;
mod files;
mod guards;
mod lookups;
mod requests;
mod rows;
mod space;
mod swarm;
mod task_queue;
mod torrents;
mod transitions;
mod watchers;
mod windows;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

pub use clock::SteadyClock;
pub use contents::FolderContents;
pub use database::{Database, DatabaseOptions};
pub use guards::SqliteGuards;
pub use requests::SqliteRequests;
pub use space::SpaceLimits;
pub use swarm::MemorySwarm;
pub use task_queue::{ChannelTaskQueue, Delivery, TaskReceiver, channel};
pub use torrents::SqliteTorrents;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on it.
    #[error("{0} is in use by another proxytorrent: stop that one, or set STORAGE__BASE_PATH to another folder")]
    InUse(PathBuf),
    /// A file or folder cannot be made or read.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be opened or brought up to date.
    #[error("cannot open the database {path}: {source}")]
    Database {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The right to work on a data folder; released when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder, readable by its owner alone, and takes the lock.
    pub fn take(folder: &Path) -> Result<Self, OpenError> {
        files::create_private_folder(folder).map_err(OpenError::io(folder))?;
        let path = folder.join("lock");
        let file = File::create(&path).map_err(OpenError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
        }
    }
}

/// A secret of this installation, made at first use and kept in `path`, readable by its owner alone.
pub fn load_or_create_secret(path: &Path, fresh: impl FnOnce() -> String) -> Result<String, OpenError> {
    match std::fs::read_to_string(path) {
        Ok(secret) if !secret.trim().is_empty() => Ok(secret.trim().to_owned()),
        Ok(_) => files::write_atomically(path, fresh().as_bytes())
            .and_then(|()| std::fs::read_to_string(path))
            .map_err(OpenError::io(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = fresh();
            files::write_atomically(path, secret.as_bytes()).map_err(OpenError::io(path))?;
            Ok(secret)
        }
        Err(error) => Err(OpenError::io(path)(error)),
    }
}
