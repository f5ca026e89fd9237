//! `GET /announce` and `GET /scrape`.

use functions::port::{SWARM, TORRENTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ TORRENTS | SWARM }>(endpoints::tracker()).await
}
