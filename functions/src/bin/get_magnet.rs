//! `GET /v1/requests/{id}/magnet`.

use proxytorrent_functions::port::{GUARDS, REQUESTS, SEEDERS, TORRENTS};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | TORRENTS | GUARDS | SEEDERS }>(endpoints::get_magnet()).await
}
