//! The errors of stores.

/// The error of a store, by what a caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An object of this key exists already.
    #[error("it exists already")]
    AlreadyExists,
    /// There is no object of this key.
    #[error("it does not exist")]
    NotFound,
    /// The claim was lost: another worker holds it, or the request was cancelled. The caller must stop and write nothing.
    #[error("the claim was lost")]
    ClaimLost,
    /// No space is left: the disk is full, or a limit is reached (`STORAGE__MIN_FREE`, `STORAGE__MAX_BYTES`).
    #[error("no space left in the store")]
    Full,
    /// The store failed. A retry may succeed.
    #[error("{store} failed: {source}")]
    Unavailable {
        /// The store.
        store: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// An [`StoreError::Unavailable`] of this store.
    pub fn unavailable(store: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { store, source: source.into() }
    }
}
