//! The schedule: every minute, finds what is due, ends what has outlived its time, and looks for what was left.

use proxytorrent_functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, TORRENTS};
use proxytorrent_functions::{Backend, Error, Role, scheduled};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend =
        Backend::load::<{ REQUESTS | TORRENTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }>(Role::Worker)
            .await?;
    let backend = &backend;
    scheduled(|| async move {
        backend.sweep().run().await?;
        backend.collect_orphans().run().await?;
        Ok(())
    })
    .await
}
