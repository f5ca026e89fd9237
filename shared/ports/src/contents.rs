//! The store of contents, addressed by their SHA-256.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{ContentHash, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Check, StoreError};

/// The validity of a link to a content, of a store or of the API.
pub const LINK_VALIDITY: Duration = Duration::from_secs(3600);

/// The token of an upload that is not committed: a text without secrets, which only its store can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadToken(String);

impl UploadToken {
    /// A token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An upload that is not committed: running, suspended, or left by a process that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingEntry {
    /// The token for [`Contents::discard`].
    pub token: UploadToken,
    /// The request, if it is known.
    pub request: Option<RequestId>,
    /// When it was started, or last written.
    pub since: Timestamp,
    /// Whether it may be [suspended](StagedUpload::suspend). A store that cannot distinguish returns true.
    pub may_be_suspended: bool,
}

/// The result of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The content does not exist any more.
    Gone,
    /// The content was touched lately: a request may be about to refer to it.
    TouchedSince,
}

/// The store of contents. The whole hash is the key, so that equal contents are one object.
///
/// A caller that is about to refer to a content *touches* it first (a commit does so), and a removal spares what was touched
/// lately. So a content is never removed between the moment when it is found and the moment when a row refers to it.
#[async_trait]
pub trait Contents: Check {
    /// Starts an upload for this request. An upload that is dropped without a commit leaves nothing behind.
    async fn stage(&self, id: RequestId) -> Result<Box<dyn StagedUpload>, StoreError>;

    /// Resumes an upload that was [suspended](StagedUpload::suspend); `None` if it does not exist any more. It stays suspended
    /// until this one is committed or dropped, so that it can be resumed again if the process is killed.
    async fn resume(&self, id: RequestId, suspended: &UploadToken)
    -> Result<Option<Box<dyn StagedUpload>>, StoreError>;

    /// Deletes a suspended upload, or one that [`Contents::staging`] returned. It need not exist.
    async fn discard(&self, upload: &UploadToken) -> Result<(), StoreError>;

    /// Returns all uploads that are not committed, except those that are only in memory.
    async fn staging(&self) -> Result<Vec<StagingEntry>, StoreError>;

    /// Fills `buffer` with the bytes from `offset` on; [`StoreError::NotFound`] if there is no such content, and another
    /// error if it ends before the buffer is full.
    async fn read_at(&self, content: ContentHash, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError>;

    /// Returns the size in bytes, if the content exists.
    async fn size(&self, content: ContentHash) -> Result<Option<u64>, StoreError>;

    /// Records that a request is about to refer to the content. Returns false if it does not exist.
    async fn touch(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError>;

    /// Removes the content, and what an interrupted commit of it left, unless it was touched at or after `since`.
    async fn remove(&self, content: ContentHash, since: Timestamp) -> Result<Removal, StoreError>;

    /// Moves a damaged content to where an operator finds it, or deletes it. It need not exist.
    async fn quarantine(&self, content: ContentHash) -> Result<(), StoreError>;

    /// Reports a content that could not be read, or whose bytes do not match its torrent. Ignored by a store whose
    /// contents nobody verifies.
    fn report_unreadable(&self, _content: ContentHash) {}

    /// Waits until a content is reported, by a caller or by the store itself, and returns it.
    async fn unreadable(&self) -> ContentHash {
        std::future::pending().await
    }

    /// Returns the contents whose hash begins with the byte `part` and that were stored before `before`. Some may have been
    /// touched since.
    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<ContentHash>, StoreError>;

    /// Returns a URL for a direct download from the store, valid for [`LINK_VALIDITY`], with this file name and media type. `None`: the store
    /// has no such URLs.
    async fn link(
        &self,
        _content: ContentHash,
        _file_name: &str,
        _media_type: &str,
    ) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// [`StoreError::Full`] unless there is room for `bytes` more, above the free-space floor. A store without limits
    /// always has room.
    fn check_room(&self, _bytes: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

/// An upload of a content. Its memory is bounded at any size.
#[async_trait]
pub trait StagedUpload: Send {
    /// [`StoreError::Full`] unless there is room for `bytes` more; called as soon as the size is known.
    fn check_room(&self, _bytes: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Discards all bytes: the upload starts from the beginning.
    async fn restart(&mut self) -> Result<(), StoreError>;

    /// Suspends the upload. Returns the token for [`Contents::resume`], which contains no secret.
    async fn suspend(self: Box<Self>) -> Result<UploadToken, StoreError>;

    /// Commits the upload as the content `hash`, touched at `now`, atomically. Returns true if it is new, false if the content
    /// existed already. It survives a power cut when this returns.
    async fn commit(self: Box<Self>, hash: ContentHash, now: Timestamp) -> Result<bool, StoreError>;
}
