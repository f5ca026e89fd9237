//! `proxytorrent watch`: follows a request until it is ready or has ended.

use super::{Target, interruptible};
use crate::client::Client;
use crate::error::CommandError;
use crate::output::print;
use crate::progress::Display;
use crate::wait::Waiter;

/// Shows the progress. The error says why the request did not become ready.
pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    let client = Client::new(target.server)?;
    interruptible(async {
        let mut display = Display::new();
        let ended = Waiter::new(&client).wait(target.id, &mut display).await;
        display.finish();
        print(ended?.status)
    })
    .await
}
