//! The error of a fetch.

use std::time::Duration;

use domain::{Failure, FailureCode};
use ports::StoreError;

/// Why a fetch did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The content was not to be had; whether trying again may help stands in the failure's code.
    #[error("{failure}")]
    Failed {
        /// What went wrong.
        failure: Failure,
        /// The origin's wish when to come again.
        retry_after: Option<Duration>,
    },
    /// It was to be had, and could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        Self::Failed { failure, retry_after: None }
    }
}

impl FetchError {
    /// Whether another try may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Failed { failure, .. } => failure.code.is_retryable(),
            Self::Store(error) => !matches!(error, StoreError::Full),
        }
    }

    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Failure::new(code, message).into()
    }
}
