//! Writing files so that a crash at any moment leaves the old state or the new one.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ports::StoreError;
use tempfile::{Builder, NamedTempFile};

/// Makes a folder and its parents, for its owner alone.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A temporary file, readable by its owner alone and deleted when dropped. Its name is `name` with
/// something random behind it.
pub fn temporary(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    Builder::new().prefix(&format!("{name}.")).suffix(".tmp").tempfile_in(folder)
}

/// Deletes temporary files that a killed process has left in a folder. To be called before any are made.
pub fn remove_temporary(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// Makes the names in a folder survive a power cut.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// As [`create_private_folder`], and the new names survive a power cut.
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

/// Replaces a file's content: the old or the new one is there at any moment, and the new one survives
/// a power cut.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(folder, "write")?;
    file.write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// The bytes of a file, if it is there.
pub fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    absent_is_none(std::fs::read(path))
}

/// Deletes a file, if it is there.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    absent_is_none(std::fs::remove_file(path)).map(drop)
}

/// An I/O error as the error of the store `store`.
pub fn store_error(store: &'static str, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::unavailable(store, error),
    }
}

/// Tells "not there" from other errors.
pub fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
