//! `GET /`.

use functions::port::NONE;
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<NONE>(endpoints::page()).await
}
