//! How long requests take.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use domain::Timestamp;

/// A running average of the time from creation to ready, over the requests that were seen ready.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Milliseconds; 0 while nothing was seen.
    average: AtomicU64,
    /// When the last one became ready that was noted, in milliseconds: whoever looks twice counts once.
    last: AtomicI64,
}

impl Estimate {
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

    /// The seconds that a new request may take, rounded up; `None` while nothing is known.
    pub fn seconds(&self) -> Option<u64> {
        let average = self.average.load(Ordering::Relaxed);
        (average > 0).then(|| average.div_ceil(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_follows_what_was_seen() {
        let estimate = Estimate::default();
        assert_eq!(estimate.seconds(), None);
        let at = Timestamp::from_millis;
        estimate.note(at(1), Duration::from_millis(20));
        assert_eq!(estimate.seconds(), Some(1));
        for n in 2..100 {
            estimate.note(at(n), Duration::from_secs(9));
        }
        assert_eq!(estimate.seconds(), Some(9));
        for _ in 0..100 {
            estimate.note(at(99), Duration::from_secs(90));
        }
        assert_eq!(estimate.seconds(), Some(9), "who looks twice counts once");
    }
}
