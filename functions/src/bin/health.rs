//! `GET /v1/health`.

use proxytorrent_functions::port::{CONTENTS, FETCH_QUEUE, REQUESTS};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | CONTENTS | FETCH_QUEUE }>(endpoints::health()).await
}
