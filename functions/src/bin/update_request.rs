//! `PATCH /v1/requests/{id}`.

use functions::port::{GUARDS, REQUESTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS }>(endpoints::update_request()).await
}
