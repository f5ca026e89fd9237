//! [`Wakeups`] by SQS.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use domain::{InfoHash, RequestId, UserId};
use ports::{Share, StoreError, Wakeup, Wakeups};
use serde_json::{Value, json};

use crate::torrents::infohash_of;

/// The longest that SQS delays a message. What is due later is found by the sweep.
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

/// The queues' URLs; who sends nothing to one need not know it.
#[derive(Debug, Clone, Default)]
pub struct Queues {
    /// Of the fetch function: [`Wakeup::Fetch`] and [`Wakeup::Notify`], which both go to the network.
    pub fetch: Option<String>,
    /// Of the package function: [`Wakeup::Package`] and [`Wakeup::Release`].
    pub package: Option<String>,
    /// Of the seeder: [`Wakeup::Seed`], [`Wakeup::Unseed`] and [`Wakeup::Connect`].
    pub seed: Option<String>,
}

/// The queues.
#[derive(Debug, Clone)]
pub struct SqsWakeups {
    client: Client,
    queues: Queues,
}

impl SqsWakeups {
    /// These queues.
    pub fn new(client: Client, queues: Queues) -> Self {
        Self { client, queues }
    }
}

fn unavailable<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    StoreError::unavailable("SQS", DisplayErrorContext(error).to_string())
}

/// A wake-up as a message's body.
pub fn message(wakeup: Wakeup) -> String {
    match wakeup {
        Wakeup::Fetch(id) => json!({ "fetch": id }),
        Wakeup::Package(id) => json!({ "package": id }),
        Wakeup::Release(id) => json!({ "release": id }),
        Wakeup::Notify(id) => json!({ "notify": id }),
        Wakeup::Seed(infohash, None) => json!({ "seed": infohash }),
        Wakeup::Seed(infohash, Some(id)) => json!({ "seed": infohash, "request": id }),
        Wakeup::Unseed(infohash) => json!({ "unseed": infohash }),
        Wakeup::Connect(infohash, peer) => json!({ "connect": infohash, "peer": peer }),
    }
    .to_string()
}

/// The wake-ups in a message's body: one of [`message`], or S3's notification that metainfo files were created.
pub fn wakeups(body: &str) -> Vec<Wakeup> {
    let Ok(Value::Object(object)) = serde_json::from_str(body) else { return vec![] };
    if let Some(Value::Array(records)) = object.get("Records") {
        return records.iter().filter_map(created).collect();
    }
    let id = |name: &str| object.get(name).and_then(Value::as_str).and_then(|id| id.parse::<RequestId>().ok());
    let hash = |name: &str| object.get(name).and_then(Value::as_str).and_then(|hash| hash.parse::<InfoHash>().ok());
    let peer = object.get("peer").and_then(Value::as_str).and_then(|peer| peer.parse::<SocketAddr>().ok());
    let found = [
        id("fetch").map(Wakeup::Fetch),
        id("package").map(Wakeup::Package),
        id("release").map(Wakeup::Release),
        id("notify").map(Wakeup::Notify),
        hash("seed").map(|hash| Wakeup::Seed(hash, id("request"))),
        hash("unseed").map(Wakeup::Unseed),
        hash("connect").and_then(|hash| Some(Wakeup::Connect(hash, peer?))),
    ];
    found.into_iter().flatten().collect()
}

/// The torrent whose metainfo file a record of S3 tells the creation of.
fn created(record: &Value) -> Option<Wakeup> {
    record["eventName"].as_str().filter(|name| name.contains("ObjectCreated"))?;
    let infohash = infohash_of(record["s3"]["object"]["key"].as_str()?)?;
    Some(Wakeup::Seed(infohash, None))
}

impl SqsWakeups {
    /// Sends a message. Those that name an owner are delivered fairly between owners, also by a standard queue (Amazon SQS
    /// Developer Guide, "Fair queues").
    async fn send(&self, owner: Option<&UserId>, wakeup: Wakeup, delay: Duration) -> Result<(), StoreError> {
        let queue = match wakeup {
            Wakeup::Fetch(_) | Wakeup::Notify(_) => &self.queues.fetch,
            Wakeup::Package(_) | Wakeup::Release(_) => &self.queues.package,
            Wakeup::Seed(..) | Wakeup::Unseed(_) | Wakeup::Connect(..) => &self.queues.seed,
        };
        let Some(queue) = queue else {
            return Err(StoreError::unavailable("SQS", "the queue for this wake-up is not configured (AWS__*_QUEUE)"));
        };
        let delay = delay.min(LONGEST_DELAY).as_millis().div_ceil(1000) as i32;
        let send = self.client.send_message().queue_url(queue).message_body(message(wakeup)).delay_seconds(delay);
        send.set_message_group_id(owner.map(group)).send().await.map_err(unavailable).map(drop)
    }
}

/// An owner as a `MessageGroupId`: up to 128 alphanumeric characters and punctuation. Owners whose names are alike share
/// a group, which costs them some fairness and nothing else.
fn group(owner: &UserId) -> String {
    let letters = owner.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    letters.take(128).collect()
}

#[async_trait]
impl Wakeups for SqsWakeups {
    async fn wake(&self, wakeup: Wakeup, delay: Duration) -> Result<(), StoreError> {
        self.send(None, wakeup, delay).await
    }

    async fn wake_for(&self, share: Share, wakeup: Wakeup, delay: Duration) -> Result<(), StoreError> {
        self.send(Some(&share.owner), wakeup, delay).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        for queue in [&self.queues.fetch, &self.queues.package, &self.queues.seed].into_iter().flatten() {
            self.client.get_queue_attributes().queue_url(queue).send().await.map_err(unavailable)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let (id, hash) = (RequestId::new(), InfoHash::new([7; 20]));
        for wakeup in [
            Wakeup::Fetch(id),
            Wakeup::Package(id),
            Wakeup::Release(id),
            Wakeup::Notify(id),
            Wakeup::Seed(hash, None),
            Wakeup::Seed(hash, Some(id)),
            Wakeup::Unseed(hash),
        ] {
            assert_eq!(wakeups(&message(wakeup)), [wakeup]);
        }
        for foreign in ["", "[]", "{}", "{\"fetch\": 5}", "{\"seed\": \"x\"}", "{\"Records\": [{}]}"] {
            assert_eq!(wakeups(foreign), [], "{foreign}");
        }
    }

    #[test]
    fn a_notification_of_the_bucket_names_its_torrent() {
        let hash = InfoHash::new([7; 20]);
        let record = |event: &str, key: String| json!({ "eventName": event, "s3": { "object": { "key": key } } });
        let body = json!({ "Records": [
            record("ObjectCreated:Put", format!("torrents/{hash}.torrent")),
            record("ObjectRemoved:Delete", format!("torrents/{hash}.torrent")),
            record("ObjectCreated:Put", format!("resume/{hash}.resume")),
        ] });
        assert_eq!(wakeups(&body.to_string()), [Wakeup::Seed(hash, None)]);
    }
}
