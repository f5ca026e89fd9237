//! `proxytorrent torrent`: saves the `.torrent` file of a ready request.

use std::path::PathBuf;

use super::Target;
use crate::client::Client;
use crate::error::CommandError;
use crate::output::{file_name, print, save_torrent};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The folder to save the .torrent file in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let Target { id, server } = arguments.target;
    let client = Client::new(server)?;
    let torrent = client.torrent(id).await?;
    let request = client.get(id).await?;
    let name = file_name(request.file_name.as_deref());
    print(save_torrent(&arguments.output, &name, &torrent)?.display())
}
