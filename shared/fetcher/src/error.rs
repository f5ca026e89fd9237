//! Error type of a fetch.

use std::time::Duration;

use domain::{Failure, FailureCode};
use ports::StoreError;

/// The error of a fetch.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The content could not be fetched. The code of the failure says whether a retry may help.
    #[error("{failure}")]
    Failed {
        /// The failure.
        failure: Failure,
        /// The delay before a retry that the origin requested (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The content could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that computes the SHA-256 ended early.
    #[error("hashing failed: {0}")]
    Hashing(#[from] tokio::task::JoinError),
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        Self::Failed { failure, retry_after: None }
    }
}

impl FetchError {
    /// Whether a retry may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Failed { failure, .. } => failure.code.is_retryable(),
            Self::Store(error) => !error.is_full(),
            Self::Hashing(_) => true,
        }
    }

    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Failure::new(code, message).into()
    }
}
