//! The URLs in torrent files and magnet links: trackers and webseeds.

use std::sync::Arc;

use domain::{FetchRequest, InfoHash};
use metainfo::MetainfoExtras;
use ports::{Clock, Reservations, StoreError, Torrents};
use url::Url;

use crate::passkey::Passkeys;

/// The maker of tracker URLs, webseed URLs, and the `.torrent` files that contain them.
pub struct TorrentLinks {
    pub(crate) passkeys: Arc<Passkeys>,
    pub(crate) guards: Arc<dyn Reservations>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) torrents: Arc<dyn Torrents>,
    /// The base of the built-in tracker's URL.
    pub(crate) public_url: Url,
    /// An additional tracker (`TORRENT__ANNOUNCE_URL`).
    pub(crate) announce_url: Option<Url>,
    /// The base of webseed URLs; `None`: torrents name none (`TORRENT__WEBSEED`).
    pub(crate) webseed_base: Option<Url>,
}

impl TorrentLinks {
    /// Returns the tracker URLs of a request's torrent: the built-in tracker with a passkey for this request, and the
    /// additional one.
    pub(crate) async fn trackers(&self, row: &FetchRequest, infohash: InfoHash) -> Result<Vec<String>, StoreError> {
        let base = self.public_url.as_str().trim_end_matches('/');
        let passkey = self.passkeys.of(&*self.guards, self.clock.now(), row, infohash).await?;
        let own = format!("{base}/announce?passkey={passkey}");
        Ok(std::iter::once(own).chain(self.announce_url.as_ref().map(ToString::to_string)).collect())
    }

    /// Returns the webseed URL of a request's torrent, if there is one.
    pub(crate) fn webseeds(&self, row: &FetchRequest) -> Vec<String> {
        let (id, key) = (row.id, self.passkeys.of_content(row.id));
        let url = |base: &Url| format!("{}/webseed/{id}/{key}", base.as_str().trim_end_matches('/'));
        self.webseed_base.as_ref().filter(|_| row.spec.webseed).map(url).into_iter().collect()
    }

    /// Whether torrents name a webseed, unless their request has it off.
    pub fn names_webseed(&self) -> bool {
        self.webseed_base.is_some()
    }

    /// Returns the `.torrent` file of a ready request, as its owner gets it; `None` if the torrent no longer exists.
    pub async fn torrent_file(&self, row: &FetchRequest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(infohash) = row.infohash else { return Ok(None) };
        let Some(metainfo) = self.torrents.metainfo_file(infohash).await? else { return Ok(None) };
        let extras = MetainfoExtras {
            trackers: self.trackers(row, infohash).await?,
            webseeds: self.webseeds(row),
            ..MetainfoExtras::default()
        };
        extras.apply(&metainfo).map(Some).map_err(|error| StoreError::unavailable("the torrent store", error))
    }
}

impl std::fmt::Debug for TorrentLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorrentLinks").field("public_url", &self.public_url.as_str()).finish_non_exhaustive()
    }
}
