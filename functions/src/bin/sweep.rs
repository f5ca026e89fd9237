//! The schedule: every minute, finds what is due and ends what has outlived its time.

use functions::Port::{Contents, FetchQueue, PackageQueue, Requests, SeedQueue};
use functions::{Backend, Error, scheduled};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend = Backend::load(&[Requests, Contents, FetchQueue, PackageQueue, SeedQueue]).await?;
    let (sweep, contents, clock) = &(backend.sweep(), backend.contents(), backend.clock.clone());
    scheduled(|| async move {
        sweep.run().await?;
        contents.sweep_staging(clock.now()).await?;
        Ok(())
    })
    .await
}
