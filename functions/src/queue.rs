//! Functions behind SQS queues and schedules.

use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use lambda_runtime::{LambdaEvent, service_fn};
use ports::Task;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::Error;

/// How long before its deadline a function stops its work, so that it can be suspended.
const MARGIN: Duration = Duration::from_secs(5);

/// Whether a message was handled; if not, SQS redelivers it.
pub type Handled = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The event of an SQS event source.
#[derive(Debug, Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Message>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    message_id: String,
    body: String,
}

/// The response for `ReportBatchItemFailures`: the messages that SQS must redeliver.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchResponse {
    batch_item_failures: Vec<ItemFailure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: String,
}

/// Handles the tasks in each message with `work`, whose token is cancelled shortly before the function's deadline. Messages
/// of a batch are handled concurrently; only those that failed are redelivered.
pub async fn consume<F>(work: impl Fn(Task, CancellationToken) -> F + Sync) -> Result<(), Error>
where
    F: Future<Output = Handled>,
{
    let work = &work;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Batch>| async move {
        let stopping = CancellationToken::new();
        let left = event.context.deadline().duration_since(std::time::SystemTime::now()).unwrap_or_default();
        let (timer, cancel) = (left.saturating_sub(MARGIN), stopping.clone());
        let timer = tokio::spawn(async move {
            // Until the work must be suspended.
            tokio::time::sleep(timer).await;
            cancel.cancel();
        });
        let handled = event.payload.records.iter().map(|message| handle(message, work, &stopping));
        let failures = join_all(handled).await.into_iter().flatten().collect();
        timer.abort();
        Ok::<_, Error>(BatchResponse { batch_item_failures: failures })
    }))
    .await
}

async fn handle<F>(
    message: &Message,
    work: &(impl Fn(Task, CancellationToken) -> F + Sync),
    stopping: &CancellationToken,
) -> Option<ItemFailure>
where
    F: Future<Output = Handled>,
{
    let tasks = aws::tasks(&message.body);
    if tasks.is_empty() {
        warn!(message.id = message.message_id, "unknown message dropped");
    }
    for task in tasks {
        if let Err(error) = work(task, stopping.clone()).await {
            error!(message.id = message.message_id, %error, "message failed, will be redelivered");
            return Some(ItemFailure { item_identifier: message.message_id.clone() });
        }
    }
    None
}

/// Runs `work` at every event of the schedule.
pub async fn scheduled<F>(work: impl Fn() -> F + Sync) -> Result<(), Error>
where
    F: Future<Output = Handled>,
{
    let work = &work;
    lambda_runtime::run(service_fn(|_: LambdaEvent<Value>| async move {
        work().await?;
        Ok::<_, Error>(Value::Null)
    }))
    .await
}
