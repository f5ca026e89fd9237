//! Rate limits against guessing and polling, per client address or user, counted in memory.
//!
//! Unlike the limits on creating requests they need no call to a store, so they can guard every call. If several
//! processes serve the API, each one counts separately.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::UserId;
use ports::client_network;

use crate::problem::Problem;
use crate::problem_code::ProblemCode;

const MINUTE: Duration = Duration::from_secs(60);

/// The detail of the problem when a user makes too many calls that create nothing.
pub(crate) const TOO_MANY_READS: &str = "too many calls: the limit reads-minute is reached";

/// The most addresses or users that are counted separately. Those beyond share one count.
const MAX_KEYS: usize = 100_000;

/// The rate limits per minute. `None` if rate limits are off.
#[derive(Debug)]
pub struct AbuseLimits {
    failures: Option<Counter<IpAddr>>,
    /// Counted separately: a client with many old torrents must not lock its users out of the API.
    passkeys: Option<Counter<IpAddr>>,
    announces: Option<Counter<IpAddr>>,
    reads: Option<Counter<UserId>>,
}

impl AbuseLimits {
    /// Creates the limits from these settings.
    pub fn new(settings: &settings::RateLimit) -> Self {
        let on = settings.rate_limit_enabled;
        Self {
            failures: on.then(|| Counter::new(settings.failures_per_ip_minute.get())),
            passkeys: on.then(|| Counter::new(settings.failures_per_ip_minute.get())),
            announces: on.then(|| Counter::new(settings.announces_per_ip_minute.get())),
            reads: on.then(|| Counter::new(settings.reads_per_minute.get())),
        }
    }

    /// Refuses a client with too many failed authentications, even with valid credentials: otherwise it could
    /// continue to guess.
    pub(crate) fn check_failures(&self, client: Option<IpAddr>) -> Result<(), TooMany> {
        match (&self.failures, client) {
            (Some(failures), Some(client)) => failures.check(&client_network(client)),
            _ => Ok(()),
        }
    }

    /// Counts a failed authentication: a wrong token or signature.
    pub(crate) fn count_failure(&self, client: Option<IpAddr>, what: &'static str) {
        count_failure(self.failures.as_ref(), client, what);
    }

    /// Like [`AbuseLimits::check_failures`], for wrong passkeys at the tracker.
    pub(crate) fn check_passkeys(&self, client: Option<IpAddr>) -> Result<(), TooMany> {
        match (&self.passkeys, client) {
            (Some(passkeys), Some(client)) => passkeys.check(&client_network(client)),
            _ => Ok(()),
        }
    }

    /// Counts a wrong passkey.
    pub(crate) fn count_passkey(&self, client: Option<IpAddr>) {
        count_failure(self.passkeys.as_ref(), client, "passkey");
    }

    /// Counts an announce or scrape. Returns an error if the limit is reached.
    pub(crate) fn count_announce(&self, client: Option<IpAddr>) -> Result<(), TooMany> {
        match (&self.announces, client) {
            (Some(announces), Some(client)) => announces.count(client_network(client)),
            _ => Ok(()),
        }
    }

    /// Counts a user's call that creates no request. Returns an error if the limit is reached.
    pub(crate) fn count_read(&self, user: &UserId) -> Result<(), TooMany> {
        self.reads.as_ref().map_or(Ok(()), |reads| reads.count(user.clone()))
    }
}

fn count_failure(counter: Option<&Counter<IpAddr>>, client: Option<IpAddr>, what: &'static str) {
    // One line per failure, for tools such as fail2ban; the rate limit bounds their number.
    tracing::warn!(client = client.map(tracing::field::display), what, "authentication failed");
    metrics::counter!("proxytorrent_authentication_failures_total", "what" => what).increment(1);
    if let (Some(counter), Some(client)) = (counter, client) {
        let _ = counter.count(client_network(client));
    }
}

/// The error that a rate limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// Whole seconds until the next window of a minute, at least 1.
    pub retry_after: u64,
}

impl TooMany {
    pub fn problem(self, detail: &str) -> Problem {
        Problem::new(ProblemCode::RateLimited, detail).retry_after(self.retry_after)
    }
}

/// Counts events per key in fixed windows of a minute.
#[derive(Debug)]
struct Counter<K> {
    max: u64,
    minute: Mutex<Minute<K>>,
}

#[derive(Debug)]
struct Minute<K> {
    began: Instant,
    counts: HashMap<K, u64>,
    /// The shared count of all keys beyond [`MAX_KEYS`].
    others: u64,
}

impl<K: Eq + Hash> Counter<K> {
    fn new(max: u64) -> Self {
        Self { max, minute: Mutex::new(Minute { began: Instant::now(), counts: HashMap::new(), others: 0 }) }
    }

    fn count(&self, key: K) -> Result<(), TooMany> {
        self.with(|minute| {
            let is_counted = minute.counts.len() < MAX_KEYS || minute.counts.contains_key(&key);
            let count = if is_counted { minute.counts.entry(key).or_default() } else { &mut minute.others };
            *count += 1;
            *count <= self.max
        })
    }

    fn check(&self, key: &K) -> Result<(), TooMany> {
        self.with(|minute| minute.counts.get(key).is_none_or(|count| *count < self.max))
    }

    fn with(&self, allowed: impl FnOnce(&mut Minute<K>) -> bool) -> Result<(), TooMany> {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.began.elapsed() >= MINUTE {
            *minute = Minute { began: Instant::now(), counts: HashMap::new(), others: 0 };
        }
        if allowed(&mut minute) {
            return Ok(());
        }
        let left = MINUTE.saturating_sub(minute.began.elapsed());
        Err(TooMany { retry_after: left.as_secs() + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_separate_count() {
        let counter = Counter::new(3);
        for key in ["one", "other"] {
            for _ in 0..3 {
                assert_eq!(counter.check(&key), Ok(()));
                assert_eq!(counter.count(key), Ok(()));
            }
            let refused = counter.check(&key).unwrap_err();
            assert!((1..=60).contains(&refused.retry_after), "{refused:?}");
            assert!(counter.count(key).is_err());
        }
    }

    #[test]
    fn keys_beyond_the_maximum_share_one_count() {
        let counter = Counter::new(10);
        for key in 0..MAX_KEYS + 10 {
            counter.count(key).unwrap();
        }
        assert!(counter.count(MAX_KEYS + 11).is_err());
        assert_eq!(counter.count(1), Ok(()));
    }
}
