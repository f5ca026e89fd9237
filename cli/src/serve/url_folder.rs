//! The folder that is watched for URLs to fetch (`URL_FOLDER__PATH`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::{Api, IdempotencyKey, Refused, create_for};
use domain::{UserId, shortcut_url, url_lines};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::CommandError;

/// The interval at which the folder is read.
const INTERVAL: Duration = Duration::from_secs(2);

/// For how long a file must not have changed: a program may still be writing it.
const SETTLED: Duration = Duration::from_secs(1);

/// The largest file, in bytes. Its URLs must be requested while their keys are stored, which is a day.
const LARGEST: u64 = 256 << 10;

/// The folder, and the user who owns the requests.
#[derive(Debug)]
pub(super) struct UrlFolder {
    path: PathBuf,
    owner: UserId,
    /// The files whose processing has begun.
    begun: HashMap<PathBuf, Progress>,
}

/// How far a file is processed.
#[derive(Debug)]
struct Progress {
    changed: SystemTime,
    /// The number of URLs that are processed.
    done: usize,
    /// The refused URLs, each below a comment with the reason.
    refused: Vec<String>,
    /// A limit is reached until then.
    not_before: Instant,
}

/// A file with URLs.
struct UrlFile {
    path: PathBuf,
    changed: SystemTime,
    /// The URLs, or what is wrong with the file.
    urls: Result<Vec<String>, String>,
}

impl UrlFolder {
    /// Opens the folder of these settings, if there is one; creates it for its owner only if it does not exist.
    pub fn open(settings: &settings::UrlFolder, api: &Api) -> Result<Option<Self>, CommandError> {
        let Some(path) = &settings.path else { return Ok(None) };
        let refuse = |error: io::Error| CommandError::Start(format!("URL_FOLDER__PATH: cannot be used: {error}"));
        embedded::create_private_folder(path).map_err(refuse)?;
        // Processed files are renamed.
        tempfile::tempfile_in(path).map_err(refuse)?;
        let owner = settings.owner.as_ref().map_or_else(UserId::anonymous, UserId::new);
        if api.authenticator.users().is_some_and(|users| !users.contains(&owner)) {
            let allowed = "allowed: a name in SECURITY__BEARER_TOKENS or SECURITY__HMAC_KEYS";
            return Err(CommandError::Start(format!("URL_FOLDER__OWNER: {owner} is not a user; {allowed}")));
        }
        Ok(Some(Self { path: path.clone(), owner, begun: HashMap::new() }))
    }

    /// Watches the folder until `stop` is cancelled.
    pub async fn watch(mut self, api: Arc<Api>, stop: CancellationToken) {
        let run = async {
            loop {
                let folder = self.path.clone();
                let files = spawn_blocking(move || settled_files(&folder)).await;
                match files.unwrap_or_else(|error| Err(io::Error::other(error))) {
                    Ok(files) => {
                        self.begun.retain(|path, _| files.iter().any(|file| file.path == *path));
                        for file in files {
                            self.process(&api, file).await;
                        }
                    }
                    Err(error) => warn!(%error, "folder of URLs cannot be read"),
                }
                // The interval of the look-ups.
                sleep(INTERVAL).await;
            }
        };
        stop.run_until_cancelled(run).await;
    }

    /// Creates a request for each URL of a file, and renames the file to `NAME.done`. The URLs that are refused are written to
    /// `NAME.failed`. If a limit is reached, the rest is left for later; after a restart, the keys keep the beginning from
    /// being repeated.
    async fn process(&mut self, api: &Api, file: UrlFile) {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let urls = match file.urls {
            Ok(urls) => urls,
            Err(why) => {
                warn!(file = name, why, "file of URLs refused");
                rename(&file.path, "failed");
                return;
            }
        };
        let (changed, now) = (file.changed, Instant::now());
        let new = || Progress { changed, done: 0, refused: vec![], not_before: now };
        let progress = self.begun.entry(file.path.clone()).or_insert_with(new);
        if progress.changed != changed {
            *progress = new();
        }
        if now < progress.not_before {
            return;
        }
        let modified = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        while let Some(url) = urls.get(progress.done) {
            let number = progress.done + 1;
            let id = Sha256::digest(format!("{name}\n{modified}\n{number}\n{url}"));
            let key = IdempotencyKey::internal("url folder", &hex::encode(id));
            match create_for(api, self.owner.clone(), &key, url).await {
                Ok(_) => {}
                Err(Refused { detail, retry_after: Some(wait) }) => {
                    info!(
                        file = name,
                        why = detail,
                        processed = progress.done,
                        urls = urls.len(),
                        "file of URLs waits"
                    );
                    progress.not_before = now + wait;
                    return;
                }
                Err(Refused { detail, .. }) => {
                    warn!(file = name, url.number = number, why = detail, "URL refused");
                    progress.refused.push(format!("# {}\n{url}\n", detail.replace(['\r', '\n'], " ")));
                }
            }
            progress.done += 1;
        }
        if !progress.refused.is_empty()
            && let Err(error) = fs::write(with_suffix(&file.path, "failed"), progress.refused.concat())
        {
            warn!(file = name, %error, "refused URLs cannot be written");
        }
        info!(file = name, urls = urls.len(), "file of URLs processed");
        rename(&file.path, "done");
        self.begun.remove(&file.path);
    }
}

fn rename(path: &Path, suffix: &str) {
    if let Err(error) = fs::rename(path, with_suffix(path, suffix)) {
        warn!(file = %path.display(), %error, "file of URLs cannot be renamed");
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Returns the files with URLs in a folder that have not changed lately, by name.
fn settled_files(folder: &Path) -> io::Result<Vec<UrlFile>> {
    let mut files = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
        let is_shortcut = match extension.as_deref() {
            Some("url") => true,
            Some("txt") => false,
            _ => continue,
        };
        // A link could lead to a file that the writer of the folder must not read.
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            _ => continue,
        };
        let changed = metadata.modified()?;
        if changed.elapsed().is_ok_and(|age| age < SETTLED) {
            continue;
        }
        files.push(UrlFile { urls: read_urls(&path, is_shortcut), path, changed });
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// Returns the URLs in a file. The error says what is wrong with it.
fn read_urls(path: &Path, is_shortcut: bool) -> Result<Vec<String>, String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("it has more than {LARGEST} bytes"));
    }
    let urls: Vec<_> = if is_shortcut {
        shortcut_url(&text).into_iter().map(str::to_owned).collect()
    } else {
        url_lines(&text).map(str::to_owned).collect()
    };
    if urls.is_empty() { Err("it has no URL".into()) } else { Ok(urls) }
}
