//! The schedule: every minute, finds what is due and ends what has outlived its time.

use std::time::{Duration, SystemTime};

use domain::Timestamp;
use functions::Port::{Contents, FetchQueue, PackageQueue, Requests, SeedQueue};
use functions::{Backend, Error, scheduled};

/// No fetch runs for so long: what was staged before that was left by one that was killed.
const STAGED: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend = Backend::load(&[Requests, Contents, FetchQueue, PackageQueue, SeedQueue]).await?;
    let (sweep, contents) = &(backend.sweep(), backend.contents());
    scheduled(|| async move {
        sweep.run().await?;
        contents.sweep_staging(Timestamp::from(SystemTime::now()) - STAGED).await?;
        Ok(())
    })
    .await
}
