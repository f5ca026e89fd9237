//! Estimates of the time until a new request is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use domain::{RequestId, Timestamp, UserId};

/// The work in front of a new request of an owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The number of requests of the same owner that wait or run.
    pub ahead: usize,
    /// The number of them that run concurrently, at least.
    pub at_once: usize,
    /// The average duration of a running fetch; `None` if no fetch has ended yet.
    pub average: Option<Duration>,
}

/// The queue of requests that wait to be fetched.
pub trait FetchQueue: Send + Sync {
    /// Returns the work in front of a new request of this owner.
    fn backlog(&self, owner: &UserId) -> Backlog;

    /// Returns how many older requests of this owner wait; `None` if this one does not wait.
    fn ahead(&self, owner: &UserId, id: RequestId) -> Option<usize>;
}

/// Estimates the time until a new request is ready: from the backlog where it is known, otherwise from a running
/// average of the time from creation to ready, over the requests that clients saw ready.
#[derive(Default)]
pub struct Estimate {
    queue: Option<Arc<dyn FetchQueue>>,
    /// The running average in milliseconds; 0 without data.
    average: AtomicU64,
    /// When the latest request in the average became ready, in milliseconds: repeated polling must count it once.
    last: AtomicI64,
}

impl std::fmt::Debug for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Estimate").finish_non_exhaustive()
    }
}

impl Estimate {
    /// Creates an estimate that uses the backlog of the owner.
    pub fn with_queue(queue: Arc<dyn FetchQueue>) -> Self {
        Self { queue: Some(queue), ..Self::default() }
    }

    /// Returns how many older requests of this owner wait; `None` if that is not known, or if this one does not wait.
    pub(crate) fn ahead(&self, owner: &UserId, id: RequestId) -> Option<usize> {
        self.queue.as_ref()?.ahead(owner, id)
    }

    /// Adds the duration of a request that became ready at `at`, unless it or a later one was added before.
    pub fn note(&self, at: Timestamp, took: Duration) {
        if self.last.fetch_max(at.as_millis(), Ordering::Relaxed) >= at.as_millis() {
            return;
        }
        let took = milliseconds(took);
        let next = |average: u64| if average == 0 { took } else { (average * 7 + took) / 8 };
        // A concurrent update may be lost: an average tolerates that.
        self.average.store(next(self.average.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Returns the estimate for a new request of this owner in seconds, rounded up, or `None` without data.
    pub fn seconds(&self, owner: &UserId) -> Option<u64> {
        let average = self.average.load(Ordering::Relaxed);
        let average = (average > 0).then_some(average);
        let Some(queue) = &self.queue else { return average.map(|average| average.div_ceil(1000)) };
        let Backlog { ahead, at_once, average: fetch } = queue.backlog(owner);
        let fetch = fetch.map(milliseconds).or(average)?;
        let rounds = (ahead as u64 + 1).div_ceil(at_once.max(1) as u64);
        Some((fetch * rounds).div_ceil(1000))
    }
}

/// Returns the whole milliseconds of a duration, at least 1.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl FetchQueue for Backlog {
        fn backlog(&self, _: &UserId) -> Backlog {
            *self
        }

        fn ahead(&self, _: &UserId, _: RequestId) -> Option<usize> {
            Some(self.ahead)
        }
    }

    #[test]
    fn the_estimate_follows_past_durations() {
        let estimate = Estimate::default();
        assert_eq!(estimate.seconds(&UserId::anonymous()), None);
        let at = Timestamp::from_millis;
        estimate.note(at(1), Duration::from_millis(20));
        assert_eq!(estimate.seconds(&UserId::anonymous()), Some(1));
        for n in 2..100 {
            estimate.note(at(n), Duration::from_secs(9));
        }
        assert_eq!(estimate.seconds(&UserId::anonymous()), Some(9));
        for _ in 0..100 {
            estimate.note(at(99), Duration::from_secs(90));
        }
        assert_eq!(estimate.seconds(&UserId::anonymous()), Some(9), "repeated polling counts once");
    }

    #[test]
    fn the_estimate_includes_the_backlog() {
        let seconds = |ahead, at_once| {
            let average = Some(Duration::from_secs(10));
            Estimate::with_queue(Arc::new(Backlog { ahead, at_once, average })).seconds(&UserId::anonymous())
        };
        assert_eq!(seconds(0, 5), Some(10));
        assert_eq!(seconds(4, 5), Some(10));
        assert_eq!(seconds(99, 10), Some(100));
    }
}
