//! `GET /`.

use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::page(), &[]).await
}
