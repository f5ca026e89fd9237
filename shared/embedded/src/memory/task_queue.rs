//! [`TaskQueue`] through a channel of the process.

use std::time::Duration;

use async_trait::async_trait;
use ports::{Check, Share, StoreError, Task, TaskQueue};
use tokio::sync::mpsc;

/// The sending end.
#[derive(Debug, Clone)]
pub struct ChannelTaskQueue(mpsc::UnboundedSender<Delivery>);

/// A wake-up that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The wake-up itself.
    pub task: Task,
    /// Whose share of the workers it takes, if the sender knew.
    pub share: Option<Share>,
}

/// The receiving end.
pub type TaskReceiver = mpsc::UnboundedReceiver<Delivery>;

/// A channel for wake-ups. It is unbounded, and yet small: a wake-up has some hundred bytes, and each stands for
/// a row that is on disk.
pub fn channel() -> (ChannelTaskQueue, TaskReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (ChannelTaskQueue(sender), receiver)
}

fn closed<T>(_: T) -> StoreError {
    StoreError::unavailable("the wake-up channel", "it is closed")
}

impl ChannelTaskQueue {
    fn send(&self, delivery: Delivery, delay: Duration) -> Result<(), StoreError> {
        if delay.is_zero() {
            return self.0.send(delivery).map_err(closed);
        }
        let sender = self.0.clone();
        tokio::spawn(async move {
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
    async fn a_delayed_wakeup_arrives_after_one_that_is_not() {
        let (tasks, mut receiver) = channel();
        for expected in ports::contract::task_queue::send_a_late_and_an_early_one(&tasks).await {
            assert_eq!(receiver.recv().await.map(|delivery| delivery.task), Some(expected));
        }
    }
}
