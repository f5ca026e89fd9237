//! The schedule, every minute: sweep and orphan collection.

use pipeline::{CollectOrphans, Sweep};
use proxytorrent_functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, TORRENTS};
use proxytorrent_functions::{Backend, Error, ORPHAN_INTERVAL, Role, SWEEP_LIMIT, scheduled};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend =
        Backend::load::<{ REQUESTS | TORRENTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }>(Role::Worker)
            .await?;
    let (sweep, orphans) =
        &(Sweep::new(&backend.stores, SWEEP_LIMIT), CollectOrphans::new(&backend.stores, ORPHAN_INTERVAL));
    scheduled(|| async move {
        sweep.run().await?;
        orphans.run().await?;
        Ok(())
    })
    .await
}
