//! How long requests take.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use domain::{Timestamp, UserId};

/// What lies before a new request of an owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Requests of the same owner that wait or run.
    pub ahead: usize,
    /// How many of them run at once, at the least.
    pub at_once: usize,
    /// How long a fetch takes once it runs, if one has ended.
    pub average: Option<Duration>,
}

type BacklogOf = Box<dyn Fn(&UserId) -> Backlog + Send + Sync>;

/// How long a new request may take: by the requests before it where their number is known, else by a running average of
/// the time from creation to ready, over the requests that were seen ready.
#[derive(Default)]
pub struct Estimate {
    backlog: Option<BacklogOf>,
    /// Milliseconds; 0 while nothing was seen.
    average: AtomicU64,
    /// When the last one became ready that was noted, in milliseconds: whoever looks twice counts once.
    last: AtomicI64,
}

impl std::fmt::Debug for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Estimate").finish_non_exhaustive()
    }
}

impl Estimate {
    /// An estimate that asks how much lies before a request.
    pub fn with_backlog(backlog: impl Fn(&UserId) -> Backlog + Send + Sync + 'static) -> Self {
        Self { backlog: Some(Box::new(backlog)), ..Self::default() }
    }

    /// Notes that a request that became ready at `at` took this long, unless it, or a later one, was noted before.
    pub fn note(&self, at: Timestamp, took: Duration) {
        if self.last.fetch_max(at.as_millis(), Ordering::Relaxed) >= at.as_millis() {
            return;
        }
        let took = (took.as_millis() as u64).max(1);
        let next = |average: u64| if average == 0 { took } else { (average * 7 + took) / 8 };
        // An update that gets lost to another is no loss to an average.
        self.average.store(next(self.average.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// The seconds that a new request of this owner may take, rounded up; `None` while nothing is known.
    pub fn seconds(&self, owner: &UserId) -> Option<u64> {
        let average = self.average.load(Ordering::Relaxed);
        let average = (average > 0).then_some(average);
        let Some(backlog) = &self.backlog else { return average.map(|average| average.div_ceil(1000)) };
        let Backlog { ahead, at_once, average: fetch } = backlog(owner);
        let fetch = fetch.map(|fetch| (fetch.as_millis() as u64).max(1)).or(average)?;
        let rounds = (ahead as u64 + 1).div_ceil(at_once.max(1) as u64);
        Some((fetch * rounds).div_ceil(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_follows_what_was_seen() {
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
        assert_eq!(estimate.seconds(&UserId::anonymous()), Some(9), "who looks twice counts once");
    }

    #[test]
    fn what_lies_before_a_request_is_waited_for() {
        let seconds = |ahead, at_once| {
            let average = Some(Duration::from_secs(10));
            Estimate::with_backlog(move |_| Backlog { ahead, at_once, average }).seconds(&UserId::anonymous())
        };
        assert_eq!(seconds(0, 5), Some(10));
        assert_eq!(seconds(4, 5), Some(10));
        assert_eq!(seconds(99, 10), Some(100));
    }
}
