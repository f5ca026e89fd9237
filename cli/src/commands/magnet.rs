//! `proxytorrent magnet`: a ready request's magnet link.

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
    println!("{}", Client::new(arguments.server)?.magnet(&arguments.id).await?);
    Ok(())
}
