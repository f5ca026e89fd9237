//! `proxytorrent get`: fetches URLs, saves the `.torrent` files and prints the magnet links.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::{Status, TorrentFormat};
use serde_json::{Value, json};
use url::Url;

use super::save_torrent;
use crate::client::{Client, Request, Server, parse_url};
use crate::error::CommandError;
use crate::progress::Display;

/// The first and the longest pause between polls: short at first, for small contents.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a server may be out of reach, such as during a restart, while a request is waited for.
const OUTAGE: Duration = Duration::from_secs(120);

const EXAMPLES: &str = "Examples:
  proxytorrent get https://example.org/report.pdf
  proxytorrent get --keep 7d -o torrents https://example.org/a.iso https://example.org/b.iso
  proxytorrent get --no-wait https://example.org/large.iso

The server decides how large a content may be and which types it may have (`proxytorrent config`: FETCHER__MAX_SIZE,
FETCHER__MIME_WHITELIST).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to fetch: http or https URLs
    #[arg(value_name = "URL", value_parser = parse_url, required = true)]
    urls: Vec<Url>,
    /// The folder to save the .torrent files in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Print the ids of the requests and do not wait for them
    #[arg(long)]
    no_wait: bool,
    /// v1 or hybrid [default: the server's]
    #[arg(long)]
    format: Option<TorrentFormat>,
    /// How long identical requests reuse the content, such as 1h; 0 never [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    ttl: Option<u64>,
    /// How long the content is stored and seeded, such as 30d; 0 until cancelled [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    keep: Option<u64>,
    /// The SHA-256 that the content must have
    #[arg(long)]
    sha256: Option<domain::ContentHash>,
    /// Name no webseed in the torrent
    #[arg(long)]
    no_webseed: bool,
    #[command(flatten)]
    server: Server,
}

/// Returns the seconds of a time such as `90`, `90s`, `15m`, `2h` or `30d`.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse().or_else(|_| humantime::parse_duration(text).map(|time| time.as_secs()));
    seconds.map_err(|_| "it is no time: give a number of seconds, or such as 90s, 15m, 2h or 30d".to_owned())
}

impl Arguments {
    fn body(&self, url: &Url) -> Value {
        let mut body = json!({ "url": url });
        let fields = [
            ("format", self.format.map(|format| json!(format))),
            ("ttl", self.ttl.map(|ttl| json!(ttl))),
            ("keep", self.keep.map(|keep| json!(keep))),
            ("sha256", self.sha256.map(|sha256| json!(sha256))),
            ("webseed", self.no_webseed.then_some(json!(false))),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    if !arguments.no_wait {
        check_folder(&arguments.output)?;
    }
    let client = Client::new(arguments.server.clone())?;
    let mut ids = vec![];
    for url in &arguments.urls {
        let id = client.create(&arguments.body(url)).await?;
        if arguments.no_wait {
            println!("{id}");
        } else {
            eprintln!("request {id}");
        }
        ids.push(id);
    }
    if arguments.no_wait {
        return Ok(());
    }
    tokio::select! {
        saved = save_all(&client, &ids, &arguments.output) => saved,
        _ = tokio::signal::ctrl_c() => Err(CommandError::Interrupted(format!(
            "interrupted; the server continues {}: `proxytorrent status ID` shows a request, `proxytorrent cancel ID` \
             cancels it",
            ids.join(", ")
        ))),
    }
}

/// Fails before anything is fetched if no file can be written to the folder, which is created if necessary.
fn check_folder(folder: &Path) -> Result<(), CommandError> {
    let written = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    written.map(drop).map_err(|source| CommandError::Write { path: folder.to_owned(), source })
}

/// Waits for the requests, saves their torrents and prints their magnet links. A request that fails does not stop the
/// others; returns the last error.
async fn save_all(client: &Client, ids: &[String], folder: &Path) -> Result<(), CommandError> {
    let mut failed = None;
    for id in ids {
        if let Err(error) = save(client, id, folder).await
            && let Some(earlier) = failed.replace(error)
        {
            eprintln!("proxytorrent: {earlier}");
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn save(client: &Client, id: &str, folder: &Path) -> Result<(), CommandError> {
    let request = wait(client, id).await?;
    let name = request.file_name.as_deref().unwrap_or("download");
    let path = save_torrent(folder, name, &client.torrent(id).await?)?;
    eprintln!("saved {} ({} bytes of content)", path.display(), request.content_size.unwrap_or_default());
    println!("{}", client.magnet(id).await?);
    Ok(())
}

/// Waits until the request is ready; an error if it ends otherwise.
async fn wait(client: &Client, id: &str) -> Result<Request, CommandError> {
    let mut display = Display::new();
    let mut pause = FIRST_WAIT;
    let mut unreachable_since: Option<Instant> = None;
    loop {
        let request = match client.get(id).await {
            Ok(request) => request,
            // Such as a server that restarts.
            Err(error @ CommandError::Unreachable(_)) => {
                let since = *unreachable_since.get_or_insert_with(|| {
                    eprintln!("{error}; trying again");
                    Instant::now()
                });
                if since.elapsed() > OUTAGE {
                    return Err(error);
                }
                // Back-off.
                tokio::time::sleep(LONGEST_WAIT).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        unreachable_since = None;
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
