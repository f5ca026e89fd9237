//! The fetch queue: fetches contents and notifies the receivers of requests.

use ports::Task;
use proxytorrent_functions::port::{CONTENTS, FETCH_QUEUE, PACKAGE_QUEUE, REQUESTS};
use proxytorrent_functions::{Backend, Error, Role, consume};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let backend = Backend::load::<{ REQUESTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE }>(Role::Fetcher).await?;
    let (fetch, notify) = &backend.fetch()?;
    consume(|task, stopping| async move {
        match task {
            Task::Fetch(id) => drop(fetch.run(id, &stopping).await?),
            Task::Notify(id) => drop(notify.run(id).await?),
            _ => {}
        }
        Ok(())
    })
    .await
}
