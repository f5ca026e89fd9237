//! `DELETE /v1/passkeys`.

use functions::port::GUARDS;
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ GUARDS }>(endpoints::revoke_passkeys()).await
}
