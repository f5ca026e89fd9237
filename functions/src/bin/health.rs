//! `GET /v1/health`.

use functions::port::{CONTENTS, FETCH_QUEUE, REQUESTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | CONTENTS | FETCH_QUEUE }>(endpoints::health()).await
}
