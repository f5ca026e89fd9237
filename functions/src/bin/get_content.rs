//! `GET /v1/requests/{id}/content`.

use proxytorrent_functions::port::{CONTENTS, GUARDS, REQUESTS, TORRENTS};
use proxytorrent_functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve::<{ REQUESTS | TORRENTS | CONTENTS | GUARDS }>(endpoints::get_content()).await
}
