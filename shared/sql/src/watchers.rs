//! Watchers: notification of callers that wait for a row to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::RequestId;
use tokio::sync::watch;

/// The watchers by row. A row without watchers costs one map lookup per change.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<RequestId, watch::Sender<()>>>>);

/// A watcher of one row. It misses no change after its creation.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: RequestId,
    changes: watch::Receiver<()>,
    all: Watchers,
}

impl Watchers {
    /// Creates a watcher of a row.
    pub(crate) fn watch(&self, id: RequestId) -> Watcher {
        let changes = self.lock().entry(id).or_insert_with(|| watch::channel(()).0).subscribe();
        Watcher { id, changes, all: self.clone() }
    }

    /// Notifies the watchers of a row.
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
    /// Waits until the row has changed since the last call, or since the creation of the watcher.
    pub async fn changed(&mut self) {
        // Cannot fail: the sender exists as long as there is a watcher.
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
    async fn no_change_is_missed_and_the_last_watcher_removes_the_entry() {
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
