//! Rate limits by sliding windows, across processes.

use std::time::Duration;

use async_trait::async_trait;
use domain::Timestamp;

use crate::StoreError;

/// At most `max` uses of `key` in any period of length `window`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The key whose uses are counted together, for each length of the window.
    pub key: String,
    /// The most uses.
    pub max: u32,
    /// The length of the window.
    pub window: Duration,
}

/// The usage of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Uses in the window that ends now, including this one if it was allowed.
    pub used: u32,
    /// How long until one of them leaves the window; zero if there are none.
    pub retry_after: Duration,
}

/// Whether a use is allowed, and how the limits stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether every limit allowed the use. If one did not, none counts it.
    pub allowed: bool,
    /// The usage of each limit, in the order of the call.
    pub usage: Vec<Usage>,
}

/// Counts uses against limits.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Counts one use against each of the limits, if all of them allow it. Exact for concurrent callers; a backend may keep
    /// a use in its window for up to a hundredth of the window too long.
    async fn acquire(&self, limits: &[Limit], now: Timestamp) -> Result<Decision, StoreError>;
}
