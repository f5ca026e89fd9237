//! `proxytorrent get`: fetches a URL, saves the `.torrent` file and prints the magnet link.

use std::path::PathBuf;
use std::time::Duration;

use domain::{Status, TorrentFormat};
use serde_json::json;
use url::Url;

use super::save_torrent;
use crate::client::{Client, Request, Server, parse_url};
use crate::error::CommandError;
use crate::progress::Display;

/// The first and the longest pause between polls: short at first, for small contents.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to fetch: an http or https URL
    #[arg(value_parser = parse_url)]
    url: Url,
    /// The folder to save the .torrent file in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// v1 or hybrid [default: the server's]
    #[arg(long)]
    format: Option<TorrentFormat>,
    /// Seconds for which identical requests reuse the content [default: the server's]
    #[arg(long)]
    ttl: Option<u32>,
    /// The SHA-256 that the content must have
    #[arg(long)]
    sha256: Option<domain::ContentHash>,
    /// Name no webseed in the torrent
    #[arg(long)]
    no_webseed: bool,
    #[command(flatten)]
    server: Server,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let client = Client::new(arguments.server)?;
    let mut body = json!({ "url": arguments.url });
    if let Some(format) = arguments.format {
        body["format"] = json!(format);
    }
    if let Some(ttl) = arguments.ttl {
        body["ttl"] = json!(ttl);
    }
    if let Some(sha256) = arguments.sha256 {
        body["sha256"] = json!(sha256);
    }
    if arguments.no_webseed {
        body["webseed"] = json!(false);
    }
    let id = client.create(&body).await?;
    eprintln!("request {id}");
    let request = wait(&client, &id).await?;
    let name = request.file_name.as_deref().unwrap_or("download");
    let path = save_torrent(&arguments.output, name, &client.torrent(&id).await?)?;
    eprintln!("saved {} ({} bytes of content)", path.display(), request.content_size.unwrap_or_default());
    println!("{}", client.magnet(&id).await?);
    Ok(())
}

/// Waits until the request is ready; an error if it ends otherwise.
async fn wait(client: &Client, id: &str) -> Result<Request, CommandError> {
    let mut display = Display::new();
    let mut pause = FIRST_WAIT;
    loop {
        let request = client.get(id).await?;
        display.show(&request);
        let why = || request.error_message.clone().unwrap_or_default();
        match request.status {
            Status::Ready => {
                display.finish();
                return Ok(request);
            }
            Status::Failed => {
                display.finish();
                let code = request.error_code.as_deref().unwrap_or("unknown");
                return Err(CommandError::Failed(format!("request {} failed: {} ({code})", request.id, why())));
            }
            Status::Cancelled | Status::Expired => {
                display.finish();
                return Err(CommandError::Failed(format!("request {} is {}", request.id, request.status)));
            }
            Status::Queued | Status::Fetching | Status::Packaging | Status::Seeding => {}
        }
        // The interval of the polls.
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_WAIT);
    }
}
