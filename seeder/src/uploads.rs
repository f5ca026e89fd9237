//! Upload counters of the torrents.

use std::collections::HashMap;
use std::sync::Arc;

use domain::InfoHash;
use futures::StreamExt;
use ports::{Statistics, Transferred};
use tracing::warn;

/// The most counters that are saved at once.
const AT_ONCE: usize = 32;

/// The bytes that were uploaded of each torrent and are not saved yet.
pub(crate) struct Uploads {
    statistics: Arc<dyn Statistics>,
    /// The bytes since each torrent was added to the session.
    counted: HashMap<InfoHash, u64>,
    unsaved: HashMap<InfoHash, u64>,
}

impl Uploads {
    pub fn new(statistics: Arc<dyn Statistics>) -> Self {
        Self { statistics, counted: HashMap::new(), unsaved: HashMap::new() }
    }

    /// Takes the counter of a torrent: the bytes that were uploaded since it was added to the session.
    pub fn count(&mut self, infohash: InfoHash, uploaded: u64) {
        if uploaded == 0 {
            return;
        }
        let before = self.counted.insert(infohash, uploaded).unwrap_or_default();
        // The counter starts again if the torrent was removed and added.
        let more = uploaded.checked_sub(before).unwrap_or(uploaded);
        if more > 0 {
            *self.unsaved.entry(infohash).or_default() += more;
        }
    }

    /// Forgets the counter of a removed torrent, after what it has counted is saved.
    pub fn removed(&mut self, infohash: InfoHash) {
        self.counted.remove(&infohash);
    }

    /// Saves what was uploaded since the last call. What cannot be saved is kept for the next call.
    pub async fn save(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        let statistics = &self.statistics;
        let saves = unsaved.into_iter().map(|(infohash, uploaded_bytes)| async move {
            let more = Transferred { uploaded_bytes, completed: 0 };
            statistics.add(infohash, more).await.map_err(|error| (infohash, uploaded_bytes, error))
        });
        let results: Vec<_> = futures::stream::iter(saves).buffer_unordered(AT_ONCE).collect().await;
        for (infohash, uploaded_bytes, error) in results.into_iter().filter_map(Result::err) {
            warn!(%infohash, uploaded_bytes, %error, "upload counter not saved, trying again later");
            *self.unsaved.entry(infohash).or_default() += uploaded_bytes;
        }
    }
}
