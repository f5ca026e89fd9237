//! The package queue: makes torrents, and lets go of what ended requests held.

use functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, TORRENTS};
use functions::{Backend, Error, Part, consume};
use ports::Wakeup;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend =
        Backend::load::<{ REQUESTS | TORRENTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }>(Part::Rest)
            .await?;
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
