//! `proxytorrent cancel`: cancels a request.

use super::Target;
use crate::client::Client;
use crate::error::CommandError;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    Client::new(target.server)?.cancel(target.id).await
}
