//! `proxytorrent status`: prints a request as JSON.

use super::Target;
use crate::client::Client;
use crate::error::CommandError;
use crate::output::print;

pub(crate) async fn run(target: Target) -> Result<(), CommandError> {
    let request = Client::new(target.server)?.get_json(target.id).await?;
    print(format_args!("{request:#}"))
}
