//! Upload counters of the torrents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::InfoHash;
use futures::StreamExt;
use ports::{Statistics, Transferred};
use tracing::warn;

use crate::lock::lock;

/// The most counters that are saved at once.
const AT_ONCE: usize = 32;

/// The bytes that were uploaded of each torrent since it was added to the session.
pub(crate) struct Uploads {
    counted: HashMap<InfoHash, u64>,
    unsaved: Arc<Unsaved>,
}

impl Uploads {
    pub fn new(statistics: Arc<dyn Statistics>) -> Self {
        let unsaved = Unsaved { statistics, bytes: Mutex::default(), saving: tokio::sync::Mutex::default() };
        Self { counted: HashMap::new(), unsaved: Arc::new(unsaved) }
    }

    /// Takes the counter of a torrent: the bytes that were uploaded since it was added to the session. Returns how many are
    /// new.
    pub fn count(&mut self, infohash: InfoHash, uploaded: u64) -> u64 {
        if uploaded == 0 {
            return 0;
        }
        let before = self.counted.insert(infohash, uploaded).unwrap_or_default();
        // The counter starts again if the torrent was removed and added.
        let more = uploaded.checked_sub(before).unwrap_or(uploaded);
        if more > 0 {
            self.unsaved.add(infohash, more);
        }
        more
    }

    /// Forgets the counter of a removed torrent.
    pub fn removed(&mut self, infohash: InfoHash) {
        self.counted.remove(&infohash);
    }

    /// Returns what is not saved yet, to save it.
    pub fn unsaved(&self) -> Arc<Unsaved> {
        self.unsaved.clone()
    }
}

/// The bytes that are not saved yet.
pub(crate) struct Unsaved {
    statistics: Arc<dyn Statistics>,
    bytes: Mutex<HashMap<InfoHash, u64>>,
    /// Locked during a save.
    saving: tokio::sync::Mutex<()>,
}

impl Unsaved {
    fn add(&self, infohash: InfoHash, bytes: u64) {
        *lock(&self.bytes).entry(infohash).or_default() += bytes;
    }

    /// Saves what was uploaded since the last call. What cannot be saved is kept for the next call.
    pub async fn save(&self) {
        let _saving = self.saving.lock().await;
        let unsaved = std::mem::take(&mut *lock(&self.bytes));
        let saves = unsaved.into_iter().map(|(infohash, uploaded_bytes)| async move {
            let more = Transferred { uploaded_bytes, completed: 0 };
            if let Err(error) = self.statistics.add(infohash, more).await {
                warn!(%infohash, uploaded_bytes, %error, "upload counter not saved, trying again later");
                self.add(infohash, uploaded_bytes);
            }
        });
        futures::stream::iter(saves).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}
