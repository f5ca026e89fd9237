//! Minimum transfer rate of an origin.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// The time over which the average is computed.
const WINDOW: Duration = Duration::from_secs(20);

/// The maximum interval between two checks.
const LOOK: Duration = Duration::from_secs(1);

/// The origin was too slow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// The average rate over the last 20 seconds of waiting for the origin. The time spent waiting for the local disk
/// does not count.
#[derive(Debug)]
pub(crate) struct MinRate {
    min_rate: u64,
    waited: Duration,
    received: u64,
    /// Earlier readings of `waited` and `received`, at least a second apart. The first is one window old, or the
    /// start.
    readings: VecDeque<(Duration, u64)>,
}

impl MinRate {
    /// Creates a watch with `min_rate` in bytes per second. 0 means no limit.
    pub fn new(min_rate: u64) -> Self {
        Self { min_rate, waited: Duration::ZERO, received: 0, readings: VecDeque::from([(Duration::ZERO, 0)]) }
    }

    /// Waits for the next bytes. `size` returns their number. Returns [`TooSlow`] if the average is below the
    /// minimum.
    pub async fn wait<T>(&mut self, next: impl Future<Output = T>, size: impl Fn(&T) -> usize) -> Result<T, TooSlow> {
        let mut next = pin!(next);
        loop {
            let began = Instant::now();
            let come = timeout(LOOK, next.as_mut()).await.ok();
            self.waited += began.elapsed();
            self.received += come.as_ref().map_or(0, &size) as u64;
            if self.is_too_slow() {
                return Err(TooSlow);
            }
            if let Some(come) = come {
                return Ok(come);
            }
        }
    }

    fn is_too_slow(&mut self) -> bool {
        if self.readings.back().is_none_or(|(at, _)| self.waited >= *at + LOOK) {
            self.readings.push_back((self.waited, self.received));
        }
        let Some(begin) = self.waited.checked_sub(WINDOW) else { return false };
        while self.readings.get(1).is_some_and(|(at, _)| *at <= begin) {
            self.readings.pop_front();
        }
        let Some((at, before)) = self.readings.front() else { return false };
        ((self.received - before) as f64) < self.min_rate as f64 * self.waited.saturating_sub(*at).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives `size` bytes at each interval `every`. Returns the time until `TooSlow`, or `None` after an hour.
    async fn given_up_after(min_rate: u64, size: usize, every: Duration) -> Option<Duration> {
        let mut pace = MinRate::new(min_rate);
        let began = Instant::now();
        let mut due = began;
        while began.elapsed() < Duration::from_secs(3600) {
            due += every;
            if pace.wait(tokio::time::sleep_until(due), |()| size).await.is_err() {
                return Some(began.elapsed());
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_origin_fails_after_the_window() {
        for (size, every) in [(1, 1_000), (999, 1_000), (1_000_000, 3_600_000), (10, 100)] {
            let after = given_up_after(1000, size, Duration::from_millis(every)).await.expect("it is too slow");
            assert!((20..=22).contains(&after.as_secs()), "{size} bytes every {every} ms: {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_is_fast_enough_on_average_does_not_fail() {
        for (size, every) in [(1_100, 1_000), (11_000, 10_000), (1 << 20, 1)] {
            assert_eq!(given_up_after(1000, size, Duration::from_millis(every)).await, None, "{size}, {every}");
        }
        assert_eq!(given_up_after(0, 1, Duration::from_secs(60)).await, None, "no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_start_does_not_compensate_for_a_slow_end() {
        let mut pace = MinRate::new(1000);
        pace.wait(std::future::ready(()), |()| 100_000_000).await.unwrap();
        let began = Instant::now();
        // Simulated time: a byte each half second.
        while pace.wait(tokio::time::sleep(Duration::from_millis(500)), |()| 1).await.is_ok() {}
        assert!((20..=22).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn time_outside_of_waiting_for_the_origin_does_not_count() {
        let mut pace = MinRate::new(1000);
        for _ in 0..100 {
            // Simulated time.
            tokio::time::sleep(Duration::from_secs(10)).await;
            pace.wait(std::future::ready(()), |()| 1).await.unwrap();
        }
    }
}
