//! The folder that is watched for URLs to fetch (`URL_FOLDER__PATH`).
//!
//! A file is claimed by a new name, `NAME.ID.processing`, and has another name when it is processed. Its progress is in
//! `NAME.ID.progress`, which is saved after each request. The keys of its requests contain the id, so that a crash
//! between the two repeats none, if the server starts again within a day.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Api, IdempotencyKey, Refused, create_for};
use domain::{UserId, shortcut_url, url_lines};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::CommandError;

/// The interval at which the folder is read.
const INTERVAL: Duration = Duration::from_secs(2);

/// For how long a file must not have changed: a program may still be writing it.
const SETTLED: Duration = Duration::from_secs(2);

/// The largest file, in bytes.
const LARGEST: u64 = 256 << 10;

/// The largest progress file, in bytes: each refused URL is in it with a reason.
const LARGEST_PROGRESS: u64 = 64 << 20;

/// The suffix of a file that is being processed.
const PROCESSING: &str = "processing";

/// The folder, and the user who owns the requests.
#[derive(Debug)]
pub(super) struct UrlFolder {
    path: PathBuf,
    owner: UserId,
    /// Files that wait, since a limit is reached.
    waiting: HashMap<PathBuf, Instant>,
    /// Files that had an error: each is logged once.
    reported: HashSet<PathBuf>,
}

/// A claimed file: `NAME.ID.processing`.
struct Claimed {
    path: PathBuf,
    /// The name that the file had.
    name: String,
    id: String,
}

/// How far a file is processed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// The number of URLs that are processed.
    done: usize,
    /// The refused URLs, each below a comment with the reason.
    refused: Vec<String>,
    /// The name of the file that the refused URLs are written to.
    failed_name: Option<String>,
}

impl UrlFolder {
    /// Opens the folder of these settings, if there is one; creates it for its owner only if it does not exist.
    pub fn open(settings: &settings::UrlFolder, api: &Api) -> Result<Option<Self>, CommandError> {
        let Some(path) = &settings.path else { return Ok(None) };
        let refuse = |error: io::Error| CommandError::Start(format!("URL_FOLDER__PATH: cannot be used: {error}"));
        embedded::create_private_folder(path).map_err(refuse)?;
        // Processed files are renamed.
        tempfile::tempfile_in(path).map_err(refuse)?;
        remove_old_progress(path).map_err(refuse)?;
        let owner = settings.owner.as_ref().map_or_else(UserId::anonymous, UserId::new);
        if api.authenticator.users().is_some_and(|users| !users.contains(&owner)) {
            return Err(CommandError::Start(format!(
                "URL_FOLDER__OWNER: {owner} is not a user; see SECURITY__BEARER_TOKENS"
            )));
        }
        Ok(Some(Self { path: path.clone(), owner, waiting: HashMap::new(), reported: HashSet::new() }))
    }

    /// Watches the folder until `stop` is cancelled.
    pub async fn watch(mut self, api: Arc<Api>, stop: CancellationToken) {
        let run = async {
            loop {
                match files(&self.path) {
                    Ok(files) => {
                        let is_there = |path: &Path| files.iter().any(|file| file == path);
                        self.waiting.retain(|path, _| is_there(path));
                        self.reported.retain(|path| is_there(path));
                        for file in files {
                            if let Err(error) = self.process(&api, &file).await
                                && self.reported.insert(file.clone())
                            {
                                warn!(file = %file.display(), %error, "file of URLs cannot be processed, will retry");
                            }
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

    /// Processes a file: one that is new and settled, or a claimed one. An error may be temporary.
    async fn process(&mut self, api: &Api, path: &Path) -> io::Result<()> {
        let Some(claimed) = claim(path)? else { return Ok(()) };
        if self.waiting.get(&claimed.path).is_some_and(|until| Instant::now() < *until) {
            return Ok(());
        }
        let urls = match read_urls(&claimed)? {
            Ok(urls) => urls,
            Err(why) => {
                warn!(file = claimed.name, why, "file of URLs refused");
                return claimed.finish("failed");
            }
        };
        let mut progress = claimed.progress()?;
        while let Some(url) = urls.get(progress.done) {
            let number = progress.done + 1;
            let key = IdempotencyKey::internal("url folder", &format!("{} {number}", claimed.id));
            match create_for(api, self.owner.clone(), &key, url).await {
                Ok(_) => {
                    progress.done = number;
                    claimed.save(&progress)?;
                }
                Err(Refused { detail, retry_after: Some(wait) }) => {
                    let (name, processed) = (&claimed.name, progress.done);
                    info!(file = name, why = detail, processed, urls = urls.len(), "file of URLs waits");
                    claimed.save(&progress)?;
                    self.waiting.insert(claimed.path, Instant::now() + wait);
                    return Ok(());
                }
                Err(Refused { detail, .. }) => {
                    warn!(file = claimed.name, url.number = number, why = detail, "URL refused");
                    progress.refused.push(format!("# {}\n{url}\n", detail.replace(['\r', '\n'], " ")));
                    progress.done = number;
                }
            }
        }
        if !progress.refused.is_empty() {
            let name = progress.failed_name.get_or_insert_with(|| claimed.free_name("failed")).clone();
            claimed.save(&progress)?;
            // The writer of the folder can change the progress: the file must be in the folder.
            let name = Path::new(&name).file_name().unwrap_or_default();
            write(&claimed.path.with_file_name(name), progress.refused.concat().as_bytes())?;
        }
        info!(file = claimed.name, urls = urls.len(), refused = progress.refused.len(), "file of URLs processed");
        claimed.finish("done")
    }
}

impl Claimed {
    /// Reads the name of a claimed file. Returns `None` for any other name.
    fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(PROCESSING)?.strip_suffix('.')?;
        let (name, id) = name.rsplit_once('.')?;
        let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id || !has_urls(Path::new(name)) {
            return None;
        }
        Some(Self { path: path.to_owned(), name: name.to_owned(), id: id.to_owned() })
    }

    fn progress_file(&self) -> PathBuf {
        self.path.with_file_name(format!("{}.{}.progress", self.name, self.id))
    }

    fn progress(&self) -> io::Result<Progress> {
        match read(&self.progress_file(), LARGEST_PROGRESS) {
            Ok(json) => Ok(serde_json::from_slice(&json)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Progress::default()),
            Err(error) => Err(error),
        }
    }

    fn save(&self, progress: &Progress) -> io::Result<()> {
        write(&self.progress_file(), &serde_json::to_vec(progress)?)
    }

    /// Returns `NAME.SUFFIX`, or a name with the id if that is taken.
    fn free_name(&self, suffix: &str) -> String {
        let name = format!("{}.{suffix}", self.name);
        let is_free = fs::symlink_metadata(self.path.with_file_name(&name)).is_err();
        if is_free { name } else { format!("{}.{}.{suffix}", self.name, self.id) }
    }

    /// Gives the file its last name.
    fn finish(&self, suffix: &str) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_file_name(self.free_name(suffix)))?;
        match fs::remove_file(self.progress_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Reads a file of at most `largest` bytes. A link could lead to a file that the writer of the folder must not read,
/// and a pipe would never end: both are errors.
fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > largest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is no file of at most {largest} bytes")));
    }
    let mut bytes = vec![];
    File::take(file, largest).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes the progress of files that are processed: a crash may have left it.
fn remove_old_progress(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let processing = path.with_extension(PROCESSING);
        let is_progress = path.extension().is_some_and(|extension| extension == "progress");
        if is_progress && Claimed::parse(&processing).is_some() && fs::symlink_metadata(&processing).is_err() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Writes a file that only this user can read, all at once. It replaces a link and does not follow it.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    part.write_all(bytes)?;
    part.as_file().sync_all()?;
    part.persist(path).map(drop).map_err(|error| error.error)
}

/// Returns the files with URLs in a folder, new and claimed ones, by name.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths: io::Result<Vec<_>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut files: Vec<_> =
        paths?.into_iter().filter(|path| Claimed::parse(path).is_some() || has_urls(path)).collect();
    files.sort();
    Ok(files)
}

fn has_urls(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt") || is_shortcut(extension))
}

fn is_shortcut(extension: &OsStr) -> bool {
    extension.eq_ignore_ascii_case("url")
}

/// Claims a file by a new name. Returns it if it was claimed now or before; `None` if it has changed lately, or is no
/// file.
fn claim(path: &Path) -> io::Result<Option<Claimed>> {
    if let Some(claimed) = Claimed::parse(path) {
        return Ok(Some(claimed));
    }
    let metadata = fs::symlink_metadata(path)?;
    // A time in the future is an error: the clock of its writer is another.
    let is_settled = metadata.modified()?.elapsed().map_or(true, |age| age >= SETTLED);
    if !metadata.is_file() || !is_settled {
        return Ok(None);
    }
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidFilename, "the name is not UTF-8"))?;
    let id = hex::encode(rand::random::<[u8; 8]>());
    let claimed = path.with_file_name(format!("{name}.{id}.{PROCESSING}"));
    fs::rename(path, &claimed)?;
    Ok(Claimed::parse(&claimed))
}

/// Returns the URLs in a file, or what is wrong with it.
fn read_urls(claimed: &Claimed) -> io::Result<Result<Vec<String>, String>> {
    let bytes = match read(&claimed.path, LARGEST) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Err(error.to_string())),
        read => read?,
    };
    let urls: Vec<_> = if Path::new(&claimed.name).extension().is_some_and(is_shortcut) {
        // Windows writes the other entries in its code page.
        shortcut_url(&String::from_utf8_lossy(&bytes)).into_iter().map(str::to_owned).collect()
    } else {
        match String::from_utf8(bytes) {
            Ok(text) => url_lines(&text).map(str::to_owned).collect(),
            Err(_) => return Ok(Err("it is not UTF-8".into())),
        }
    };
    Ok(if urls.is_empty() { Err("it has no URL".into()) } else { Ok(urls) })
}
