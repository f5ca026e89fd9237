//! The upload limit that peers and webseeds share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ports::UploadLimiter;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::lock::lock;
use crate::session::SeedSession;

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
    session: Arc<SeedSession>,
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
    /// The limit of this session in bytes per second; `None` if it is 0.
    pub fn new(session: Arc<SeedSession>, limit: u32) -> Option<Arc<Self>> {
        let (limit, now) = (f64::from(limit), Instant::now());
        let webseeds = Webseeds { share: limit / 2.0, tokens: 0.0, filled: now, taken: 0.0, waited: false, used: None };
        (limit > 0.0).then(|| {
            Arc::new(Self { session, limit, webseeds: Mutex::new(webseeds), turn: tokio::sync::Mutex::default() })
        })
    }

    /// Divides the limit between peers and webseeds until `stop` is cancelled.
    pub async fn divide(self: Arc<Self>, stop: CancellationToken) {
        let (mut interval, mut before, mut of_peers) = (interval(INTERVAL), 0, self.limit);
        let mut peers = 0.0;
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let uploaded = self.session.statistics().uploaded_bytes;
            // An average over about a second: peers receive in bursts.
            peers += (per_second(uploaded.saturating_sub(before)) - peers) * 0.3;
            before = uploaded;
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
                self.session.set_upload_rate_limit(of_peers);
            }
            if share.is_some() {
                // The statistics are otherwise read at a longer interval.
                self.session.request_statistics();
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
