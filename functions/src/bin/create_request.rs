//! `POST /v1/requests`.

use proxytorrent_functions::port::{FETCH_QUEUE, GUARDS, REQUESTS};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS | FETCH_QUEUE }>(endpoints::create_request()).await
}
