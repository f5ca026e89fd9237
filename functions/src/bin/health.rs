//! `GET /v1/health`.

use functions::Port::{Contents, FetchQueue, Requests};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::health(), &[Requests, Contents, FetchQueue]).await
}
