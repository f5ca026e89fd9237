//! `proxytorrent magnet`: a ready request's magnet link.

use super::Target;
use crate::error::CommandError;
use crate::client::Client;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    println!("{}", Client::new(target.server)?.magnet(&target.id).await?);
    Ok(())
}
