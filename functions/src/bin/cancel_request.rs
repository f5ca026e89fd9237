//! `DELETE /v1/requests/{id}`.

use functions::port::{GUARDS, PACKAGE_QUEUE, REQUESTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS | PACKAGE_QUEUE }>(endpoints::cancel_request()).await
}
