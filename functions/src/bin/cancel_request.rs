//! `DELETE /v1/requests/{id}`.

use functions::Port::{Guards, PackageQueue, Requests};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::cancel_request(), &[Requests, Guards, PackageQueue]).await
}
