//! `proxytorrent magnet`: a ready request's magnet link.

use super::{CommandError, Target};
use crate::client::Client;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    println!("{}", Client::new(target.server)?.magnet(&target.id).await?);
    Ok(())
}
