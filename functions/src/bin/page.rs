//! `GET /`.

use proxytorrent_functions::port::NONE;
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<NONE>(endpoints::page()).await
}
