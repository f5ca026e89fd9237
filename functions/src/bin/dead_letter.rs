//! The dead-letter queues: ends the requests whose work never ended.

use functions::port::{FETCH_QUEUE, REQUESTS};
use functions::{Backend, Error, Part, consume};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let backend = Backend::load::<{ REQUESTS | FETCH_QUEUE }>(Part::Rest).await?;
    let give_up = &backend.give_up();
    consume(|wakeup, _| async move {
        give_up.run(wakeup).await?;
        Ok(())
    })
    .await
}
