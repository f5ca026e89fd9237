//! `GET /v1/requests`.

use functions::Port::{Guards, Requests};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::list_requests(), &[Requests, Guards]).await
}
