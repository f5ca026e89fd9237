//! `GET /v1/requests/{id}`.

use functions::Port::{Guards, Requests};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::get_request(), &[Requests, Guards]).await
}
