//! `proxytorrent cancel`: stops a request.

use super::CommandError;
use crate::client::{Client, Server};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The request's id
    id: String,
    #[command(flatten)]
    server: Server,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    Client::new(arguments.server)?.cancel(&arguments.id).await
}
