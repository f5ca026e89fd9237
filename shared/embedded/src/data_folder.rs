//! Data folder: lock, secrets, errors at opening.

use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::files;

/// The reason for which the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock.
    #[error("{0} is in use by another proxytorrent: stop that one, or set STORAGE__BASE_PATH to another folder")]
    InUse(PathBuf),
    /// A file or folder cannot be created or read.
    #[error("cannot use {path} (STORAGE__BASE_PATH and the other paths of STORAGE__): {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file system of a shared folder does not support locks.
    #[error("the file system of {path} must support file locks, as NFS 4 does (STORAGE__CONTENT_PATH): {source}")]
    Lock {
        /// The file that cannot be locked.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The database cannot be opened or migrated.
    #[error("cannot open the database {path}: {source}")]
    Database {
        /// The file of the database.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The lock of a data folder. It is released when this value is dropped and when the process ends for any reason.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Creates the folder, accessible to its owner only, and takes the lock.
    pub fn take(folder: &Path) -> Result<Self, OpenError> {
        files::create_private_folder(folder).map_err(OpenError::io(folder))?;
        let path = folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(OpenError::io(&path))?;
        let private = Permissions::from_mode(0o600);
        file.set_permissions(private).map_err(OpenError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
        }
    }
}

/// Returns the secret in `path`. Creates it at the first use, readable only by the owner.
pub fn load_or_create_secret(path: &Path, fresh: impl Fn() -> String) -> Result<String, OpenError> {
    let secret = files::load_or_create(path, &fresh).map_err(OpenError::io(path))?;
    if !secret.trim().is_empty() {
        return Ok(secret.trim().to_owned());
    }
    let secret = fresh();
    files::write_atomically(path, secret.as_bytes()).map_err(OpenError::io(path))?;
    Ok(secret)
}
