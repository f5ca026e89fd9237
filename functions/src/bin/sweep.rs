//! The schedule: every minute, finds what is due and ends what has outlived its time.

use functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE};
use functions::{Backend, Error, scheduled};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend = Backend::load::<{ REQUESTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }>().await?;
    let (sweep, contents, clock) = &(backend.sweep(), backend.contents, backend.clock.clone());
    scheduled(|| async move {
        sweep.run().await?;
        contents.sweep_staging(clock.now()).await?;
        Ok(())
    })
    .await
}
