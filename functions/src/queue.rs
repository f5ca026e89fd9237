//! Functions behind SQS queues and schedules.

use std::future::Future;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use lambda_runtime::{LambdaEvent, service_fn};
use ports::Task;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use telemetry::emf;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::Error;

/// How long before its deadline a function stops its work, so that it can be suspended: for one message, and for each other
/// one of its batch.
const MARGIN: Duration = Duration::from_secs(5);
const MARGIN_OF_OTHERS: Duration = Duration::from_secs(3);

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
        let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let response = handle_batch(&event.payload, left, work).await;
        emf::flush();
        Ok::<_, Error>(response)
    }))
    .await
}

/// Handles the messages of a batch. Returns those that failed. The work is stopped shortly before the time `left` is over.
async fn handle_batch<F>(
    batch: &Batch,
    left: Duration,
    work: &(impl Fn(Task, CancellationToken) -> F + Sync),
) -> BatchResponse
where
    F: Future<Output = Handled>,
{
    let stopping = CancellationToken::new();
    let others = u32::try_from(batch.records.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let margin = MARGIN + MARGIN_OF_OTHERS.saturating_mul(others);
    let (timer, cancel) = (left.saturating_sub(margin), stopping.clone());
    let timer = tokio::spawn(async move {
        // Until the work must be suspended.
        tokio::time::sleep(timer).await;
        cancel.cancel();
    });
    let handled = batch.records.iter().map(|message| handle(message, work, &stopping));
    let failures = join_all(handled).await.into_iter().flatten().collect();
    timer.abort();
    BatchResponse { batch_item_failures: failures }
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
        if let Err(error) = pipeline::measured(task.step(), work(task, stopping.clone())).await {
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
        let result = pipeline::measured("sweep", work()).await;
        emf::flush();
        result?;
        Ok::<_, Error>(Value::Null)
    }))
    .await
}

#[cfg(test)]
mod tests {
    use domain::RequestId;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn only_the_failed_messages_of_a_batch_are_redelivered() {
        let ids = [RequestId::new(), RequestId::new(), RequestId::new()];
        let records = ids.map(|id| json!({ "messageId": id, "body": json!({ "fetch": id }).to_string() }));
        let batch: Batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let work = |task, _| async move {
            if task == Task::Fetch(ids[1]) { Err("the store is unavailable".into()) } else { Ok(()) }
        };
        let response = handle_batch(&batch, Duration::from_secs(60), &work).await;
        let expected = json!({ "batchItemFailures": [{ "itemIdentifier": ids[1] }] });
        assert_eq!(serde_json::to_value(response).unwrap(), expected);
    }
}
