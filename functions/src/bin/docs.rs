//! `GET /docs/` and `GET /openapi.json`.

use proxytorrent_functions::port::NONE;
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<NONE>(endpoints::docs()).await
}
