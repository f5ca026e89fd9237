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

use std::path::PathBuf;

use domain::RequestId;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Server;
use crate::error::CommandError;

/// The arguments of commands that save a file of a request.
#[derive(Debug, clap::Args)]
pub(crate) struct SaveTarget {
    #[command(flatten)]
    target: Target,
    /// The folder to save the file in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

/// Returns when the user or the system asks the command to end. The error says so, and has the exit code of a process
/// that the signal ended. A second signal ends the process at once.
async fn interrupted() -> CommandError {
    let listen = |kind| signal(kind).map_err(CommandError::start);
    let all = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()), listen(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = all else {
        return CommandError::Start("cannot listen for signals".to_owned());
    };
    let kind = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hangup.recv() => SignalKind::hangup(),
    };
    let code = u8::try_from(128 + kind.as_raw_value()).unwrap_or(130);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        std::process::exit(code.into());
    });
    CommandError::Interrupted { what: "interrupted".to_owned(), code }
}

/// Runs `work` to its end, or until the command is interrupted. Files that are not complete are removed.
async fn interruptible(work: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    tokio::select! {
        done = work => done,
        error = interrupted() => Err(error),
    }
}

/// The arguments of commands for one request.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The id of the request
    id: RequestId,
    #[command(flatten)]
    server: Server,
}
