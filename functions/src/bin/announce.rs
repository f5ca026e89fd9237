//! `GET /announce` and `GET /scrape`.

use functions::Port::{Swarm, Torrents};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::tracker(), &[Torrents, Swarm]).await
}
