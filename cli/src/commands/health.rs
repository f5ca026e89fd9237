//! `proxytorrent health`: prints the health of the server.

use crate::client::{Client, Server};
use crate::error::CommandError;
use crate::output::print;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: Server,
}

/// Prints the health as JSON. Returns an error if the server is unhealthy.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let health = Client::new(arguments.server)?.health().await?;
    print(format_args!("{health:#}"))?;
    if health["status"] == "healthy" { Ok(()) } else { Err(CommandError::Failed("the server is unhealthy".into())) }
}
