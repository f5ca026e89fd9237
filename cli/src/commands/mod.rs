//! The client commands, one file each.

pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod content;
pub(crate) mod doctor;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod keygen;
pub(crate) mod list;
pub(crate) mod magnet;
pub(crate) mod man;
pub(crate) mod revoke;
pub(crate) mod status;
pub(crate) mod torrent;
pub(crate) mod verify;
pub(crate) mod watch;

use std::path::{Path, PathBuf};

use settings::{Override, Profile};
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Server;
use crate::error::CommandError;

/// Returns the setting that the option `--dev` replaces.
pub(crate) fn profile(dev: bool) -> Vec<Override> {
    if dev { vec![("PROFILE", Profile::Development.as_str().to_owned())] } else { vec![] }
}

/// Returns when the user interrupts the command (SIGINT).
async fn interrupted() -> Result<(), CommandError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::start)?;
    interrupt.recv().await;
    Ok(())
}

/// Runs `work` to its end, or until the user interrupts the command. Files that are not complete are removed.
async fn interruptible(work: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    tokio::select! {
        done = work => done,
        signal = interrupted() => Err(signal.err().unwrap_or_else(|| CommandError::Interrupted("interrupted".into()))),
    }
}

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
