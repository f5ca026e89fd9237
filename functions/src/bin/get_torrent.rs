//! `GET /v1/requests/{id}/torrent`.

use functions::Port::{Guards, Requests, Torrents};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::get_torrent(), &[Requests, Torrents, Guards]).await
}
