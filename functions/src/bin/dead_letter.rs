//! The dead-letter queue of fetches and packages: fails the requests of tasks that never succeeded.

use pipeline::DeadLetter;
use proxytorrent_functions::port::{FETCH_QUEUE, REQUESTS};
use proxytorrent_functions::{Backend, Error, Role, consume};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let backend = Backend::load::<{ REQUESTS | FETCH_QUEUE }>(Role::Worker).await?;
    let dead_letter = &DeadLetter::new(&backend.stores);
    consume(|task, _| async move {
        dead_letter.run(task).await?;
        Ok(())
    })
    .await
}
