//! The upload limit that peers and webseeds share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ports::UploadLimiter;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::lock::lock;
use crate::session::SeedSession;
use crate::sessions::SeedSessions;

/// The interval at which the limit is divided anew.
const INTERVAL: Duration = Duration::from_millis(250);

/// The part of its share that a side must use to count as one that wants more.
const USED: f64 = 0.75;

/// How long after its last byte a webseed still has a share.
const IDLE: Duration = Duration::from_secs(2);

/// `TORRENT__UPLOAD_RATE_LIMIT` for peers and webseeds together.
///
/// While no webseed is used, the peers have the whole limit. If both want more than half of it, each has half; what one
/// does not use, the other one has.
#[derive(Debug)]
pub struct UploadLimit {
    sessions: Arc<SeedSessions>,
    /// Bytes per second of peers and webseeds together.
    limit: f64,
    webseeds: Mutex<Webseeds>,
    /// Locked by the webseed that waits. The others wait for this lock, in order.
    turn: tokio::sync::Mutex<()>,
}

/// The share of the webseeds: a token bucket that may be in debt.
#[derive(Debug)]
struct Webseeds {
    /// Bytes per second.
    share: f64,
    tokens: f64,
    filled: Instant,
    /// The bytes since the last division.
    taken: f64,
    /// Whether a webseed has waited since the last division.
    waited: bool,
    /// When a webseed was used last.
    used: Option<Instant>,
}

impl UploadLimit {
    /// The limit of these sessions together in bytes per second; `None` if it is 0.
    pub fn new(sessions: Arc<SeedSessions>, limit: u32) -> Option<Arc<Self>> {
        let (limit, now) = (f64::from(limit), Instant::now());
        let webseeds = Webseeds { share: limit / 2.0, tokens: 0.0, filled: now, taken: 0.0, waited: false, used: None };
        (limit > 0.0).then(|| {
            Arc::new(Self { sessions, limit, webseeds: Mutex::new(webseeds), turn: tokio::sync::Mutex::default() })
        })
    }

    /// Divides the limit between peers and webseeds, and the part of the peers between the sessions, until `stop` is
    /// cancelled.
    pub async fn divide(self: Arc<Self>, stop: CancellationToken) {
        let (mut interval, mut of_peers) = (interval(INTERVAL), self.limit);
        let sessions = &self.sessions.sessions;
        let mut parts: Vec<_> = sessions.iter().map(|_| Part::new(self.limit / count(sessions))).collect();
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            parts.iter_mut().zip(sessions).for_each(|(part, session)| part.measure(session));
            let peers = parts.iter().map(|part| part.rate).sum();
            let share = {
                let mut webseeds = lock(&self.webseeds);
                let is_idle = webseeds.used.is_none_or(|used| used.elapsed() > IDLE);
                let share = if is_idle { None } else { Some(self.share(&webseeds, peers, of_peers)) };
                (webseeds.taken, webseeds.waited) = (0.0, false);
                webseeds.share = share.unwrap_or(self.limit / 2.0);
                share
            };
            let wanted = self.limit - share.unwrap_or(0.0);
            if (wanted - of_peers).abs() > self.limit / 100.0 || (share.is_none() && wanted > of_peers) {
                of_peers = wanted;
            }
            let next = divided(of_peers, &parts);
            // Without this, small steps would never end at the whole limit.
            let is_whole = share.is_none() && sessions.len() == 1;
            for ((part, session), next) in parts.iter_mut().zip(sessions).zip(next) {
                if part.needs(next) || (is_whole && next > part.limit) {
                    part.limit = next;
                    session.set_upload_rate_limit(next);
                }
                if share.is_some() || sessions.len() > 1 {
                    // The statistics are otherwise read at a longer interval.
                    session.request_statistics();
                }
            }
        }
    }

    /// Returns the next share of the webseeds, halfway between the present one and that which the use suggests.
    fn share(&self, webseeds: &Webseeds, peers: f64, of_peers: f64) -> f64 {
        let half = self.limit / 2.0;
        let suggested = match (webseeds.waited, peers >= USED * of_peers) {
            (true, true) => half,
            // Peers keep room to want more.
            (true, false) => (self.limit - peers / USED).clamp(half, 0.98 * self.limit),
            (false, _) => (1.5 * webseeds.taken / INTERVAL.as_secs_f64()).clamp(0.05 * self.limit, webseeds.share),
        };
        f64::midpoint(webseeds.share, suggested)
    }
}

/// The part of the limit that the peers of one session have.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Bytes per second.
    limit: f64,
    /// The use, an average over about a second: peers receive in bursts.
    rate: f64,
    /// The number of connected peers.
    peers: u64,
    uploaded_bytes: u64,
}

impl Part {
    fn new(limit: f64) -> Self {
        Self { limit, rate: 0.0, peers: 0, uploaded_bytes: 0 }
    }

    fn measure(&mut self, session: &SeedSession) {
        let now = session.statistics();
        self.rate += (per_second(now.uploaded_bytes.saturating_sub(self.uploaded_bytes)) - self.rate) * 0.3;
        (self.peers, self.uploaded_bytes) = (now.peers, now.uploaded_bytes);
    }

    /// Whether the limit differs enough from this one to be set.
    fn needs(&self, limit: f64) -> bool {
        (limit - self.limit).abs() > 0.01 * self.limit
    }
}

/// Divides `limit` between the sessions: those that use their parts share it in proportion to their peers, and the others
/// have what they use, with room to want more (max-min fairness). Returns the next parts, halfway between the present ones
/// and these.
fn divided(limit: f64, parts: &[Part]) -> Vec<f64> {
    let present: f64 = parts.iter().map(|part| part.limit).sum();
    let least = 0.05 * limit / count(parts);
    let demand = |part: &Part| {
        let wants_more = part.rate >= USED * part.limit;
        if wants_more { f64::INFINITY } else { (part.rate / USED).max(least) }
    };
    let mut next = vec![None; parts.len()];
    let mut left = limit;
    loop {
        let open: Vec<_> = (0..parts.len()).filter(|number| next[*number].is_none()).collect();
        let peers: f64 = open.iter().map(|number| weight(&parts[*number])).sum();
        let fair = |number: usize| left * weight(&parts[number]) / peers;
        let content: Vec<_> = open.iter().copied().filter(|number| demand(&parts[*number]) <= fair(*number)).collect();
        if content.is_empty() || content.len() == open.len() {
            // All others want more than their share, or nobody does: then all get more than they want.
            for number in open {
                next[number] = Some(fair(number));
            }
            break;
        }
        for number in content {
            next[number] = Some(demand(&parts[number]));
            left -= demand(&parts[number]);
        }
    }
    let scale = limit / present.max(1.0);
    parts.iter().zip(next).map(|(part, next)| f64::midpoint(part.limit * scale, next.unwrap_or(least))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "numbers of peers are small")]
fn weight(part: &Part) -> f64 {
    part.peers.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "there are few sessions")]
fn count<T>(of: &[T]) -> f64 {
    of.len() as f64
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(bytes: u64) -> f64 {
    bytes as f64 / INTERVAL.as_secs_f64()
}

#[async_trait]
impl UploadLimiter for UploadLimit {
    #[expect(clippy::cast_precision_loss, reason = "chunks are small")]
    async fn take(&self, bytes: u64) {
        let _turn = self.turn.lock().await;
        loop {
            let wait = {
                let mut webseeds = lock(&self.webseeds);
                let now = Instant::now();
                let gained = webseeds.share * now.duration_since(webseeds.filled).as_secs_f64();
                // At most one interval is saved up.
                webseeds.tokens = (webseeds.tokens + gained).min(webseeds.share * INTERVAL.as_secs_f64());
                (webseeds.filled, webseeds.used) = (now, Some(now));
                if webseeds.tokens > 0.0 {
                    webseeds.tokens -= bytes as f64;
                    webseeds.taken += bytes as f64;
                    return;
                }
                webseeds.waited = true;
                Duration::from_secs_f64(-webseeds.tokens / webseeds.share).min(INTERVAL)
            };
            // Until the debt of the token bucket is paid.
            sleep(wait.max(Duration::from_millis(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the parts after a while, if the session with this number of peers can use so much.
    fn settled(wanted: &[(u64, f64)]) -> Vec<f64> {
        let mut parts: Vec<_> = wanted.iter().map(|(peers, _)| Part { peers: *peers, ..Part::new(100.0) }).collect();
        for _ in 0..100 {
            for (part, (_, wanted)) in parts.iter_mut().zip(wanted) {
                part.rate = wanted.min(part.limit);
            }
            let next = divided(1000.0, &parts);
            assert!((next.iter().sum::<f64>() - 1000.0).abs() < 1e-6, "{next:?}");
            for (part, next) in parts.iter_mut().zip(next) {
                if part.needs(next) {
                    part.limit = next;
                }
            }
        }
        parts.iter().map(|part| part.limit).collect()
    }

    /// Asserts that the parts are within 3 % of these.
    #[track_caller]
    fn assert_settled(wanted: &[(u64, f64)], expected: &[f64]) {
        let parts = settled(wanted);
        let is_near = |(part, expected): (&f64, &f64)| (part - expected).abs() <= 0.03 * expected;
        assert!(parts.len() == expected.len() && parts.iter().zip(expected).all(is_near), "{parts:?}");
    }

    const ALL: f64 = f64::INFINITY;

    #[test]
    fn one_session_has_the_whole_limit() {
        assert_settled(&[(3, ALL)], &[1000.0]);
        assert_settled(&[(0, 0.0)], &[1000.0]);
    }

    #[test]
    fn sessions_share_the_limit_in_proportion_to_their_peers() {
        assert_settled(&[(1, ALL), (1, ALL)], &[500.0, 500.0]);
        assert_settled(&[(3, ALL), (1, ALL)], &[750.0, 250.0]);
        assert_settled(&[(1, ALL); 64], &[1000.0 / 64.0; 64]);
    }

    #[test]
    fn what_a_session_does_not_use_the_others_have() {
        assert_settled(&[(0, 0.0), (2, ALL), (2, ALL)], &[16.7, 491.7, 491.7]);
        // It has room to want more.
        assert_settled(&[(1, 75.0), (1, ALL)], &[100.0, 900.0]);
    }

    #[test]
    fn idle_sessions_share_the_limit() {
        assert_settled(&[(0, 0.0), (0, 0.0)], &[500.0, 500.0]);
    }
}
