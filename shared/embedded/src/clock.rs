//! Steady clock: the system time without its steps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use domain::{Timestamp, millis};
use ports::Clock;
use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// The maximum difference between the wall clock and the elapsed time that is not a step. NTP slews the clock, and
/// threads are preempted.
const TOLERANCE: Duration = Duration::from_secs(5);

/// The time for which a step must last before the clock follows it. Leases and due times are in wall-clock time, so a
/// clock that is set wrong and soon corrected must not expire them.
const PATIENCE: Duration = Duration::from_secs(600);

/// A clock that follows the wall clock. After the wall clock is set, it continues steadily for ten minutes, then
/// follows the step.
#[derive(Debug, Clone, Default)]
pub struct SteadyClock(Arc<Mutex<Option<Steady>>>);

/// The last reading of the clocks, and the step that is observed since then.
#[derive(Debug, Clone, Copy)]
struct Steady {
    /// The wall clock in milliseconds at `elapsed`.
    wall: i64,
    elapsed: Duration,
    step: Option<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    seen_at: Duration,
    milliseconds: i64,
}

impl Steady {
    /// Returns the steady time in milliseconds for a reading of the wall clock and of the time since boot.
    fn tell(&mut self, wall: i64, elapsed: Duration) -> i64 {
        let steady = self.wall + millis(elapsed.saturating_sub(self.elapsed));
        let (difference, tolerance) = (wall - steady, millis(TOLERANCE));
        if difference.abs() <= tolerance {
            *self = Self { wall, elapsed, step: None };
            return wall;
        }
        match self.step {
            Some(step) if (step.milliseconds - difference).abs() <= tolerance => {
                if elapsed.saturating_sub(step.seen_at) < PATIENCE {
                    return steady;
                }
                warn!(step_seconds = difference / 1000, "system clock step followed");
                *self = Self { wall, elapsed, step: None };
                wall
            }
            _ => {
                warn!(
                    step_seconds = difference / 1000,
                    followed_after_seconds = PATIENCE.as_secs(),
                    "system clock was set"
                );
                self.step = Some(Step { seen_at: elapsed, milliseconds: difference });
                steady
            }
        }
    }
}

impl Clock for SteadyClock {
    fn wall(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn now(&self) -> Timestamp {
        // Unlike the monotonic clock, this clock includes the time for which the machine is suspended.
        let boot = clock_gettime(ClockId::Boottime);
        let elapsed = Duration::try_from(boot).unwrap_or_default();
        let wall = self.wall().as_millis();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steady = state.get_or_insert(Steady { wall, elapsed, step: None });
        Timestamp::from_millis(steady.tell(wall, elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Returns the steady time `seconds` after the start, in milliseconds since the start. The wall clock is wrong by
    /// `off` milliseconds.
    fn tell(steady: &mut Steady, seconds: u64, off: i64) -> i64 {
        steady.tell(1_800_000_000_000 + seconds.cast_signed() * 1000 + off, Duration::from_secs(50 + seconds))
            - 1_800_000_000_000
    }

    fn start() -> Steady {
        Steady { wall: 1_800_000_000_000, elapsed: Duration::from_secs(50), step: None }
    }

    #[test]
    fn a_step_is_followed_once_it_has_lasted() {
        for step in [3 * HOUR, -3 * HOUR] {
            let mut steady = start();
            assert_eq!(tell(&mut steady, 10, 0), 10_000);
            assert_eq!(tell(&mut steady, 20, step), 20_000);
            assert_eq!(tell(&mut steady, 619, step), 619_000);
            assert_eq!(tell(&mut steady, 620, step), 620_000 + step);
            assert_eq!(tell(&mut steady, 630, step), 630_000 + step);
        }
    }

    #[test]
    fn a_step_and_a_step_back_change_nothing() {
        let mut steady = start();
        assert_eq!(tell(&mut steady, 10, HOUR), 10_000);
        assert_eq!(tell(&mut steady, 300, 0), 300_000);
        assert_eq!(tell(&mut steady, 700, HOUR), 700_000, "the duration of a second step counts from its own start");
        assert_eq!(tell(&mut steady, 1_200, 2 * HOUR), 1_200_000, "a different step restarts the wait");
        assert_eq!(tell(&mut steady, 1_700, 2 * HOUR), 1_700_000);
    }

    #[test]
    fn slow_corrections_are_followed_at_once() {
        let mut steady = start();
        for n in 1..100 {
            assert_eq!(tell(&mut steady, n, n.cast_signed() * 100), n.cast_signed() * 1100);
        }
    }
}
