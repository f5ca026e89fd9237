//! Webhook (Standard Webhooks, standardwebhooks.com): signed, and sent through the guard and the proxy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{FetchRequest, Status, Timestamp};
use fetcher::Fetcher;
use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sha2::Sha256;

use super::{Delivery, TIMEOUT, check_status};

/// The sender of webhooks.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
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
    /// The key of a secret such as `whsec_…`: base64 after the prefix, raw bytes without one. `None` if it is not valid
    /// or empty.
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

impl Webhook {
    /// Sends the webhook of this request. The error says why it was not received.
    pub async fn send(&self, row: &FetchRequest, now: Timestamp) -> Result<Delivery, String> {
        let Some(url) = &row.spec.callback_url else { return Ok(Delivery::NotNeeded) };
        let body = payload(row, now);
        // The same for every try, so that the receiver recognizes a repetition.
        let message = format!("msg_{}_{}", row.id, announced(row));
        let timestamp = (now.as_millis() / 1000).to_string();
        let signature = self.key.sign(&message, &timestamp, &body);
        let headers = [
            (CONTENT_TYPE, "application/json".to_owned()),
            (HeaderName::from_static("webhook-id"), message),
            (HeaderName::from_static("webhook-timestamp"), timestamp),
            (HeaderName::from_static("webhook-signature"), signature),
        ];
        let headers: HeaderMap =
            headers.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect();
        match self.fetcher.post(&row.owner, url, headers, body, TIMEOUT).await {
            // The receiver wants no more webhooks.
            Ok(410) => Ok(Delivery::NotNeeded),
            Ok(status) => check_status(status).map(|()| Delivery::Delivered),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The status that is announced: ready or failed, as it was when the webhook became due.
fn announced(row: &FetchRequest) -> Status {
    if row.status == Status::Failed { Status::Failed } else { Status::Ready }
}

fn payload(row: &FetchRequest, now: Timestamp) -> String {
    let content = row.content.as_ref();
    json!({
        "type": format!("request.{}", announced(row)),
        // A request that is packaged or fetched again meanwhile has none.
        "timestamp": row.completed_at.unwrap_or(now),
        "data": {
            "id": row.id,
            "status": announced(row),
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
