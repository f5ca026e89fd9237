//! How a store fails.

/// What a caller can do about a failed call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is one of that name already.
    #[error("it exists already")]
    AlreadyExists,
    /// There is none of that name.
    #[error("it does not exist")]
    NotFound,
    /// Somebody else has written since the claim: stop the work, write nothing.
    #[error("the claim is held no longer")]
    ClaimLost,
    /// There is no room left: the disk is full, or a limit is reached (`STORAGE__MIN_FREE`, `STORAGE__MAX_BYTES`).
    #[error("no space left in the store")]
    Full,
    /// The store did not do it; trying again later may help.
    #[error("{store} failed: {source}")]
    Unavailable {
        /// Which store.
        store: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// The store did not do it.
    pub fn unavailable(store: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { store, source: source.into() }
    }
}
