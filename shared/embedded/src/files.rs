//! Crash-safe file operations: after a crash, either the old or the new state exists.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ports::StoreError;
use tempfile::{Builder, NamedTempFile};

/// Creates a folder and its parents, accessible only to the owner.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates a temporary file, readable only by the owner and deleted when dropped. Its name is `name` with a random
/// suffix.
pub fn temporary(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    Builder::new().prefix(&format!("{name}.")).suffix(".tmp").tempfile_in(folder)
}

/// Deletes temporary files that a killed process left in a folder. Must be called before any are created.
pub fn remove_temporary(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// Flushes the entries of a folder to the disk, so that they survive a power failure.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder and its parents like [`create_private_folder`]. The new entries survive a power failure.
pub fn create_synced_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Err(error), create_synced_folder)?;
            create_synced_folder(path)
        }
        Err(error) => Err(error),
    }
}

/// Replaces the content of a file atomically: at any time, either the old or the new content exists. The new content
/// survives a power failure.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(folder, "write")?;
    file.write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Returns the text of a file. If it does not exist, it is created with the text that `fresh` returns, unless another
/// process creates it first.
pub fn load_or_create(path: &Path, fresh: impl FnOnce() -> String) -> io::Result<String> {
    if let Some(text) = absent_is_none(std::fs::read_to_string(path))? {
        return Ok(text);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(folder, "write")?;
    file.write_all(fresh().as_bytes())?;
    file.as_file().sync_data()?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(folder)?,
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error),
    }
    std::fs::read_to_string(path)
}

/// Returns the bytes of a file, or `None` if it does not exist.
pub fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    absent_is_none(std::fs::read(path))
}

/// Deletes a file. Succeeds if it does not exist.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    absent_is_none(std::fs::remove_file(path)).map(drop)
}

/// Converts an I/O error into an error of the store `store`.
pub fn store_error(store: &'static str, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { store },
        _ => StoreError::unavailable(store, error),
    }
}

/// Converts the error "not found" into `None`.
pub fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
