//! Tracker and webseed URLs of a torrent.

use domain::{FetchRequest, Torrent};
use ports::StoreError;
use url::Url;

use crate::state::Api;

/// Returns the tracker URLs of a request's torrent: the built-in tracker with a passkey for this request, and
/// `TORRENT__ANNOUNCE_URL`.
pub(super) async fn trackers(api: &Api, row: &FetchRequest, torrent: &Torrent) -> Result<Vec<String>, StoreError> {
    let base = api.public_url.as_str().trim_end_matches('/');
    let passkey = api.passkeys.of(&*api.guards, api.clock.now(), row, torrent.infohash).await?;
    let own = format!("{base}/announce?passkey={passkey}");
    Ok(std::iter::once(own).chain(api.torrent.announce_url.as_ref().map(ToString::to_string)).collect())
}

/// Returns the webseed URL of a request's torrent, if there is one (`TORRENT__WEBSEED`).
pub(super) fn webseeds(api: &Api, row: &FetchRequest) -> Vec<String> {
    let (id, key) = (row.id, api.passkeys.of_content(row.id));
    let url = |base: &Url| format!("{}/webseed/{id}/{key}", base.as_str().trim_end_matches('/'));
    api.webseed_base.as_ref().filter(|_| row.spec.webseed).map(url).into_iter().collect()
}
