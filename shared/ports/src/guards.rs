//! Things that may be done once, or so often.

use std::time::Duration;

use async_trait::async_trait;
use domain::Timestamp;

use crate::StoreError;

/// At most `max` uses of `key` within any stretch of time as long as `window`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Whose uses are counted together, for each length of the window.
    pub key: String,
    /// The most uses.
    pub max: u32,
    /// The length of the window.
    pub window: Duration,
}

/// How a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Uses in the window that ends now, this one among them if it was allowed.
    pub used: u32,
    /// How long until one of them leaves the window; zero if there are none.
    pub retry_after: Duration,
}

/// What became of a use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether every limit allowed it. If one did not, it counts for none.
    pub allowed: bool,
    /// How each limit stands, in the order in which they were given.
    pub usage: Vec<Usage>,
}

/// Remembers what was used, across processes.
#[async_trait]
pub trait Guards: Send + Sync {
    /// Counts one use against each of the limits, if all of them allow it. Exact also for many callers at
    /// once; a backend may keep a use in its window up to a hundredth of it too long.
    async fn acquire(&self, limits: &[Limit], now: Timestamp) -> Result<Decision, StoreError>;

    /// Notes `value` under `key` until `until`, if nothing stands there `now`; else returns what does. Of
    /// callers at the same time, one wins.
    async fn reserve(
        &self,
        key: &str,
        value: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<String>, StoreError>;

    /// Notes `new` under `key` until `until`, if `old` stands there; whether it did. Of callers at the same time, one
    /// wins.
    async fn replace(&self, key: &str, old: &str, new: &str, until: Timestamp) -> Result<bool, StoreError>;

    /// The value under `key`, if there is one that has not expired `now`.
    async fn value(&self, key: &str, now: Timestamp) -> Result<Option<String>, StoreError>;

    /// Forgets what stands under `key`.
    async fn release(&self, key: &str) -> Result<(), StoreError>;

    /// Uses `key` up until `until`; false if it was used before and has not run out `now`.
    async fn use_once(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        Ok(self.reserve(key, "", now, until).await?.is_none())
    }
}
