//! `GET /announce` and `GET /scrape`.

use functions::port::{SEED_QUEUE, SWARM, TORRENTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ TORRENTS | SWARM | SEED_QUEUE }>(endpoints::tracker()).await
}
