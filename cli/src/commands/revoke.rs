//! `proxytorrent revoke`: revokes the tracker passkeys of the caller.

use crate::client::{Client, Server};
use crate::error::CommandError;
use crate::output::print;

/// Options of `revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: Server,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    Client::new(arguments.server)?.revoke_passkeys().await?;
    print("revoked: download torrents and magnet links again")
}
