//! `GET /v1/requests/{id}/content`.

use functions::port::{CONTENTS, GUARDS, REQUESTS, TORRENTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | TORRENTS | CONTENTS | GUARDS }>(endpoints::get_content()).await
}
