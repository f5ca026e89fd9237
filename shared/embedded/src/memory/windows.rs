//! Rate limits ([`RateLimiter`]) in memory: there is only one process, and a restart resets all limits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Timestamp, millis};
use ports::{Decision, Limit, RateLimiter, StoreError, Usage};

/// The number of parts per window. Uses within one part are counted together, as if all happened at its end.
const PARTS: i64 = 100;

/// The minimum number of keys before keys with empty windows are removed.
const MANY: usize = 4096;

/// The rate limits of this process, by sliding windows.
#[derive(Debug, Clone, Default)]
pub struct MemoryRateLimiter(Arc<Mutex<Windows>>);

#[async_trait]
impl RateLimiter for MemoryRateLimiter {
    async fn acquire(&self, limits: &[Limit], now: Timestamp) -> Result<Decision, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).acquire(limits, now))
    }
}

/// The windows of all keys.
#[derive(Debug, Default)]
struct Windows {
    uses: HashMap<(String, Duration), Window>,
    /// The number of keys at which the next clean-up runs.
    clean_at: usize,
}

#[derive(Debug, Default)]
struct Window {
    /// The times at which uses leave the window, each with the number of uses.
    leaving: VecDeque<(Timestamp, u32)>,
    used: u32,
}

impl Window {
    fn slide(&mut self, now: Timestamp) {
        while let Some((at, count)) = self.leaving.front().copied().filter(|(at, _)| *at <= now) {
            debug_assert!(at <= now);
            self.leaving.pop_front();
            self.used -= count;
        }
    }

    fn add(&mut self, window: Duration, now: Timestamp) {
        let part = (millis(window) / PARTS).max(1);
        let end_of_part = (now.as_millis() / part + 1) * part;
        let leaves = Timestamp::from_millis(end_of_part) + window;
        match self.leaving.back_mut() {
            Some((at, count)) if *at >= leaves => *count += 1,
            _ => self.leaving.push_back((leaves, 1)),
        }
        self.used += 1;
    }

    fn usage(&self, now: Timestamp) -> Usage {
        let retry_after = self.leaving.front().map_or(Duration::ZERO, |(at, _)| at.since(now));
        Usage { used: self.used, retry_after }
    }
}

impl Windows {
    /// Counts one use against each of the limits if all allow it.
    fn acquire(&mut self, limits: &[Limit], now: Timestamp) -> Decision {
        if self.uses.len() >= self.clean_at {
            self.uses.retain(|_, window| {
                window.slide(now);
                window.used > 0
            });
            self.clean_at = (self.uses.len() * 2).max(MANY);
        }
        let mut allowed = true;
        for limit in limits {
            let window = self.uses.entry((limit.key.clone(), limit.window)).or_default();
            window.slide(now);
            allowed &= window.used < limit.max;
        }
        let usage = limits.iter().map(|limit| {
            let window = self.uses.entry((limit.key.clone(), limit.window)).or_default();
            if allowed {
                window.add(limit.window, now);
            }
            window.usage(now)
        });
        Decision { usage: usage.collect(), allowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_empty_windows_are_removed() {
        let mut windows = Windows::default();
        for n in 0..3 * MANY as u64 {
            let limit = Limit { key: n.to_string(), max: 1, window: Duration::from_secs(1) };
            windows.acquire(&[limit], Timestamp::from_millis(n.cast_signed() * 10));
        }
        assert!(windows.uses.len() <= MANY + 1, "{}", windows.uses.len());
    }
}
