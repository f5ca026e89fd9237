//! Errors of the commands, with their exit codes.

use std::path::PathBuf;

/// The error of a command. Each kind has an exit code.
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
    #[error("the server is unavailable: {0}")]
    Unavailable(String),
    #[error("the server refused: {0}")]
    Refused(String),
    /// With the exit code of a process that the signal ended.
    #[error("{what}")]
    Interrupted { what: String, code: u8 },
    /// With the exit code of the last one.
    #[error("{count} of {all} URLs failed")]
    Several { count: usize, all: usize, code: u8 },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
}

impl CommandError {
    /// An error that prevents the server from starting.
    pub fn start(error: impl std::fmt::Display) -> Self {
        Self::Start(error.to_string())
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Start(_) | Self::Settings(_) | Self::Open(_) => 2,
            Self::Unreachable(_) | Self::Unavailable(_) => 3,
            Self::Refused(_) => 4,
            Self::Write { .. } => 5,
            Self::Interrupted { code, .. } | Self::Several { code, .. } => *code,
        }
    }
}
