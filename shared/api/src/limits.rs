//! How often one may ask, and how much one may have.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use domain::{Timestamp, UserId};
use http::{HeaderName, HeaderValue, StatusCode};
use ports::{Clock, Decision, Limit, RateLimiter, Requests, Reservations, StoreError, client_network};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use crate::problem::Problem;

/// The largest request body, in bytes: what a row of DynamoDB (400 KB) has room for beside everything else.
pub(crate) const MAX_BODY: usize = 256 * 1024;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How long a user's next request waits for one whose creation died.
const TURN: Duration = Duration::from_secs(5);

/// Queues of users that wait: enough that few share one.
const QUEUES: usize = 32;

/// Between two looks whether it is one's turn.
const PAUSE: Duration = Duration::from_millis(10);

/// Headers that tell how the limits stand.
pub(crate) type RateHeaders = Vec<(HeaderName, HeaderValue)>;

/// The limits of creating requests.
#[derive(Debug)]
pub struct Limits {
    rates: Option<settings::RateLimit>,
    amounts: settings::Limits,
    /// Users of this process that wait for their turn do so in a queue, and one of them asks the guards.
    queues: [Mutex<()>; QUEUES],
}

/// A user's turn to create a request.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// What is to be released.
    pub name: String,
    _place: MutexGuard<'a, ()>,
}

impl Limits {
    /// The limits of these settings.
    pub fn new(rates: &settings::RateLimit, amounts: &settings::Limits) -> Self {
        Self {
            rates: rates.rate_limit_enabled.then(|| rates.clone()),
            amounts: amounts.clone(),
            queues: Default::default(),
        }
    }

    /// Counts a request of this user from this address. The headers go with whatever is answered.
    pub(crate) async fn count(
        &self,
        guards: &dyn RateLimiter,
        user: &UserId,
        client: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<RateHeaders, Problem> {
        let Some(rates) = &self.rates else { return Ok(vec![]) };
        let limit = |key, max: u64, window| Limit { key, max: max.min(u32::MAX.into()) as u32, window };
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
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
            .retry_after(seconds(wait).max(1) as u32)
            .with_headers(headers))
    }

    /// Has the user's requests made one after another where there are amounts to be kept: what is counted for one is
    /// there for the next. What this returns is to be released.
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
        let place = self.queues[hasher.finish() as usize % QUEUES].lock().await;
        let name = format!("creating:{user}");
        let given_up = Instant::now() + TURN * 2;
        while Instant::now() < given_up {
            let now = clock.now();
            if guards.reserve(&name, "", now, now + TURN).await?.is_none() {
                return Ok(Some(Turn { name, _place: place }));
            }
            sleep(PAUSE).await;
        }
        Err(StoreError::unavailable("the guards", "a user's requests are created for too long"))
    }

    /// Refuses a request of a user who has as much as one may have.
    pub(crate) async fn check_amounts(&self, requests: &dyn Requests, user: &UserId) -> Result<(), Problem> {
        let (active, stored) = (self.amounts.active_requests.get(), self.amounts.stored_bytes.get());
        if active == 0 && stored == 0 {
            return Ok(());
        }
        let load = requests.quota_usage(user).await?;
        let refuse = |detail| {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", detail);
            Err(problem.retry_after(MINUTE.as_secs() as u32))
        };
        if active > 0 && load.active >= active {
            return refuse(format!("you have {} active requests, and may have {active}", load.active));
        }
        if stored > 0 && load.stored_bytes >= stored {
            return refuse(format!(
                "you keep {} bytes, and may keep {stored}: cancel what you need no more",
                load.stored_bytes
            ));
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) of all limits, and the
/// `X-RateLimit-*` that the original named of the one that is nearest.
fn headers(names: &[&str], limits: &[Limit], taken: &Decision) -> RateHeaders {
    let left = |limit: &Limit, used: u32| limit.max.saturating_sub(used);
    let all = || names.iter().zip(limits).zip(&taken.usage);
    let policy: Vec<_> =
        all().map(|((name, limit), _)| format!("\"{name}\";q={};w={}", limit.max, limit.window.as_secs())).collect();
    let state: Vec<_> = all()
        .map(|((name, limit), usage)| {
            // Rounded up, a use that was just made would leave after its window.
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
