//! Content store ([`Contents`]) in a folder.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::{ContentHash, RequestId, Timestamp};
use lru::LruCache;
use ports::{Check, Contents, Removal, StagedUpload, StagingEntry, StoreError, UploadToken};
use rustix::io::{ReadWriteFlags, preadv2};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempPath};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};

use super::space::{DAMAGED, Space, SpaceLimits};
use crate::data_folder::OpenError;
use crate::files;

/// The number of bytes that are buffered before a blocking thread writes them.
const CHUNK: usize = 512 * 1024;

/// The number of bytes after which a staged upload is flushed to the disk in the background, so that little remains
/// to flush at the commit.
const WRITE_BACK: usize = 4 * 1024 * 1024;

/// The file extension of suspended uploads.
const SUSPENDED_FILE: &str = "part";

/// The maximum number of contents that wait for verification after a failed read.
const MOST_UNREADABLE: usize = 1024;

/// The maximum number of files that are kept open for reading.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// The content store: files `ab/cd/<sha256>`, and a folder `staging` for staged uploads.
///
/// The modification time of a file is the time of its last [touch](Contents::touch).
#[derive(Debug, Clone)]
pub struct FolderContents(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    staging: PathBuf,
    space: Space,
    /// Locked while a file name is created, touched or removed.
    names: Mutex<()>,
    open: Mutex<LruCache<ContentHash, Arc<File>>>,
    unreadable: Unreadable,
    /// Names in `staging` whose space a [`StagedFile`] of this process counts as used, and releases when it is
    /// dropped.
    counted: Mutex<HashSet<OsString>>,
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::unavailable("the content folder", error)
}

/// Runs file work on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, StoreError> {
    spawn_blocking(work).await.map_err(unavailable)?.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound,
        _ => files::store_error("the content folder", error),
    })
}

impl FolderContents {
    /// Opens the folder, and creates it if necessary.
    pub fn open(root: PathBuf, limits: SpaceLimits) -> Result<Self, OpenError> {
        // Must be on the same file system as the contents, so that a rename is atomic.
        let staging = root.join("staging");
        files::create_private_folder(&staging).map_err(OpenError::io(&staging))?;
        let space = Space::new(&root, limits)?;
        Ok(Self(Arc::new(Folder {
            root,
            space,
            staging,
            names: Mutex::default(),
            open: Mutex::new(LruCache::new(OPEN_FILES)),
            unreadable: Unreadable::default(),
            counted: Mutex::default(),
        })))
    }
}

impl Folder {
    fn path(&self, content: ContentHash) -> PathBuf {
        let name = content.to_string();
        self.root.join(&name[..2]).join(&name[2..4]).join(name)
    }

    /// Returns the quarantine path of a damaged content.
    fn damaged(&self, content: ContentHash) -> PathBuf {
        self.root.join(DAMAGED).join(content.to_string())
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_files(&self) -> MutexGuard<'_, LruCache<ContentHash, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self) -> MutexGuard<'_, HashSet<OsString>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, content: ContentHash) -> io::Result<Arc<File>> {
        if let Some(file) = self.open_files().get(&content) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.path(content))?);
        self.open_files().put(content, file.clone());
        Ok(file)
    }

    fn touch(path: &Path, now: Timestamp) -> io::Result<bool> {
        match files::absent_is_none(File::options().append(true).open(path))? {
            None => Ok(false),
            Some(file) => file.set_modified(now.into()).map(|()| true),
        }
    }

    /// Moves the staged file to its final name, unless the content already exists. Returns whether the content is
    /// new. An existing file is compared with the staged one and replaced if it differs: a damaged file must not be
    /// served permanently.
    fn commit(&self, staged: NamedTempFile, content: ContentHash, now: Timestamp) -> io::Result<bool> {
        let path = self.path(content);
        if Self::touch_named(self, &path, now)? {
            if same_bytes(staged.as_file(), &path)? {
                return Ok(false);
            }
            tracing::error!(content.hash = %content, "damaged content replaced");
            metrics::counter!("proxytorrent_content_corrupt_total").increment(1);
            staged.as_file().sync_data()?;
            staged.as_file().set_modified(now.into())?;
            let _names = self.names();
            self.open_files().pop(&content);
            staged.persist(&path).map_err(|error| error.error)?;
            files::sync_folder(path.parent().unwrap_or(&self.root))?;
            return Ok(false);
        }
        staged.as_file().sync_data()?;
        staged.as_file().set_modified(now.into())?;
        let folder = path.parent().unwrap_or(&self.root);
        files::create_synced_folder(folder)?;
        {
            let _names = self.names();
            if Self::touch(&path, now)? {
                return Ok(false);
            }
            staged.persist(&path).map_err(|error| error.error)?;
        }
        files::sync_folder(folder)?;
        self.forget_damaged(content)?;
        Ok(true)
    }

    fn touch_named(&self, path: &Path, now: Timestamp) -> io::Result<bool> {
        let _names = self.names();
        Self::touch(path, now)
    }

    fn remove(&self, content: ContentHash, since: Timestamp) -> io::Result<Removal> {
        let path = self.path(content);
        let _names = self.names();
        let Some(metadata) = files::absent_is_none(std::fs::metadata(&path))? else { return Ok(Removal::Gone) };
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
    fn quarantine(&self, content: ContentHash) -> io::Result<()> {
        let quarantine = self.damaged(content);
        files::create_private_folder(quarantine.parent().unwrap_or(&self.root))?;
        let _names = self.names();
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
    fn resume(&self, suspended: &Suspended) -> io::Result<Option<(NamedTempFile, u64)>> {
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

    fn list_unmodified(&self, part: u8, before: Timestamp) -> io::Result<Vec<ContentHash>> {
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

    fn staging(&self) -> io::Result<Vec<StagingEntry>> {
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

/// The contents that could not be read and have not been verified since.
#[derive(Debug, Default)]
struct Unreadable {
    contents: Mutex<HashSet<ContentHash>>,
    added: Notify,
}

impl Unreadable {
    fn contents(&self) -> MutexGuard<'_, HashSet<ContentHash>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a content. If there are too many, it is dropped, and the scrub finds it later.
    fn add(&self, content: ContentHash) {
        let mut contents = self.contents();
        if contents.len() < MOST_UNREADABLE && contents.insert(content) {
            self.added.notify_one();
        }
    }

    /// Removes and returns a content. Waits until there is one.
    async fn next(&self) -> ContentHash {
        loop {
            let next = self.contents().iter().next().copied();
            if let Some(content) = next {
                self.contents().remove(&content);
                return content;
            }
            self.added.notified().await;
        }
    }
}

/// Whether the stored file has the same bytes as the staged one. False if the stored file was just removed.
fn same_bytes(staged: &File, path: &Path) -> io::Result<bool> {
    let Some(stored) = files::absent_is_none(File::open(path))? else { return Ok(false) };
    let length = staged.metadata()?.len();
    if stored.metadata()?.len() != length {
        return Ok(false);
    }
    let (mut one, mut other) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut offset = 0;
    while offset < length {
        let size = (length - offset).min(CHUNK as u64) as usize;
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

#[async_trait]
impl Contents for FolderContents {
    async fn stage(&self, id: RequestId) -> Result<Box<dyn StagedUpload>, StoreError> {
        Ok(Box::new(StagedFile {
            folder: self.0.clone(),
            id,
            pending: BytesMut::new(),
            file: None,
            name: None,
            taken: 0,
            dirty: 0,
            flushing: None,
        }))
    }

    async fn resume(
        &self,
        id: RequestId,
        suspended: &UploadToken,
    ) -> Result<Option<Box<dyn StagedUpload>>, StoreError> {
        let Some(suspended) = Suspended::read(suspended.as_str()) else { return Ok(None) };
        let folder = self.0.clone();
        let file = blocking(move || folder.resume(&suspended)).await?;
        let folder = self.0.clone();
        Ok(file.map(|(file, taken)| -> Box<dyn StagedUpload> {
            let name = file.path().file_name().map(ToOwned::to_owned);
            folder.counted().extend(name.clone());
            let (pending, file) = (BytesMut::new(), Some(file));
            Box::new(StagedFile { folder, id, pending, file, name, taken, dirty: 0, flushing: None })
        }))
    }

    async fn discard(&self, upload: &UploadToken) -> Result<(), StoreError> {
        let Some(suspended) = Suspended::read(upload.as_str()) else { return Ok(()) };
        let folder = self.0.clone();
        blocking(move || {
            let path = folder.staging.join(suspended.file);
            let size = files::absent_is_none(std::fs::metadata(&path))?.map_or(0, |metadata| metadata.len());
            files::remove_if_there(&path)?;
            if !folder.counted().contains(path.file_name().unwrap_or_default()) {
                folder.space.give_back(size);
            }
            Ok(())
        })
        .await
    }

    async fn staging(&self) -> Result<Vec<StagingEntry>, StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.staging()).await
    }

    async fn read_at(&self, content: ContentHash, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let file = match self.0.file(content) {
            Ok(file) => file,
            Err(error) => {
                self.0.unreadable.add(content);
                return Err(match error.kind() {
                    io::ErrorKind::NotFound => StoreError::NotFound,
                    _ => unavailable(error),
                });
            }
        };
        // Bytes in the page cache are read without blocking. A blocking thread reads the rest.
        let cached = preadv2(&*file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT).unwrap_or(0);
        if cached == buffer.len() {
            return Ok(());
        }
        let missing = buffer.len() - cached;
        let rest = blocking(move || {
            let mut rest = vec![0; missing];
            file.read_exact_at(&mut rest, offset + cached as u64).map(|()| rest)
        })
        .await
        .inspect_err(|_| self.0.unreadable.add(content))?;
        buffer[cached..].copy_from_slice(&rest);
        Ok(())
    }

    async fn size(&self, content: ContentHash) -> Result<Option<u64>, StoreError> {
        let path = self.0.path(content);
        let size = blocking(move || Ok(files::absent_is_none(std::fs::metadata(path))?.map(|metadata| metadata.len())));
        let size = size.await?;
        if size.is_none() {
            self.0.unreadable.add(content);
        }
        Ok(size)
    }

    async fn touch(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.touch_named(&folder.path(content), now)).await
    }

    async fn remove(&self, content: ContentHash, since: Timestamp) -> Result<Removal, StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.remove(content, since)).await
    }

    async fn quarantine(&self, content: ContentHash) -> Result<(), StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.quarantine(content)).await
    }

    async fn unreadable(&self) -> ContentHash {
        self.0.unreadable.next().await
    }

    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<ContentHash>, StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.list_unmodified(part, before)).await
    }

    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.0.space.check(bytes)
    }
}

#[async_trait]
impl Check for FolderContents {
    async fn check(&self) -> Result<(), StoreError> {
        self.check_room(0)?;
        let folder = self.0.clone();
        // The check writes bytes, because an empty file can be created on a full disk.
        blocking(move || {
            let mut file = files::temporary(&folder.staging, "check")?;
            file.write_all(&[0; 4096])?;
            file.as_file().sync_data()
        })
        .await
    }
}

/// The content of an upload token: the name of the file and its length in bytes.
struct Suspended {
    file: String,
    length: u64,
}

impl Suspended {
    fn read(text: &str) -> Option<Self> {
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

/// A staged upload: in memory while it is small, then in a temporary file. Dropping it deletes the file.
struct StagedFile {
    folder: Arc<Folder>,
    id: RequestId,
    pending: BytesMut,
    file: Option<NamedTempFile>,
    /// The name of the file, after it was created.
    name: Option<OsString>,
    /// The number of bytes that are counted as used for this content.
    taken: u64,
    /// The number of bytes written since the last background flush was started.
    dirty: usize,
    flushing: Option<JoinHandle<io::Result<()>>>,
}

impl StagedFile {
    /// Writes the pending bytes and returns the file. The caller must put it back or commit it.
    async fn flush(&mut self) -> Result<NamedTempFile, StoreError> {
        let pending = self.pending.split().freeze();
        self.folder.space.check_disk(pending.len() as u64)?;
        let (file, folder, id) = (self.file.take(), self.folder.clone(), self.id);
        let file = blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => files::temporary(&folder.staging, &id.to_string())?,
            };
            file.write_all(&pending)?;
            Ok(file)
        })
        .await?;
        if self.name.is_none() {
            self.name = file.path().file_name().map(ToOwned::to_owned);
            self.folder.counted().extend(self.name.clone());
        }
        Ok(file)
    }
}

#[async_trait]
impl StagedUpload for StagedFile {
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.folder.space.check(bytes)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.pending.extend_from_slice(&bytes);
        self.taken += bytes.len() as u64;
        self.folder.space.take(bytes.len() as u64)?;
        let pending = self.pending.len();
        if pending >= CHUNK {
            let file = self.flush().await?;
            self.dirty += pending;
            // One flush at a time. Its error is ignored, because the flush at the commit reports it as well.
            if self.dirty >= WRITE_BACK && self.flushing.as_ref().is_none_or(JoinHandle::is_finished) {
                self.dirty = 0;
                let handle = file.as_file().try_clone().map_err(unavailable)?;
                self.flushing = Some(spawn_blocking(move || handle.sync_data()));
            }
            self.file = Some(file);
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), StoreError> {
        self.pending.clear();
        self.folder.space.give_back(std::mem::take(&mut self.taken));
        self.dirty = 0;
        // Dropping the file deletes it.
        self.file = None;
        if let Some(name) = self.name.take() {
            self.folder.counted().remove(&name);
        }
        Ok(())
    }

    async fn suspend(mut self: Box<Self>) -> Result<UploadToken, StoreError> {
        let file = self.flush().await?;
        let taken = &mut self.taken;
        let suspended = blocking(move || {
            file.as_file().sync_data()?;
            let length = file.as_file().metadata()?.len();
            let path = file.path().with_extension(SUSPENDED_FILE);
            file.persist(&path).map_err(|error| error.error)?;
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(UploadToken::new(Suspended { file, length }.to_string()))
        })
        .await;
        if suspended.is_ok() {
            // The file stays in the folder, so its space stays counted.
            *taken = 0;
        }
        suspended
    }

    async fn commit(mut self: Box<Self>, hash: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        let file = self.flush().await?;
        let folder = self.folder.clone();
        let committed = blocking(move || folder.commit(file, hash, now)).await;
        if matches!(committed, Ok(true)) {
            // The file stays in the folder, so its space stays counted.
            self.taken = 0;
        }
        committed
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        self.folder.space.give_back(self.taken);
        if let Some(name) = &self.name {
            self.folder.counted().remove(name);
        }
    }
}
