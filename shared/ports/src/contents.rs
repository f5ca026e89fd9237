//! The contents: bytes by the name of their SHA-256.

use async_trait::async_trait;
use bytes::Bytes;
use domain::{ContentHash, RequestId, Timestamp};

use crate::StoreError;

/// Something that is coming in, or was left by a process that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingEntry {
    /// What [`Contents::discard`] deletes it by.
    pub handle: String,
    /// Whose it is, if that can be told.
    pub request: Option<RequestId>,
    /// When it began, or was written last.
    pub since: Timestamp,
    /// Whether it may have been [set aside](StagedUpload::suspend); a store that cannot tell says so of all.
    pub set_aside: bool,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, or never was.
    Gone,
    /// Somebody touched it lately and may be about to refer to it.
    TouchedSince,
}

/// The store of contents. The whole hash is the name, so equal contents are one object and no two
/// others meet.
///
/// Who is about to refer to a content *touches* it first (a commit does), and removal spares what was
/// touched lately: so content is never removed between being found and being referred to.
#[async_trait]
pub trait Contents: Send + Sync {
    /// Begins to take a content in for this request. Dropped uncommitted, it leaves nothing behind.
    async fn stage(&self, id: RequestId) -> Result<Box<dyn StagedUpload>, StoreError>;

    /// Goes on with a content that was [set aside](StagedUpload::suspend), from that point; `None` if it is not there any
    /// more. It stays set aside as it was until this is committed or dropped: should the process be killed, it can be
    /// gone on with again.
    async fn resume(&self, id: RequestId, suspended: &str) -> Result<Option<Box<dyn StagedUpload>>, StoreError>;

    /// Deletes what was set aside, or what [`Contents::staging`] names; nothing there is fine.
    async fn discard(&self, suspended: &str) -> Result<(), StoreError>;

    /// All that is coming in, beyond what is in memory, was set aside, or was left.
    async fn staging(&self) -> Result<Vec<StagingEntry>, StoreError>;

    /// Fills `buffer` with the bytes from `offset` on; [`StoreError::NotFound`] if there is no such
    /// content, and an error if it ends before the buffer does.
    async fn read_at(&self, content: ContentHash, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError>;

    /// Its size in bytes, if it is there.
    async fn size(&self, content: ContentHash) -> Result<Option<u64>, StoreError>;

    /// Notes that it is about to be referred to; false if it is not there.
    async fn touch(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError>;

    /// Removes it, and what a commit that never ended has left of it, unless it was touched at or after `since`.
    async fn remove(&self, content: ContentHash, since: Timestamp) -> Result<Removal, StoreError>;

    /// Moves a damaged content out of the way, to where an operator finds it, or deletes it. Nothing there is fine.
    async fn quarantine(&self, content: ContentHash) -> Result<(), StoreError>;

    /// Waits until a content could not be read, and returns it. A store that keeps its contents intact by itself never
    /// returns.
    async fn unreadable(&self) -> ContentHash {
        std::future::pending().await
    }

    /// The contents whose hash begins with `part` and that were stored before `before`; some may have been touched
    /// since.
    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<ContentHash>, StoreError>;

    /// A URL that the content can be had from for a while, without this service in between: saved as `file_name`,
    /// told to be of `media_type`. `None`: this store has none.
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

    /// Checks that the store can be written to and read.
    async fn check(&self) -> Result<(), StoreError>;
}

/// A content that is coming in. Memory stays bounded at any size.
#[async_trait]
pub trait StagedUpload: Send {
    /// [`StoreError::Full`] unless there is room for `bytes` more; called as soon as the size is known.
    fn check_room(&self, _bytes: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Appends.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Forgets what was written: the content begins anew.
    async fn restart(&mut self) -> Result<(), StoreError>;

    /// Sets what was written aside, to be gone on with by what this returns: a text without secrets.
    async fn suspend(self: Box<Self>) -> Result<String, StoreError>;

    /// Makes it the content `hash`, touched `now`, whole or not at all; true if it is new, false if the
    /// same content was there already. When this returns, it survives a power cut.
    async fn commit(self: Box<Self>, hash: ContentHash, now: Timestamp) -> Result<bool, StoreError>;
}
