//! `DELETE /v1/passkeys`.

use proxytorrent_functions::port::GUARDS;
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ GUARDS }>(endpoints::revoke_passkeys()).await
}
