//! The package queue: makes torrents, and lets go of what ended requests held.

use functions::Port::{Contents, FetchQueue, PackageQueue, Requests, SeedQueue, Torrents};
use functions::{Backend, Error, consume};
use ports::Wakeup;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend = Backend::load(&[Requests, Torrents, Contents, FetchQueue, PackageQueue, SeedQueue]).await?;
    let (package, release) = &(backend.package(), backend.release());
    consume(|wakeup, _| async move {
        match wakeup {
            Wakeup::Package(id) => drop(package.run(id).await?),
            Wakeup::Release(id) => drop(release.run(id).await?),
            _ => {}
        }
        Ok(())
    })
    .await
}
