//! Task queue ([`TaskQueue`]) on SQS.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use domain::{InfoHash, RequestId, UserId};
use ports::{Check, Share, StoreError, Task, TaskQueue};
use serde_json::{Value, json};

use crate::torrents::infohash_of;

/// The maximum delay of an SQS message. The sweep finds tasks that are due later.
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

/// The URLs of the queues. A queue to which the process sends nothing may be `None`.
#[derive(Debug, Clone, Default)]
pub struct Queues {
    /// The queue of the fetch function: [`Task::Fetch`] and [`Task::Notify`], which both use the network.
    pub fetch: Option<String>,
    /// The queue of the package function: [`Task::Package`] and [`Task::Release`].
    pub package: Option<String>,
    /// The queue of the seeder: [`Task::Seed`], [`Task::Unseed`] and [`Task::Connect`].
    pub seed: Option<String>,
}

/// The task queue on SQS.
#[derive(Debug, Clone)]
pub struct SqsTaskQueue {
    client: Client,
    queues: Queues,
}

impl SqsTaskQueue {
    /// Creates a task queue with these SQS queues.
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

/// Returns the message body of a task.
pub fn message(task: Task) -> String {
    match task {
        Task::Fetch(id) => json!({ "fetch": id }),
        Task::Package(id) => json!({ "package": id }),
        Task::Release(id) => json!({ "release": id }),
        Task::Notify(id) => json!({ "notify": id }),
        Task::Seed(infohash, None) => json!({ "seed": infohash }),
        Task::Seed(infohash, Some(id)) => json!({ "seed": infohash, "request": id }),
        Task::Unseed(infohash) => json!({ "unseed": infohash }),
        Task::Connect(infohash, peer) => json!({ "connect": infohash, "peer": peer }),
    }
    .to_string()
}

/// Returns the tasks in a message body: a body from [`message`], or an S3 event notification of created metainfo
/// files. Returns no tasks for other bodies.
pub fn tasks(body: &str) -> Vec<Task> {
    let Ok(Value::Object(object)) = serde_json::from_str(body) else { return vec![] };
    if let Some(Value::Array(records)) = object.get("Records") {
        return records.iter().filter_map(created).collect();
    }
    let id = |name: &str| object.get(name).and_then(Value::as_str).and_then(|id| id.parse::<RequestId>().ok());
    let hash = |name: &str| object.get(name).and_then(Value::as_str).and_then(|hash| hash.parse::<InfoHash>().ok());
    let peer = object.get("peer").and_then(Value::as_str).and_then(|peer| peer.parse::<SocketAddr>().ok());
    let found = [
        id("fetch").map(Task::Fetch),
        id("package").map(Task::Package),
        id("release").map(Task::Release),
        id("notify").map(Task::Notify),
        hash("seed").map(|hash| Task::Seed(hash, id("request"))),
        hash("unseed").map(Task::Unseed),
        hash("connect").and_then(|hash| Some(Task::Connect(hash, peer?))),
    ];
    found.into_iter().flatten().collect()
}

/// Returns the seed task for an S3 event record, if it reports the creation of a metainfo file.
fn created(record: &Value) -> Option<Task> {
    record["eventName"].as_str().filter(|name| name.contains("ObjectCreated"))?;
    let infohash = infohash_of(record["s3"]["object"]["key"].as_str()?)?;
    Some(Task::Seed(infohash, None))
}

impl SqsTaskQueue {
    /// Sends a task as a message. Messages with an owner are delivered fairly between owners, even by a standard
    /// queue (Amazon SQS Developer Guide, "Fair queues").
    async fn send(&self, owner: Option<&UserId>, task: Task, delay: Duration) -> Result<(), StoreError> {
        let queue = match task {
            Task::Fetch(_) | Task::Notify(_) => &self.queues.fetch,
            Task::Package(_) | Task::Release(_) => &self.queues.package,
            Task::Seed(..) | Task::Unseed(_) | Task::Connect(..) => &self.queues.seed,
        };
        let Some(queue) = queue else {
            return Err(StoreError::unavailable("SQS", "the queue of this task is not configured (AWS__*_QUEUE)"));
        };
        // At most 900 s.
        let delay = i32::try_from(delay.min(LONGEST_DELAY).as_millis().div_ceil(1000)).unwrap_or_default();
        let send = self.client.send_message().queue_url(queue).message_body(message(task)).delay_seconds(delay);
        send.set_message_group_id(owner.map(group)).send().await.map_err(unavailable).map(drop)
    }
}

/// Returns the `MessageGroupId` of an owner: up to 128 alphanumeric characters and punctuation. Different owners may
/// get the same group. This only reduces the fairness between them.
fn group(owner: &UserId) -> String {
    let letters = owner.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    letters.take(128).collect()
}

#[async_trait]
impl TaskQueue for SqsTaskQueue {
    async fn enqueue(&self, task: Task, delay: Duration) -> Result<(), StoreError> {
        self.send(None, task, delay).await
    }

    async fn enqueue_for(&self, share: Share, task: Task, delay: Duration) -> Result<(), StoreError> {
        self.send(Some(&share.owner), task, delay).await
    }
}

#[async_trait]
impl Check for SqsTaskQueue {
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
    fn a_message_decodes_to_its_task() {
        let (id, hash) = (RequestId::new(), InfoHash::new([7; 20]));
        for task in [
            Task::Fetch(id),
            Task::Package(id),
            Task::Release(id),
            Task::Notify(id),
            Task::Seed(hash, None),
            Task::Seed(hash, Some(id)),
            Task::Unseed(hash),
        ] {
            assert_eq!(tasks(&message(task)), [task]);
        }
        for foreign in ["", "[]", "{}", "{\"fetch\": 5}", "{\"seed\": \"x\"}", "{\"Records\": [{}]}"] {
            assert_eq!(tasks(foreign), [], "{foreign}");
        }
    }

    #[test]
    fn an_s3_event_of_a_created_metainfo_file_is_a_seed_task() {
        let hash = InfoHash::new([7; 20]);
        let record = |event: &str, key: String| json!({ "eventName": event, "s3": { "object": { "key": key } } });
        let body = json!({ "Records": [
            record("ObjectCreated:Put", format!("torrents/{hash}.torrent")),
            record("ObjectRemoved:Delete", format!("torrents/{hash}.torrent")),
            record("ObjectCreated:Put", format!("content/{hash}")),
        ] });
        assert_eq!(tasks(&body.to_string()), [Task::Seed(hash, None)]);
    }
}
