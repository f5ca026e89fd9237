//! Tracker and webseed URLs of a torrent, and the `Content-Disposition` of a download.

use domain::{FetchRequest, RequestId, Torrent};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
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
pub(super) fn webseeds(api: &Api, id: RequestId) -> Vec<String> {
    let url =
        |base: &Url| format!("{}/webseed/{id}/{}", base.as_str().trim_end_matches('/'), api.passkeys.of_content(id));
    api.torrent.webseed_base(&api.public_url).map(url).into_iter().collect()
}

/// Returns a `Content-Disposition` value with this file name (RFC 6266), and an ASCII name for old clients.
pub(super) fn disposition(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' }).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_has_an_ascii_name_and_a_utf8_name() {
        assert_eq!(
            disposition("a \"ü\".torrent"),
            "attachment; filename=\"a ___.torrent\"; filename*=UTF-8''a%20%22%C3%BC%22%2Etorrent"
        );
    }
}
