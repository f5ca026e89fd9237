//! `GET /v1/requests/{id}/torrent`.

use proxytorrent_functions::port::{GUARDS, REQUESTS, TORRENTS};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | TORRENTS | GUARDS }>(endpoints::get_torrent()).await
}
