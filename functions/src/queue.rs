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

/// How long before the function's time is over work is to stop, so that it can be handed on.
const MARGIN: Duration = Duration::from_secs(5);

/// Whether a message was handled, or is to come again.
pub type Handled = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What SQS hands to a function.
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

/// `ReportBatchItemFailures`: which messages are to come again.
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

/// Handles the wake-ups in each message with `work`, whose token is cancelled shortly before the function's time is
/// over. Messages of a batch are handled side by side; only those that failed come again.
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
        warn!(message.id = message.message_id, "a message says nothing that is known, and is dropped");
    }
    for task in tasks {
        if let Err(error) = work(task, stopping.clone()).await {
            error!(message.id = message.message_id, %error, "a message was not handled, and comes again");
            return Some(ItemFailure { item_identifier: message.message_id.clone() });
        }
    }
    None
}

/// Does `work` whenever the schedule says so.
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
