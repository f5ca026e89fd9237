//! `GET /v1/requests/{id}`.

use proxytorrent_functions::port::{GUARDS, REQUESTS, STATISTICS, SWARM};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS | STATISTICS | SWARM }>(endpoints::get_request()).await
}
