//! Keys that one caller reserves: nonces, idempotency keys, locks, generations of passkeys.

use async_trait::async_trait;
use domain::Timestamp;

use crate::{RateLimiter, StoreError};

/// Keys with a value and an expiry. Of concurrent callers, one wins.
#[async_trait]
pub trait Reservations: Send + Sync {
    /// Writes `value` under `key` until `until`, if the key is free at `now`. Otherwise returns the value that it has.
    async fn reserve(
        &self,
        key: &str,
        value: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<String>, StoreError>;

    /// Compare-and-swap: writes `new` under `key` until `until`, if its value is `old`. Returns whether it did.
    async fn replace(&self, key: &str, old: &str, new: &str, until: Timestamp) -> Result<bool, StoreError>;

    /// Returns the value under `key`, if it has not expired at `now`.
    async fn value(&self, key: &str, now: Timestamp) -> Result<Option<String>, StoreError>;

    /// Deletes the key.
    async fn release(&self, key: &str) -> Result<(), StoreError>;

    /// Reserves `key` until `until`. Returns false if it is not free at `now`.
    async fn use_once(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        Ok(self.reserve(key, "", now, until).await?.is_none())
    }
}

/// A store of rate limits and reservations.
pub trait Guards: RateLimiter + Reservations {}

impl<T: RateLimiter + Reservations> Guards for T {}
