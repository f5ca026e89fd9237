//! `proxytorrent magnet`: prints the magnet link of a ready request.

use super::Target;
use crate::client::Client;
use crate::error::CommandError;
use crate::output::print;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    print(Client::new(target.server)?.magnet(target.id).await?)
}
