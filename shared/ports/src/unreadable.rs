//! Contents that could not be read, or were damaged.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::ContentHash;
use tokio::sync::Notify;

/// The maximum number of contents that wait for verification after a failed read.
const MOST_UNREADABLE: usize = 1024;

/// The contents that were [reported](crate::Contents::report_unreadable) and have not been verified since.
#[derive(Debug, Default)]
pub struct Unreadable {
    contents: Mutex<HashSet<ContentHash>>,
    added: Notify,
}

impl Unreadable {
    fn contents(&self) -> MutexGuard<'_, HashSet<ContentHash>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a content. If there are too many, it is dropped: the next failed read adds it again.
    pub fn add(&self, content: ContentHash) {
        let mut contents = self.contents();
        if contents.len() < MOST_UNREADABLE && contents.insert(content) {
            self.added.notify_one();
        }
    }

    /// Removes and returns a content. Waits until there is one.
    pub async fn next(&self) -> ContentHash {
        loop {
            let next = self.contents().iter().next().copied();
            if let Some(content) = next {
                self.contents().remove(&content);
                return content;
            }
            self.added.notified().await;
        }
    }
}
