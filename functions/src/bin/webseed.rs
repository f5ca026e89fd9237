//! `GET /webseed/{id}/{key}`.

use functions::Port::{Contents, Requests};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::webseed(), &[Requests, Contents]).await
}
