//! The commands: one file each, each a function of its arguments.

pub(crate) mod cancel;
pub(crate) mod config;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod magnet;
pub(crate) mod revoke;
pub(crate) mod status;
pub(crate) mod torrent;

use std::path::{Path, PathBuf};

use crate::client::Server;

/// One request on one server.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The request's id
    id: String,
    #[command(flatten)]
    server: Server,
}

/// Why a command did not do it; each has its exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Start(String),
    #[error(transparent)]
    Settings(#[from] settings::Problems),
    #[error(transparent)]
    Open(#[from] embedded::OpenError),
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
}

impl CommandError {
    /// An error that prevents the server from starting.
    pub fn start(error: impl std::fmt::Display) -> Self {
        Self::Start(error.to_string())
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Start(_) | Self::Settings(_) | Self::Open(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
            Self::Write { .. } => 5,
        }
    }
}

/// Saves a torrent as `<name>.torrent` in a folder, which is made if need be.
fn save_torrent(folder: &Path, name: &str, torrent: &[u8]) -> Result<PathBuf, CommandError> {
    // The name comes from a server: it is not trusted to be one.
    let name = fetcher::safe_file_name(name).unwrap_or_else(|| "download".into());
    let path = folder.join(format!("{name}.torrent"));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, torrent));
    written.map(|()| path.clone()).map_err(|source| CommandError::Write { path, source })
}
