//! `POST /v1/requests`.

use functions::port::{FETCH_QUEUE, GUARDS, REQUESTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS | FETCH_QUEUE }>(endpoints::create_request()).await
}
