//! `POST /v1/requests`.

use functions::Port::{FetchQueue, Guards, Requests};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::create_request(), &[Requests, Guards, FetchQueue]).await
}
