//! `proxytorrent torrent`: a ready request's `.torrent` file.

use std::path::PathBuf;

use super::{CommandError, save_torrent};
use crate::client::{Client, Server};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The request's id
    id: String,
    /// The folder to save the .torrent file in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    server: Server,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let client = Client::new(arguments.server)?;
    let torrent = client.torrent(&arguments.id).await?;
    let request = client.get(&arguments.id).await?;
    let path = save_torrent(&arguments.output, request.file_name.as_deref().unwrap_or("download"), &torrent)?;
    println!("{}", path.display());
    Ok(())
}
