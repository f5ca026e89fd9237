//! The fetch queue: fetches contents and delivers webhooks.

use ports::Task;
use proxytorrent_functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS};
use proxytorrent_functions::{Backend, Error, Role, consume};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend = Backend::load::<{ REQUESTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE }>(Role::Fetcher).await?;
    let (fetch, notify) = &backend.fetch()?;
    consume(|task, stopping| async move {
        match (task, notify) {
            (Task::Fetch(id), _) => drop(fetch.run(id, &stopping).await?),
            (Task::Notify(id), Some(notify)) => drop(notify.run(id).await?),
            _ => {}
        }
        Ok(())
    })
    .await
}
