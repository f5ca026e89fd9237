//! The error of a step.

use domain::RequestId;
use metainfo::BuildError;
use ports::{SeedError, StoreError};
use tokio::task::JoinError;

/// The error of a step, for the worker that runs it. The task must be tried again; the row stays due.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seeder failed.
    #[error(transparent)]
    Seeder(#[from] SeedError),
    /// The row cannot be claimed yet.
    #[error("request {0} is held by a worker, or waits for its next try")]
    Held(RequestId),
    /// The thread that hashes the pieces ended early.
    #[error("hashing failed: {0}")]
    Hashing(#[from] JoinError),
    /// The torrent cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The checkpoint of a fetch cannot be written.
    #[error("cannot serialize the checkpoint: {0}")]
    Checkpoint(#[from] serde_json::Error),
}

impl StepError {
    /// Whether the claim was lost: the request was cancelled, or another worker holds it.
    pub(crate) fn is_claim_lost(&self) -> bool {
        matches!(self, Self::Store(StoreError::ClaimLost(_)))
    }
}
