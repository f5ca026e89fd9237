//! Webhook delivery (Standard Webhooks, standardwebhooks.com): signed, retried, and sent through the guard and the proxy.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{FetchRequest, RequestId, Status, Timestamp};
use fetcher::{FetchError, Fetcher};
use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use ports::{Clock, Share, Stores, Task, TaskQueue, WebhookQueue};
use serde_json::json;
use settings::ExposeSecret;
use sha2::Sha256;
use tracing::{info, warn};

use crate::{LEASE, Outcome, StepError};

/// The waits between tries, as the specification suggests. After the last one the webhook is given up.
const WAITS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
];

/// The longest that a webhook waits for its next try.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(15 * 3600);

/// The longest that a receiver may take to respond; shorter than the lease.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The notify step.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Notify {
    pub webhooks: Arc<dyn WebhookQueue>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
    pub fetcher: Fetcher,
    pub key: WebhookKey,
}

/// The key that signs webhooks.
#[derive(Clone)]
pub struct WebhookKey(Hmac<Sha256>);

impl std::fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookKey(********)")
    }
}

impl WebhookKey {
    /// The key of a secret such as `whsec_…`: base64 after the prefix, raw bytes without one. `None` if it is not valid or
    /// empty.
    pub fn new(secret: &str) -> Option<Self> {
        let bytes = match secret.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).ok()?,
            None => secret.as_bytes().to_vec(),
        };
        if bytes.is_empty() {
            return None;
        }
        Some(Self(Hmac::new_from_slice(&bytes).ok()?))
    }

    fn sign(&self, id: &str, timestamp: &str, body: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The webhook secret is not valid.
#[derive(Debug, thiserror::Error)]
#[error("SECURITY__WEBHOOK_SECRET: what follows whsec_ must be base64 and not empty")]
pub struct BadWebhookSecret;

impl Notify {
    /// The step on these ports; `None` if no webhook secret is set.
    pub fn new(
        stores: &Stores,
        fetcher: Fetcher,
        security: &settings::Security,
    ) -> Result<Option<Self>, BadWebhookSecret> {
        let Some(secret) = &security.webhook_secret else { return Ok(None) };
        let key = WebhookKey::new(secret.expose_secret()).ok_or(BadWebhookSecret)?;
        Ok(Some(Self {
            webhooks: stores.requests.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            fetcher,
            key,
        }))
    }

    /// Delivers the webhook of this request, if it is due.
    pub async fn run(&self, id: RequestId) -> Result<Outcome, StepError> {
        let Some((row, tries)) = self.webhooks.claim_webhook(id, self.clock.now(), LEASE).await? else {
            return Ok(Outcome::Nothing);
        };
        let delivered = self.deliver(&row).await;
        let now = self.clock.now();
        let wait = match &delivered {
            Ok(status) if (200..300).contains(status) => {
                info!(request.id = %id, status, "webhook delivered");
                None
            }
            // The receiver wants no more webhooks.
            Ok(410) => None,
            _ => WAITS.get(tries as usize),
        };
        if let Some(wait) = wait {
            let why =
                delivered.map_or_else(|error| error.to_string(), |status| format!("the receiver responded {status}"));
            warn!(request.id = %id, why, tries = tries + 1, "webhook delivery failed, will retry");
            self.webhooks.finish_webhook(id, Some(now + *wait)).await?;
            self.tasks.enqueue_for(Share::from(&row), Task::Notify(id), *wait).await?;
            return Ok(Outcome::Retried);
        }
        self.webhooks.finish_webhook(id, None).await?;
        Ok(Outcome::Done)
    }

    async fn deliver(&self, row: &FetchRequest) -> Result<u16, FetchError> {
        let Some(url) = &row.spec.callback_url else { return Ok(410) };
        let body = payload(row, self.clock.wall());
        // The same for every try, so that the receiver recognizes a repetition.
        let message = format!("msg_{}_{}", row.id, event_status(row));
        let timestamp = (self.clock.wall().as_millis() / 1000).to_string();
        let signature = self.key.sign(&message, &timestamp, &body);
        let headers = [
            (CONTENT_TYPE, "application/json".to_owned()),
            (HeaderName::from_static("webhook-id"), message),
            (HeaderName::from_static("webhook-timestamp"), timestamp),
            (HeaderName::from_static("webhook-signature"), signature),
        ];
        let headers: HeaderMap =
            headers.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect();
        self.fetcher.post(&row.owner, url, headers, body, TIMEOUT).await
    }
}

/// The status in the event: ready or failed, as it was when the webhook became due.
fn event_status(row: &FetchRequest) -> Status {
    if row.status == Status::Failed { Status::Failed } else { Status::Ready }
}

fn payload(row: &FetchRequest, now: Timestamp) -> String {
    let content = row.content.as_ref();
    json!({
        "type": format!("request.{}", event_status(row)),
        // A request that is packaged or fetched again meanwhile has none.
        "timestamp": row.completed_at.unwrap_or(now),
        "data": {
            "id": row.id,
            "status": event_status(row),
            "url": row.spec.url,
            "infohash": row.infohash,
            "infohash_v2": row.infohash_v2,
            "content_hash": content.map(|content| content.hash),
            "content_size": content.map(|content| content.size),
            "content_type": content.map(|content| content.media_type.as_str()),
            "file_name": content.map(|content| content.file_name.as_str()),
            "error_code": row.failure.as_ref().map(|failure| failure.code.as_str()),
            "error_message": row.failure.as_ref().map(|failure| &failure.message),
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = WebhookKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(WebhookKey::new("whsec_not base64!").is_none() && WebhookKey::new("whsec_").is_none());
    }
}
