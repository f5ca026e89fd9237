//! Rate limits and quotas for creating requests.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use domain::{Timestamp, UserId};
use http::{HeaderName, HeaderValue};
use ports::{Clock, Decision, Limit, RateLimiter, Requests, Reservations, StoreError, client_network};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use crate::problem::Problem;
use crate::problem_code::ProblemCode;

/// The largest body of a call, in bytes: a DynamoDB item (400 KB) must have room for it beside its other attributes.
pub(crate) const MAX_BODY: usize = 256 * 1024;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The expiry of a user's creation lock: how long the next call waits if the holder crashed.
const TURN: Duration = Duration::from_secs(5);

/// The number of queues for calls that wait for a creation lock: enough that few users share one.
const QUEUES: usize = 32;

/// The pause between two attempts to take the creation lock.
const PAUSE: Duration = Duration::from_millis(10);

/// Response headers with the state of the rate limits.
pub(crate) type RateHeaders = Vec<(HeaderName, HeaderValue)>;

/// Rate limits and quotas for creating requests.
#[derive(Debug)]
pub struct Limits {
    rates: Option<settings::RateLimit>,
    amounts: settings::Limits,
    /// Queues in this process, each shared by a part of the users: only the first call of a queue polls the lock.
    queues: [Mutex<()>; QUEUES],
}

/// A user's lock for creating a request.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// The key of the lock, which must be released.
    pub name: String,
    _place: MutexGuard<'a, ()>,
}

impl Limits {
    /// Creates the limits from these settings.
    pub fn new(rates: &settings::RateLimit, amounts: &settings::Limits) -> Self {
        Self {
            rates: rates.rate_limit_enabled.then(|| rates.clone()),
            amounts: amounts.clone(),
            queues: Default::default(),
        }
    }

    /// Counts a new request of this user from this address. Returns headers for the response, or 429 with the same
    /// headers if a limit is reached.
    pub(crate) async fn count(
        &self,
        guards: &dyn RateLimiter,
        user: &UserId,
        client: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<RateHeaders, Problem> {
        let Some(rates) = &self.rates else { return Ok(vec![]) };
        let limit = |key, max: u64, window| Limit { key, max: u32::try_from(max).unwrap_or(u32::MAX), window };
        let mut limits = vec![
            ("user-minute", limit(format!("user:{user}"), rates.requests_per_minute.get(), MINUTE)),
            ("user-hour", limit(format!("user:{user}"), rates.requests_per_hour.get(), HOUR)),
        ];
        if let Some(client) = client {
            let max = rates.requests_per_ip_minute.get();
            limits.push(("ip-minute", limit(format!("ip:{}", client_network(client)), max, MINUTE)));
        }
        let (names, limits): (Vec<_>, Vec<_>) = limits.into_iter().unzip();
        let taken = guards.acquire(&limits, now).await?;
        let headers = headers(&names, &limits, &taken);
        if taken.allowed {
            return Ok(headers);
        }
        let full = || names.iter().zip(&limits).zip(&taken.usage).filter(|((_, limit), usage)| usage.used >= limit.max);
        let wait = full().map(|(_, usage)| usage.retry_after).max().unwrap_or(MINUTE);
        for ((name, _), _) in full() {
            metrics::counter!("proxytorrent_limited_total", "limit" => *name).increment(1);
        }
        let which: Vec<_> = full().map(|((name, limit), _)| format!("{name} ({})", limit.max)).collect();
        let detail = format!("too many requests: the limit {} is reached", which.join(", "));
        Err(Problem::new(ProblemCode::RateLimited, detail).retry_after(seconds(wait).max(1)).with_headers(headers))
    }

    /// Serializes creation per user while quotas are on, so that each count includes the previous request. Returns
    /// `None` while quotas are off. Release the returned lock.
    pub(crate) async fn take_turn<'a>(
        &'a self,
        guards: &dyn Reservations,
        clock: &dyn Clock,
        user: &UserId,
    ) -> Result<Option<Turn<'a>>, StoreError> {
        if self.amounts.active_requests.get() == 0 && self.amounts.stored_bytes.get() == 0 {
            return Ok(None);
        }
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let queue = usize::try_from(hasher.finish() % QUEUES as u64).expect("less than QUEUES");
        let place = self.queues[queue].lock().await;
        let name = format!("creating:{user}");
        let given_up = Instant::now() + TURN * 2;
        while Instant::now() < given_up {
            let now = clock.now();
            if guards.reserve(&name, "", now, now + TURN).await?.is_none() {
                return Ok(Some(Turn { name, _place: place }));
            }
            // The interval of the tries.
            sleep(PAUSE).await;
        }
        Err(StoreError::unavailable("the guards", "the creation lock of a user was not released in time"))
    }

    /// Checks the user's quotas. Returns 429 if one is reached.
    pub(crate) async fn check_amounts(&self, requests: &dyn Requests, user: &UserId) -> Result<(), Problem> {
        let (active, stored) = (self.amounts.active_requests.get(), self.amounts.stored_bytes.get());
        if active == 0 && stored == 0 {
            return Ok(());
        }
        let load = requests.quota_usage(user).await?;
        let refuse = |detail| {
            let problem = Problem::new(ProblemCode::QuotaExceeded, detail);
            Err(problem.retry_after(MINUTE.as_secs()))
        };
        if active > 0 && load.active >= active {
            return refuse(format!("you have {} active requests; the limit is {active}", load.active));
        }
        if stored > 0 && load.stored_bytes >= stored {
            return refuse(format!(
                "you store {} bytes; the limit is {stored}: cancel requests that you no longer need",
                load.stored_bytes
            ));
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Returns `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) for all limits, and the
/// `X-RateLimit-*` headers of the original for the limit that has the least left.
fn headers(names: &[&str], limits: &[Limit], taken: &Decision) -> RateHeaders {
    let left = |limit: &Limit, used: u32| limit.max.saturating_sub(used);
    let all = || names.iter().zip(limits).zip(&taken.usage);
    let policy: Vec<_> =
        all().map(|((name, limit), _)| format!("\"{name}\";q={};w={}", limit.max, limit.window.as_secs())).collect();
    let state: Vec<_> = all()
        .map(|((name, limit), usage)| {
            // Rounded up, the reset of a use that was just made would be later than the end of its window.
            let reset = seconds(usage.retry_after).min(limit.window.as_secs());
            format!("\"{name}\";r={};t={reset}", left(limit, usage.used))
        })
        .collect();
    let Some(((_, limit), usage)) = all().min_by_key(|((_, limit), usage)| left(limit, usage.used)) else {
        return vec![];
    };
    [
        ("ratelimit-policy", policy.join(", ")),
        ("ratelimit", state.join(", ")),
        ("x-ratelimit-limit", limit.max.to_string()),
        ("x-ratelimit-remaining", left(limit, usage.used).to_string()),
        ("x-ratelimit-reset", seconds(usage.retry_after).to_string()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)))
    .collect()
}
