//! How long requests take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A running average of the time from creation to ready, over the requests that were seen ready.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Milliseconds; 0 while nothing was seen.
    average: AtomicU64,
}

impl Estimate {
    /// Notes that a request took this long.
    pub fn note(&self, took: Duration) {
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
        estimate.note(Duration::from_millis(20));
        assert_eq!(estimate.seconds(), Some(1));
        for _ in 0..100 {
            estimate.note(Duration::from_secs(9));
        }
        assert_eq!(estimate.seconds(), Some(9));
    }
}
