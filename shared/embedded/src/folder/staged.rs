//! Staged uploads in the content folder.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::{ContentHash, RequestId, Timestamp};
use ports::{StagedUpload, StoreError, UploadToken};
use tempfile::NamedTempFile;
use tokio::task::{JoinHandle, spawn_blocking};

use super::content_files::{Committed, Folder, SUSPENDED_FILE, Suspended, blocking, unavailable};
use crate::files;

/// The number of bytes that are buffered before a blocking thread writes them.
const CHUNK: usize = 512 * 1024;

/// The number of bytes after which a staged upload is flushed to the disk in the background, so that little remains
/// to flush at the commit.
const WRITE_BACK: usize = 4 * 1024 * 1024;

/// A staged upload: in memory while it is small, then in a temporary file. Dropping it deletes the file.
pub struct StagedFile {
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
    /// Returns an empty upload of a request.
    pub fn new(folder: Arc<Folder>, id: RequestId) -> Self {
        let pending = BytesMut::new();
        Self { folder, id, pending, file: None, name: None, taken: 0, dirty: 0, flushing: None }
    }

    /// Returns an upload that continues after the `taken` bytes in `file`.
    pub fn resumed(folder: Arc<Folder>, id: RequestId, file: NamedTempFile, taken: u64) -> Self {
        let name = file.path().file_name().map(ToOwned::to_owned);
        folder.counted().extend(name.clone());
        let mut upload = Self::new(folder, id);
        (upload.file, upload.name, upload.taken) = (Some(file), name, taken);
        upload
    }

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
        if matches!(committed, Ok(Committed::New | Committed::Replaced)) {
            // The file stays in the folder, so its space stays counted.
            self.taken = 0;
        }
        committed.map(|committed| committed == Committed::New)
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
