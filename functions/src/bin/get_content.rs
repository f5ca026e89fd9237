//! `GET /v1/requests/{id}/content`.

use functions::Port::{Contents, Guards, Requests, Torrents};
use functions::{Error, endpoints, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serve(endpoints::get_content(), &[Requests, Torrents, Contents, Guards]).await
}
