//! `proxytorrent get`: fetches URLs, saves the `.torrent` files and prints the magnet links.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{RequestId, TorrentFormat};
use serde_json::{Value, json};
use url::Url;

use super::{content, interrupted};
use crate::client::{Client, Server, parse_url};
use crate::error::CommandError;
use crate::output::{file_name, print, save_torrent};
use crate::progress::Display;
use crate::wait::Waiter;

const EXAMPLES: &str = "Examples:
  proxytorrent get https://example.org/report.pdf
  proxytorrent get --keep 7d -o torrents https://example.org/a.iso https://example.org/b.iso
  proxytorrent get --content -o downloads https://example.org/report.pdf
  proxytorrent get --magnet https://example.org/report.pdf | head -1
  proxytorrent get --header 'Accept-Language: de' https://example.org/
  proxytorrent get --no-wait https://example.org/large.iso

The server decides how large a content may be and which types it may have (`proxytorrent config`: FETCHER__MAX_SIZE,
FETCHER__MIME_WHITELIST).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(crate) struct Arguments {
    /// What to fetch: http or https URLs
    #[arg(value_name = "URL", value_parser = parse_url, required = true)]
    urls: Vec<Url>,
    /// The folder to save the .torrent files in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Print the ids of the requests and do not wait for them
    #[arg(long, conflicts_with = "output")]
    no_wait: bool,
    /// Save the content, too
    #[arg(long, conflicts_with_all = ["no_wait", "magnet"])]
    content: bool,
    /// Print the magnet links and save no file
    #[arg(long, conflicts_with_all = ["no_wait", "output"])]
    magnet: bool,
    /// Print each ready request as a line of JSON, with its magnet link and the files that were saved
    #[arg(long, conflicts_with = "no_wait")]
    json: bool,
    /// A header for the origin, such as `Accept-Language: de`; one option for each header
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// v1 or hybrid [default: the server's]
    #[arg(long)]
    format: Option<TorrentFormat>,
    /// How long identical requests reuse the content, such as 1h; 0 never [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    ttl: Option<u64>,
    /// How long the content is stored and seeded, such as 30d; 0 until cancelled [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    keep: Option<u64>,
    /// The SHA-256 that the content must have; only with one URL
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
    let time = text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(text)).ok();
    // Less than a second would become 0, which has another meaning.
    let time = time.filter(|time| time.is_zero() || time.as_secs() > 0);
    let refused = || "not a time: use seconds, or a value such as 90s, 15m, 2h or 30d".to_owned();
    time.map(|time| time.as_secs()).ok_or_else(refused)
}

/// Returns the name and the value of a header.
fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("it has no colon: write NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl Arguments {
    fn body(&self, url: &Url) -> Value {
        let mut body = json!({ "url": url });
        let headers: BTreeMap<_, _> = self.header.iter().cloned().collect();
        let fields = [
            ("headers", (!headers.is_empty()).then(|| json!(headers))),
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
    let mut names = HashSet::new();
    if let Some((name, _)) = arguments.header.iter().find(|(name, _)| !names.insert(name.to_ascii_lowercase())) {
        return Err(CommandError::Start(format!(
            "--header {name} is given twice: write all values in one, with commas"
        )));
    }
    if arguments.sha256.is_some() && arguments.urls.len() > 1 {
        return Err(CommandError::start("--sha256 is the hash of one content: give one URL"));
    }
    let client = Client::new(arguments.server.clone())?;
    if !arguments.no_wait && !arguments.magnet {
        check_folder(&arguments.output)?;
    }
    let run = Run { waiter: Waiter::new(&client), client: &client, unfinished: RefCell::default() };
    tokio::select! {
        done = run.get(&arguments) => done,
        error = interrupted() => Err(run.interrupted(error)),
    }
}

/// Fails before anything is fetched if no file can be written to the folder, which is created if necessary.
fn check_folder(folder: &Path) -> Result<(), CommandError> {
    let written = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    written.map(drop).map_err(|source| CommandError::Write { path: folder.to_owned(), source })
}

/// The requests of one run.
struct Run<'a> {
    client: &'a Client,
    waiter: Waiter<'a>,
    /// The ids of the requests that are not saved and have not failed.
    unfinished: RefCell<Vec<RequestId>>,
}

impl Run<'_> {
    /// Creates the requests and, unless `no_wait`, saves their torrents. A request that fails does not stop the others.
    async fn get(&self, arguments: &Arguments) -> Result<(), CommandError> {
        let mut seen = HashSet::new();
        let urls: Vec<_> = arguments.urls.iter().filter(|url| seen.insert(*url)).collect();
        let mut failures = Failures { alone: urls.len() == 1, all: urls.len(), count: 0, last: None };
        let mut created = vec![];
        for url in urls {
            match self.client.create(&arguments.body(url)).await {
                Ok(id) if arguments.no_wait => print(id)?,
                Ok(id) => {
                    eprintln!("request {id}");
                    self.unfinished.borrow_mut().push(id);
                    created.push((url, id));
                }
                Err(error) => failures.add(url, error),
            }
        }
        for (url, id) in created {
            let saved = self.save(id, arguments).await;
            self.unfinished.borrow_mut().retain(|one| *one != id);
            if let Err(error) = saved {
                failures.add(url, error);
            }
        }
        failures.result()
    }

    /// Adds to the error of an interrupt what happens to the requests.
    fn interrupted(&self, error: CommandError) -> CommandError {
        let ids: Vec<_> = self.unfinished.borrow().iter().map(ToString::to_string).collect();
        match error {
            CommandError::Interrupted { code, .. } if !ids.is_empty() => {
                let what = format!(
                    "interrupted; the server continues {}: `proxytorrent status ID` shows a request, `proxytorrent \
                     cancel ID` cancels it",
                    ids.join(", ")
                );
                CommandError::Interrupted { what, code }
            }
            error => error,
        }
    }

    /// Waits until a request is ready, saves what is wanted and prints it.
    async fn save(&self, id: RequestId, arguments: &Arguments) -> Result<(), CommandError> {
        let mut display = Display::new();
        let request = self.waiter.wait(id, &mut display).await;
        display.finish();
        let request = request?;
        let mut files = vec![];
        if !arguments.magnet {
            let torrent = self.waiter.patiently(None, async || self.client.torrent(id).await).await?;
            let name = file_name(request.file_name.as_deref());
            files.push(("torrent_file", save_torrent(&arguments.output, &name, &torrent)?));
        }
        if arguments.content {
            files.push(("content_file", content::save(&self.waiter, &request, &arguments.output).await?));
        }
        let link = self.waiter.patiently(None, async || self.client.magnet(id).await).await?;
        if arguments.json {
            let mut row = self.waiter.patiently(None, async || self.client.get_json(id).await).await?;
            row["magnet_link"] = json!(link);
            for (field, path) in files {
                row[field] = json!(path.to_string_lossy());
            }
            return print(row);
        }
        for (_, path) in files {
            eprintln!("saved {} ({} bytes of content)", path.display(), request.content_size.unwrap_or_default());
        }
        print(link)
    }
}

/// The failures of a run. Those of several URLs are printed at once.
struct Failures {
    alone: bool,
    all: usize,
    count: usize,
    last: Option<CommandError>,
}

impl Failures {
    /// Adds the failure of a URL.
    fn add(&mut self, url: &Url, error: CommandError) {
        if !self.alone {
            eprintln!("proxytorrent: {url}: {error}");
        }
        self.count += 1;
        self.last = Some(error);
    }

    /// Returns the error of the run: that of the only URL, or how many have failed.
    fn result(self) -> Result<(), CommandError> {
        match self.last {
            None => Ok(()),
            Some(error) if self.alone => Err(error),
            Some(error) => Err(CommandError::Several { count: self.count, all: self.all, code: error.exit_code() }),
        }
    }
}
