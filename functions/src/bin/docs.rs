//! `GET /docs/` and `GET /openapi.json`.

use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::docs(), &[]).await
}
