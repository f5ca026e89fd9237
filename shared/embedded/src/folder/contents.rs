//! Content store ([`Contents`]) in a folder.

use std::io::{self, IoSliceMut, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{ContentHash, RequestId, Timestamp};
use ports::{Check, Contents, Removal, StagedUpload, StagingEntry, StoreError, UploadToken};
use rustix::io::{ReadWriteFlags, preadv2};

use super::content_files::{Folder, Suspended, blocking, unavailable};
use super::space::{STORE, SpaceLimits};
use super::staged::StagedFile;
use crate::data_folder::OpenError;
use crate::files;

/// The content store: files `ab/cd/<sha256>`, and a folder `staging` for staged uploads.
///
/// The modification time of a file is the time of its last [touch](Contents::touch).
#[derive(Debug, Clone)]
pub struct FolderContents(Arc<Folder>);

impl FolderContents {
    /// Opens the folder, and creates it if necessary.
    pub fn open(root: PathBuf, limits: SpaceLimits) -> Result<Self, OpenError> {
        Ok(Self(Arc::new(Folder::open(root, limits, false)?)))
    }

    /// Opens a folder that other processes use, too. All of them must open it with this function. The file system must support
    /// file locks. The number of used bytes is approximate, also with a limit.
    pub fn open_shared(root: PathBuf, limits: SpaceLimits) -> Result<Self, OpenError> {
        Ok(Self(Arc::new(Folder::open(root, limits, true)?)))
    }

    /// Returns the text in the file `owner`, which names the database of these contents. `None` if it does not exist.
    pub fn owner(&self) -> Result<Option<String>, OpenError> {
        let path = self.0.root.join("owner");
        files::absent_is_none(std::fs::read_to_string(&path)).map_err(OpenError::io(&path))
    }

    /// Creates the file `owner` with this text, unless it exists. Returns its text.
    pub fn set_owner(&self, owner: &str) -> Result<String, OpenError> {
        let path = self.0.root.join("owner");
        files::load_or_create(&path, || owner.to_owned()).map_err(OpenError::io(&path))
    }

    /// Whether the folder has contents.
    pub fn has_contents(&self) -> Result<bool, OpenError> {
        self.0.has_contents().map_err(OpenError::io(&self.0.root))
    }

    /// Returns the number of bytes of all contents and staged uploads. If they are not limited it is approximate, and 0 until
    /// they are counted in the background.
    pub fn used_bytes(&self) -> u64 {
        self.0.space.used()
    }
}

#[async_trait]
impl Contents for FolderContents {
    async fn stage(&self, id: RequestId) -> Result<Box<dyn StagedUpload>, StoreError> {
        Ok(Box::new(StagedFile::new(self.0.clone(), id)))
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
        Ok(file
            .map(|(file, taken)| -> Box<dyn StagedUpload> { Box::new(StagedFile::resumed(folder, id, file, taken)) }))
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
                    io::ErrorKind::NotFound => StoreError::not_found(STORE, content),
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
        .inspect_err(|_| {
            self.0.close(content);
            self.0.unreadable.add(content);
        })?;
        buffer[cached..].copy_from_slice(&rest);
        Ok(())
    }

    async fn size(&self, content: ContentHash) -> Result<Option<u64>, StoreError> {
        let folder = self.0.clone();
        let size = blocking(move || folder.size(content)).await?;
        if size.is_none() {
            self.0.unreadable.add(content);
        }
        Ok(size)
    }

    async fn touch(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.touch(content, now)).await
    }

    async fn remove(&self, content: ContentHash, since: Timestamp) -> Result<Removal, StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.remove(content, since)).await
    }

    async fn quarantine(&self, content: ContentHash) -> Result<(), StoreError> {
        let folder = self.0.clone();
        blocking(move || folder.quarantine(content)).await
    }

    fn report_unreadable(&self, content: ContentHash) {
        self.0.unreadable.add(content);
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
