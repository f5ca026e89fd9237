//! The schedule: every minute, finds what is due, ends what has outlived its time, and looks for what was left.

use functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, TORRENTS};
use functions::{Backend, Error, Part, scheduled};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend =
        Backend::load::<{ REQUESTS | TORRENTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }>(Part::Rest)
            .await?;
    let backend = &backend;
    scheduled(|| async move {
        backend.sweep().run().await?;
        backend.reconcile().run().await?;
        Ok(())
    })
    .await
}
