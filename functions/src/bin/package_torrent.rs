//! The package queue: makes torrents, and releases what ended requests refer to.

use pipeline::{Package, Release};
use ports::Task;
use proxytorrent_functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, TORRENTS};
use proxytorrent_functions::{Backend, Error, Role, consume};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend =
        Backend::load::<{ REQUESTS | TORRENTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }>(Role::Worker)
            .await?;
    let (package, release) = &(Package::new(&backend.stores, &backend.settings), Release::new(&backend.stores));
    consume(|task, _| async move {
        match task {
            Task::Package(id) => drop(package.run(id).await?),
            Task::Release(id) => drop(release.run(id).await?),
            _ => {}
        }
        Ok(())
    })
    .await
}
