//! Who waits for a row to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::RequestId;
use tokio::sync::watch;

/// The waiters by row. Rows that nobody waits for cost a look into a map.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<RequestId, watch::Sender<()>>>>);

/// A waiter. What changes from now on is not missed.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: RequestId,
    changes: watch::Receiver<()>,
    all: Watchers,
}

impl Watchers {
    pub fn watch(&self, id: RequestId) -> Watcher {
        let changes = self.lock().entry(id).or_insert_with(|| watch::channel(()).0).subscribe();
        Watcher { id, changes, all: self.clone() }
    }

    pub fn changed(&self, id: RequestId) {
        if let Some(sender) = self.lock().get(&id) {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Returns when the row has changed since the last call, or since the watcher was made.
    pub async fn changed(&mut self) {
        // The sender lives as long as there is a watcher.
        let _ = self.changes.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if all.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            all.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_missed_and_nothing_is_left() {
        let (watchers, id) = (Watchers::default(), RequestId::new());
        let (mut one, mut other) = (watchers.watch(id), watchers.watch(id));
        watchers.changed(RequestId::new());
        watchers.changed(id);
        one.changed().await;
        drop(one);
        other.changed().await;
        drop(other);
        assert!(watchers.lock().is_empty());
    }
}
