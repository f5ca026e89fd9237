//! `GET /v1/requests/{id}`.

use proxytorrent_functions::port::{GUARDS, REQUESTS, SEEDERS, STATISTICS, SWARM};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS | STATISTICS | SWARM | SEEDERS }>(endpoints::get_request()).await
}
