//! [`Wakeups`] through a channel of the process.

use std::time::Duration;

use async_trait::async_trait;
use ports::{Share, StoreError, Wakeup, Wakeups};
use tokio::sync::mpsc;

/// The sending end.
#[derive(Debug, Clone)]
pub struct ChannelWakeups(mpsc::UnboundedSender<Delivery>);

/// A wake-up that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The wake-up itself.
    pub wakeup: Wakeup,
    /// Whose share of the workers it takes, if the sender knew.
    pub share: Option<Share>,
}

/// The receiving end.
pub type WakeupReceiver = mpsc::UnboundedReceiver<Delivery>;

/// A channel for wake-ups. It is unbounded, and yet small: a wake-up has some hundred bytes, and each stands for
/// a row that is on disk.
pub fn channel() -> (ChannelWakeups, WakeupReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (ChannelWakeups(sender), receiver)
}

fn closed<T>(_: T) -> StoreError {
    StoreError::unavailable("the wake-up channel", "it is closed")
}

impl ChannelWakeups {
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
impl Wakeups for ChannelWakeups {
    async fn wake(&self, wakeup: Wakeup, delay: Duration) -> Result<(), StoreError> {
        self.send(Delivery { wakeup, share: None }, delay)
    }

    async fn wake_for(&self, share: Share, wakeup: Wakeup, delay: Duration) -> Result<(), StoreError> {
        self.send(Delivery { wakeup, share: Some(share) }, delay)
    }

    async fn check(&self) -> Result<(), StoreError> {
        if self.0.is_closed() { Err(closed(())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_delayed_wakeup_arrives_after_one_that_is_not() {
        let (wakeups, mut receiver) = channel();
        for expected in ports::contract::wakeups::send_a_late_and_an_early_one(&wakeups).await {
            assert_eq!(receiver.recv().await.map(|delivery| delivery.wakeup), Some(expected));
        }
    }
}
