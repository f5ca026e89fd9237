//! The files of the content store: names, commits, removals.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use domain::{ContentHash, Timestamp};
use lru::LruCache;
use ports::{Removal, StagingEntry, StoreError, Unreadable, UploadToken};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempPath};
use tokio::task::spawn_blocking;

use super::space::{DAMAGED, STORE, Space, SpaceLimits, is_part};
use crate::data_folder::OpenError;
use crate::files;

/// The file extension of suspended uploads.
pub const SUSPENDED_FILE: &str = "part";

/// The maximum number of files that are kept open for reading.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// How long an open file of a shared folder is used. Another process may have replaced or removed it since.
const REOPEN: Duration = Duration::from_secs(1);

/// The number of bytes that are compared at once.
const BLOCK: usize = 512 * 1024;

/// The files of the content store.
#[derive(Debug)]
pub struct Folder {
    pub root: PathBuf,
    pub staging: PathBuf,
    pub space: Space,
    /// Locked while a file name is created, touched or removed, with its file if other processes share the folder.
    names: Mutex<Option<File>>,
    /// Whether other processes share the folder.
    is_shared: bool,
    /// Files that are kept open for reading.
    open: Mutex<LruCache<ContentHash, (Arc<File>, Instant)>>,
    pub unreadable: Unreadable,
    /// Names in `staging` whose space a [`StagedFile`] of this process counts as used, and releases when it is
    /// dropped.
    counted: Mutex<HashSet<OsString>>,
}

/// What became of a staged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is the file of its content.
    New,
    /// It replaced a damaged file.
    Replaced,
    /// The content exists, and the staged file was deleted.
    Exists,
}

/// The lock of the names. Dropping it releases it.
struct NamesLock<'a>(MutexGuard<'a, Option<File>>);

impl Drop for NamesLock<'_> {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(File::unlock) {
            tracing::error!(%error, "content folder not unlocked");
        }
    }
}

/// Opens a file for locks. Returns an error if the file system does not support locks.
fn open_lock(path: &Path) -> Result<File, OpenError> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(OpenError::io(path))?;
    let locked = file.lock().and_then(|()| file.unlock());
    locked.map_err(|source| OpenError::Lock { path: path.to_owned(), source })?;
    Ok(file)
}

pub fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::unavailable(STORE, error)
}

/// Runs file work on a blocking thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.map_err(unavailable)?.map_err(|error| files::store_error(STORE, error))
}

impl Folder {
    /// Opens the folder, and creates it if necessary. Other processes may use it at the same time if all open it with
    /// `is_shared`.
    pub fn open(root: PathBuf, limits: SpaceLimits, is_shared: bool) -> Result<Self, OpenError> {
        // Must be on the same file system as the contents, so that a rename is atomic.
        let staging = root.join("staging");
        files::create_private_folder(&staging).map_err(OpenError::io(&staging))?;
        let space = Space::new(&root, limits, is_shared)?;
        let names = is_shared.then(|| open_lock(&root.join("names.lock"))).transpose()?;
        Ok(Self {
            names: Mutex::new(names),
            is_shared,
            root,
            space,
            staging,
            open: Mutex::new(LruCache::new(OPEN_FILES)),
            unreadable: Unreadable::default(),
            counted: Mutex::default(),
        })
    }

    fn path(&self, content: ContentHash) -> PathBuf {
        let name = content.to_string();
        self.root.join(&name[..2]).join(&name[2..4]).join(name)
    }

    /// Returns the quarantine path of a damaged content.
    fn damaged(&self, content: ContentHash) -> PathBuf {
        self.root.join(DAMAGED).join(content.to_string())
    }

    /// Waits for the lock of the names.
    fn names(&self) -> io::Result<NamesLock<'_>> {
        let file = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        file.as_ref().map_or(Ok(()), File::lock)?;
        Ok(NamesLock(file))
    }

    fn open_files(&self) -> MutexGuard<'_, LruCache<ContentHash, (Arc<File>, Instant)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the names in [`Folder::counted`].
    pub fn counted(&self) -> MutexGuard<'_, HashSet<OsString>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the open file of a content.
    pub fn file(&self, content: ContentHash) -> io::Result<Arc<File>> {
        let is_current = |since: &Instant| !self.is_shared || since.elapsed() < REOPEN;
        if let Some((file, since)) = self.open_files().get(&content)
            && is_current(since)
        {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.path(content))?);
        let mut open = self.open_files();
        open.put(content, (file.clone(), Instant::now()));
        // An open file that another process removes keeps its space on the disk.
        while open.peek_lru().is_some_and(|(_, (_, since))| !is_current(since)) {
            open.pop_lru();
        }
        Ok(file)
    }

    /// Closes the file of a content that cannot be read: the next read opens it again.
    pub fn close(&self, content: ContentHash) {
        self.open_files().pop(&content);
    }

    fn touch_file(path: &Path, now: Timestamp) -> io::Result<bool> {
        match files::absent_is_none(File::options().append(true).open(path))? {
            None => Ok(false),
            Some(file) => file.set_modified(now.into()).map(|()| true),
        }
    }

    /// Moves the staged file to its final name, unless the content already exists. An existing file is compared with
    /// the staged one and replaced if it differs: a damaged file must not be served permanently.
    pub fn commit(&self, staged: NamedTempFile, content: ContentHash, now: Timestamp) -> io::Result<Committed> {
        let path = self.path(content);
        if self.touch(content, now)? {
            if same_bytes(staged.as_file(), &path)? {
                return Ok(Committed::Exists);
            }
            tracing::error!(content.hash = %content, "damaged content replaced");
            metrics::counter!("proxytorrent_content_corrupt_total").increment(1);
            staged.as_file().sync_data()?;
            staged.as_file().set_modified(now.into())?;
            let _names = self.names()?;
            self.open_files().pop(&content);
            let damaged = files::absent_is_none(std::fs::metadata(&path))?.map_or(0, |metadata| metadata.len());
            staged.persist(&path).map_err(|error| error.error)?;
            self.space.give_back(damaged);
            files::sync_folder(path.parent().unwrap_or(&self.root))?;
            return Ok(Committed::Replaced);
        }
        staged.as_file().sync_data()?;
        staged.as_file().set_modified(now.into())?;
        let folder = path.parent().unwrap_or(&self.root);
        files::create_synced_folder(folder)?;
        {
            let _names = self.names()?;
            if Self::touch_file(&path, now)? {
                return Ok(Committed::Exists);
            }
            staged.persist(&path).map_err(|error| error.error)?;
        }
        files::sync_folder(folder)?;
        self.forget_damaged(content)?;
        Ok(Committed::New)
    }

    /// Records that a request is about to refer to the content. Returns whether the content exists.
    pub fn touch(&self, content: ContentHash, now: Timestamp) -> io::Result<bool> {
        let _names = self.names()?;
        Self::touch_file(&self.path(content), now)
    }

    /// Whether there are contents.
    pub fn has_contents(&self) -> io::Result<bool> {
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if !is_part(&entry.file_name()) {
                continue;
            }
            for folder in entry.path().read_dir()? {
                if folder?.path().read_dir()?.next().is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Returns the size of a content in bytes, or `None` if it does not exist.
    pub fn size(&self, content: ContentHash) -> io::Result<Option<u64>> {
        Ok(files::absent_is_none(std::fs::metadata(self.path(content)))?.map(|metadata| metadata.len()))
    }

    /// Deletes a content that was not touched since `since`.
    pub fn remove(&self, content: ContentHash, since: Timestamp) -> io::Result<Removal> {
        let path = self.path(content);
        let _names = self.names()?;
        // NFS returns the current times of a file that is opened, and cached ones otherwise.
        let Some(file) = files::absent_is_none(File::open(&path))? else { return Ok(Removal::Gone) };
        let metadata = file.metadata()?;
        if metadata.modified()? >= SystemTime::from(since) {
            return Ok(Removal::TouchedSince);
        }
        self.open_files().pop(&content);
        std::fs::remove_file(&path)?;
        self.space.give_back(metadata.len());
        // The folders `ab/cd` are kept: creating them again costs more.
        Ok(Removal::Gone)
    }

    /// Moves a damaged file to the folder `damaged`. Its space counts as used until its content is stored again.
    pub fn quarantine(&self, content: ContentHash) -> io::Result<()> {
        let quarantine = self.damaged(content);
        files::create_private_folder(quarantine.parent().unwrap_or(&self.root))?;
        let _names = self.names()?;
        self.open_files().pop(&content);
        files::absent_is_none(std::fs::rename(self.path(content), quarantine)).map(drop)
    }

    /// Deletes the quarantined file of a content after the content is stored again.
    fn forget_damaged(&self, content: ContentHash) -> io::Result<()> {
        let path = self.damaged(content);
        if let Some(metadata) = files::absent_is_none(std::fs::metadata(&path))? {
            files::remove_if_there(&path)?;
            self.space.give_back(metadata.len());
        }
        Ok(())
    }

    /// Opens the file of a suspended upload and truncates it to its length at that time. `None` if it does not exist
    /// or is too short.
    pub fn resume(&self, suspended: &Suspended) -> io::Result<Option<(NamedTempFile, u64)>> {
        let path = self.staging.join(&suspended.file);
        let file = files::absent_is_none(File::options().read(true).write(true).open(&path))?;
        let Some(mut file) = file else { return Ok(None) };
        let length = file.metadata()?.len();
        if length < suspended.length {
            files::remove_if_there(&path)?;
            self.space.give_back(length);
            return Ok(None);
        }
        self.space.give_back(length - suspended.length);
        file.set_len(suspended.length)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Some((NamedTempFile::from_parts(file, TempPath::try_from_path(path)?), suspended.length)))
    }

    /// Returns the contents whose hash begins with this byte and that were last touched before `before`.
    pub fn list_unmodified(&self, part: u8, before: Timestamp) -> io::Result<Vec<ContentHash>> {
        let mut found = vec![];
        let Some(folders) = files::absent_is_none(std::fs::read_dir(self.root.join(format!("{part:02x}"))))? else {
            return Ok(found);
        };
        for folder in folders {
            for file in std::fs::read_dir(folder?.path())? {
                let file = file?;
                // The file may have been removed since.
                let Some(metadata) = files::absent_is_none(file.metadata())? else { continue };
                if metadata.modified()? < SystemTime::from(before) {
                    found.extend(file.file_name().to_str().and_then(|name| name.parse::<ContentHash>().ok()));
                }
            }
        }
        Ok(found)
    }

    /// Returns the staged uploads.
    pub fn staging(&self) -> io::Result<Vec<StagingEntry>> {
        let mut found = vec![];
        for entry in std::fs::read_dir(&self.staging)? {
            let entry = entry?;
            // The upload may have been committed or dropped since.
            let Some(metadata) = files::absent_is_none(entry.metadata())? else { continue };
            let Ok(name) = entry.file_name().into_string() else { continue };
            found.push(StagingEntry {
                request: name.split('.').next().and_then(|id| id.parse().ok()),
                since: metadata.modified()?.into(),
                may_be_suspended: name.ends_with(SUSPENDED_FILE),
                token: UploadToken::new(Suspended { file: name, length: 0 }.to_string()),
            });
        }
        Ok(found)
    }
}

/// Whether the stored file has the same bytes as the staged one. False if the stored file was just removed.
fn same_bytes(staged: &File, path: &Path) -> io::Result<bool> {
    let Some(stored) = files::absent_is_none(File::open(path))? else { return Ok(false) };
    let length = staged.metadata()?.len();
    if stored.metadata()?.len() != length {
        return Ok(false);
    }
    let (mut one, mut other) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut offset = 0;
    while offset < length {
        let size = usize::try_from(length - offset).map_or(BLOCK, |rest| rest.min(BLOCK));
        staged.read_exact_at(&mut one[..size], offset)?;
        // A file that cannot be read counts as damaged.
        if stored.read_exact_at(&mut other[..size], offset).is_err() {
            return Ok(false);
        }
        if one[..size] != other[..size] {
            return Ok(false);
        }
        offset += size as u64;
    }
    Ok(true)
}

/// The content of an upload token: the name of the file and its length in bytes.
pub struct Suspended {
    pub file: String,
    pub length: u64,
}

impl Suspended {
    pub fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let file = value["file"].as_str()?;
        let ours = Path::new(file).file_name().is_some_and(|name| name == file);
        ours.then_some(Self { file: file.to_owned(), length: value["length"].as_u64()? })
    }
}

impl fmt::Display for Suspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json!({ "file": self.file, "length": self.length }).fmt(f)
    }
}
