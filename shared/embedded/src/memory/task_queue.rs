//! Task queue ([`TaskQueue`]) on a channel within the process.

use std::time::Duration;

use async_trait::async_trait;
use ports::{Check, Share, StoreError, Task, TaskQueue};
use tokio::sync::mpsc;

/// The sender of tasks.
#[derive(Debug, Clone)]
pub struct ChannelTaskQueue(mpsc::UnboundedSender<Delivery>);

/// A delivered task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The task.
    pub task: Task,
    /// The share of the workers that the task uses, if the sender knew it.
    pub share: Option<Share>,
}

/// The receiver of tasks.
pub type TaskReceiver = mpsc::UnboundedReceiver<Delivery>;

/// Creates a channel for tasks. It is unbounded, but stays small: a task has about a hundred bytes and refers to a
/// row on disk.
pub fn channel() -> (ChannelTaskQueue, TaskReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (ChannelTaskQueue(sender), receiver)
}

fn closed<T>(_: T) -> StoreError {
    StoreError::unavailable("the task queue", "the channel is closed")
}

impl ChannelTaskQueue {
    fn send(&self, delivery: Delivery, delay: Duration) -> Result<(), StoreError> {
        if delay.is_zero() {
            return self.0.send(delivery).map_err(closed);
        }
        let sender = self.0.clone();
        tokio::spawn(async move {
            // The delay of the task.
            tokio::time::sleep(delay).await;
            let _ = sender.send(delivery);
        });
        Ok(())
    }
}

#[async_trait]
impl TaskQueue for ChannelTaskQueue {
    async fn enqueue(&self, task: Task, delay: Duration) -> Result<(), StoreError> {
        self.send(Delivery { task, share: None }, delay)
    }

    async fn enqueue_for(&self, share: Share, task: Task, delay: Duration) -> Result<(), StoreError> {
        self.send(Delivery { task, share: Some(share) }, delay)
    }
}

#[async_trait]
impl Check for ChannelTaskQueue {
    async fn check(&self) -> Result<(), StoreError> {
        if self.0.is_closed() { Err(closed(())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_delayed_task_arrives_after_an_immediate_one() {
        let (tasks, mut receiver) = channel();
        for expected in ports::contract::task_queue::send_a_late_and_an_early_one(&tasks).await {
            assert_eq!(receiver.recv().await.map(|delivery| delivery.task), Some(expected));
        }
    }
}
