//! A folder that a BitTorrent client watches for `.torrent` files.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use domain::FetchRequest;
use tempfile::{Builder, NamedTempFile};
use tokio::task::spawn_blocking;

/// A folder that a BitTorrent client watches.
#[derive(Debug, Clone)]
pub(super) struct WatchedFolder(PathBuf);

impl WatchedFolder {
    /// Opens a folder, or creates it for its owner only. Returns an error if no file can be written in it.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        part(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Writes the `.torrent` file of a request. Its name is the infohash, so that no file replaces that of another
    /// torrent.
    pub async fn add(&self, request: &FetchRequest, file: Vec<u8>) -> Result<(), String> {
        let Some(infohash) = request.infohash else { return Ok(()) };
        let (folder, path) = (self.0.clone(), self.0.join(format!("{infohash}.torrent")));
        let written = spawn_blocking(move || {
            let mut part = part(&folder)?;
            part.write_all(&file)?;
            part.as_file().sync_all()?;
            part.persist(path).map_err(|error| error.error)
        });
        match written.await {
            Ok(written) => written.map(drop).map_err(|error| format!("the file cannot be written: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Creates a file in the folder that a client does not take for a complete one.
fn part(folder: &Path) -> io::Result<NamedTempFile> {
    let part = Builder::new().prefix(".proxytorrent-").suffix(".part").tempfile_in(folder)?;
    // The client may run as another user, whatever the umask is: the folder decides who may read it.
    part.as_file().set_permissions(Permissions::from_mode(0o644))?;
    Ok(part)
}
