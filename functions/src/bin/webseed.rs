//! `GET /webseed/{id}/{key}`.

use functions::port::{CONTENTS, REQUESTS};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | CONTENTS }>(endpoints::webseed()).await
}
