//! `DELETE /v1/requests/{id}`.

use proxytorrent_functions::port::{GUARDS, PACKAGE_QUEUE, REQUESTS};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | GUARDS | PACKAGE_QUEUE }>(endpoints::cancel_request()).await
}
