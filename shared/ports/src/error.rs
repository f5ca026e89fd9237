//! The errors of stores.

use std::fmt::Display;

use domain::RequestId;

/// The error of a store, by what a caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store has an object of this key already.
    #[error("{store} already has {key}")]
    AlreadyExists {
        /// The store, such as "the database".
        store: &'static str,
        /// The key of the object.
        key: String,
    },
    /// The store has no object of this key.
    #[error("{store} has no {key}")]
    NotFound {
        /// The store.
        store: &'static str,
        /// The key of the object.
        key: String,
    },
    /// The claim was lost: another worker holds it, or the request was cancelled. The caller must stop and write nothing.
    #[error("the claim of request {0} was lost")]
    ClaimLost(RequestId),
    /// No space is left: the disk is full, or a limit is reached (`STORAGE__MIN_FREE`, `STORAGE__MAX_BYTES`).
    #[error("no space left in {store}")]
    Full {
        /// The store.
        store: &'static str,
    },
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
    /// Returns an [`StoreError::AlreadyExists`].
    pub fn already_exists(store: &'static str, key: impl Display) -> Self {
        Self::AlreadyExists { store, key: key.to_string() }
    }

    /// Returns a [`StoreError::NotFound`].
    pub fn not_found(store: &'static str, key: impl Display) -> Self {
        Self::NotFound { store, key: key.to_string() }
    }

    /// Returns a [`StoreError::Unavailable`].
    pub fn unavailable(store: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { store, source: source.into() }
    }

    /// Whether no space is left in the store.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
