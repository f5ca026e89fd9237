//! [`Wakeups`] through a channel of the process.

use std::time::Duration;

use async_trait::async_trait;
use ports::{StoreError, Wakeup, Wakeups};
use tokio::sync::mpsc;

/// The sending end.
#[derive(Debug, Clone)]
pub struct ChannelWakeups(mpsc::UnboundedSender<Wakeup>);

/// The receiving end.
pub type WakeupReceiver = mpsc::UnboundedReceiver<Wakeup>;

/// A channel for wake-ups. It is unbounded, and yet small: a wake-up is 24 bytes, and each stands for
/// a row that is on disk.
pub fn channel() -> (ChannelWakeups, WakeupReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (ChannelWakeups(sender), receiver)
}

fn closed<T>(_: T) -> StoreError {
    StoreError::unavailable("the wake-up channel", "it is closed")
}

#[async_trait]
impl Wakeups for ChannelWakeups {
    async fn wake(&self, wakeup: Wakeup, delay: Duration) -> Result<(), StoreError> {
        if delay.is_zero() {
            return self.0.send(wakeup).map_err(closed);
        }
        let sender = self.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = sender.send(wakeup);
        });
        Ok(())
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
            assert_eq!(receiver.recv().await, Some(expected));
        }
    }
}
