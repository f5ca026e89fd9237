//! `proxytorrent status`: where a request stands.

use super::Target;
use crate::error::CommandError;
use crate::client::Client;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    let request = Client::new(target.server)?.get_json(&target.id).await?;
    println!("{request:#}");
    Ok(())
}
