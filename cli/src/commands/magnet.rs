//! `proxytorrent magnet`: prints the magnet link of a ready request.

use super::Target;
use crate::client::Client;
use crate::error::CommandError;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    println!("{}", Client::new(target.server)?.magnet(&target.id).await?);
    Ok(())
}
