//! `GET /announce` and `GET /scrape`.

use proxytorrent_functions::port::{GUARDS, REQUESTS, SEED_QUEUE, SEEDERS, STATISTICS, SWARM};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS | STATISTICS | SWARM | SEED_QUEUE | SEEDERS }>(endpoints::tracker()).await
}
