//! `proxytorrent cancel`: stops a request.

use super::Target;
use crate::error::CommandError;
use crate::client::Client;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    Client::new(target.server)?.cancel(&target.id).await
}
