//! The client commands, one file each.

pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod list;
pub(crate) mod magnet;
pub(crate) mod revoke;
pub(crate) mod status;
pub(crate) mod torrent;

use std::path::{Path, PathBuf};

use crate::client::Server;
use crate::error::CommandError;

/// The arguments of commands for one request.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The id of the request
    id: String,
    #[command(flatten)]
    server: Server,
}

/// Saves a torrent as `<name>.torrent` in a folder, which is created if necessary. Returns the path.
fn save_torrent(folder: &Path, name: &str, torrent: &[u8]) -> Result<PathBuf, CommandError> {
    // The name comes from the server and is not trusted.
    let name = domain::FileName::sanitize(name).unwrap_or_default().to_string();
    let path = folder.join(format!("{name}.torrent"));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, torrent));
    written.map(|()| path.clone()).map_err(|source| CommandError::Write { path, source })
}
