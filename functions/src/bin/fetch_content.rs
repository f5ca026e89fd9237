//! The fetch queue: fetches contents, and tells the ends of requests.

use functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS};
use functions::{Backend, Error, Part, consume};
use ports::Wakeup;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend = Backend::load::<{ REQUESTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE }>(Part::Fetch).await?;
    let (fetch, notify) = &backend.fetch()?;
    consume(|wakeup, stopping| async move {
        match (wakeup, notify) {
            (Wakeup::Fetch(id), _) => drop(fetch.run(id, &stopping).await?),
            (Wakeup::Notify(id), Some(notify)) => drop(notify.run(id).await?),
            _ => {}
        }
        Ok(())
    })
    .await
}
