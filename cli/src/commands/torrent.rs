//! `proxytorrent torrent`: saves the `.torrent` file of a ready request.

use super::{SaveTarget, Target};
use crate::client::Client;
use crate::error::CommandError;
use crate::output::{file_name, print, save_torrent};

pub(crate) async fn run(arguments: SaveTarget) -> Result<(), CommandError> {
    let Target { id, server } = arguments.target;
    let client = Client::new(server)?;
    let torrent = client.torrent(id).await?;
    let request = client.get(id).await?;
    let name = file_name(request.file_name.as_deref());
    print(save_torrent(&arguments.output, &name, &torrent)?.display())
}
