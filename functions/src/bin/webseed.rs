//! `GET /webseed/{id}/{key}`.

use proxytorrent_functions::port::{CONTENTS, REQUESTS};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | CONTENTS }>(endpoints::webseed()).await
}
