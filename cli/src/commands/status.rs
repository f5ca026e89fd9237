//! `proxytorrent status`: where a request stands.

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
    let request = Client::new(arguments.server)?.get_json(&arguments.id).await?;
    println!("{request:#}");
    Ok(())
}
