//! Staged upload of a content: a small one in memory, a large one as a multipart upload under `staging/`.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, CopyPartResult};
use bytes::{Bytes, BytesMut};
use domain::{ContentHash, RequestId, Timestamp};
use ports::{StagedUpload, StagingEntry, StoreError, UploadToken};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use crate::bucket::{Bucket, object_key, status, unavailable};
use crate::touches::Touches;

/// The size of a part in bytes. It is also the maximum number of buffered bytes of a content, and the maximum size of
/// a content that is stored with a single put. S3 allows 10,000 parts, so a content may have up to 156 GiB.
pub(crate) const PART: usize = 16 << 20;

/// The maximum number of concurrent part uploads. Further writes wait.
const AT_ONCE: usize = 2;

/// The key prefix of staged uploads.
const STAGING: &str = "staging/";

/// The interval at which a commit retries while the same content is being removed.
const PAUSE: Duration = Duration::from_millis(100);

/// The maximum size in bytes of an object that is copied with one call. S3 allows 5 GiB, but that takes longer than
/// the timeout of a call.
const COPY_AT_ONCE: u64 = COPY_PART;

/// The timeout of the completion of a multipart upload. S3 may take minutes to assemble many parts.
const COMPLETION: Duration = Duration::from_secs(300);

/// The number of bytes per call when a larger object is copied in parts.
const COPY_PART: u64 = 256 << 20;

/// A staged upload to S3.
pub(crate) struct S3Staged {
    bucket: Bucket,
    touches: Touches,
    key: String,
    buffer: BytesMut,
    size: u64,
    upload: Option<Upload>,
    tails: Tails,
}

/// The state of a suspended upload: the multipart upload with its parts, and the bytes after them (the tail) as a
/// separate object.
#[derive(Default, Serialize, Deserialize)]
struct Suspended {
    key: String,
    upload: Option<String>,
    parts: usize,
    /// The keys of tail objects that must be deleted with the upload.
    tails: Vec<String>,
    /// The size in bytes of the last tail object, if it belongs to the content. Else 0.
    tail: u64,
}

/// The tail objects of a suspended upload. Dropping it deletes them.
struct Tails {
    bucket: Bucket,
    keys: Vec<String>,
}

/// A multipart upload. Dropping it aborts the upload unless it is finished.
struct Upload {
    bucket: Bucket,
    key: String,
    id: String,
    next: i32,
    running: JoinSet<Result<CompletedPart, StoreError>>,
    done: Vec<CompletedPart>,
    finished: bool,
}

/// Returns the `CompletedPart` of an uploaded part. S3 requires the same checksums with which the part was sent.
macro_rules! completed {
    ($number:expr, $part:expr) => {{
        let part = $part;
        CompletedPart::builder()
            .part_number($number)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32)
            .set_checksum_crc32_c(part.checksum_crc32_c)
            .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
            .set_checksum_sha1(part.checksum_sha1)
            .set_checksum_sha256(part.checksum_sha256)
            .build()
    }};
}

impl S3Staged {
    pub fn new(bucket: Bucket, touches: Touches, id: RequestId) -> Self {
        // A random suffix: two workers may briefly work on the same request when a lease expires.
        let key = format!("{STAGING}{id}-{:08x}", rand::random::<u32>());
        let tails = Tails { bucket: bucket.clone(), keys: vec![] };
        Self { bucket, touches, key, buffer: BytesMut::new(), size: 0, upload: None, tails }
    }

    /// Resumes a suspended upload. `None` if a part or the tail is missing or has changed.
    pub async fn resume(bucket: Bucket, touches: Touches, suspended: &UploadToken) -> Result<Option<Self>, StoreError> {
        let Some(suspended) = Suspended::read(suspended.as_str()) else { return Ok(None) };
        let mut buffer = BytesMut::new();
        if suspended.tail > 0 {
            let tail = match suspended.tails.last() {
                Some(key) => bucket.get(key).await?.map(|object| object.bytes).unwrap_or_default(),
                None => vec![],
            };
            if tail.len() as u64 != suspended.tail {
                return Ok(None);
            }
            buffer.extend_from_slice(&tail);
        }
        let upload = match &suspended.upload {
            None => None,
            Some(id) => match Upload::resume(bucket.clone(), &suspended.key, id, suspended.parts).await? {
                Some(upload) => Some(upload),
                None => return Ok(None),
            },
        };
        let size = suspended.parts as u64 * PART as u64 + suspended.tail;
        let tails = Tails { bucket: bucket.clone(), keys: suspended.tails };
        Ok(Some(Self { bucket, touches, key: suspended.key, buffer, size, upload, tails }))
    }

    /// Deletes a suspended upload.
    pub async fn discard(bucket: &Bucket, upload: &UploadToken) -> Result<(), StoreError> {
        let Some(suspended) = Suspended::read(upload.as_str()) else { return Ok(()) };
        if let Some(id) = &suspended.upload {
            bucket.abort(&suspended.key, id).await?;
        }
        Tails { bucket: bucket.clone(), keys: suspended.tails }.delete().await
    }

    /// Returns all entries under `staging/`. The keys do not show whether an upload is suspended.
    pub async fn all(bucket: &Bucket) -> Result<Vec<StagingEntry>, StoreError> {
        let mut found = vec![];
        for (key, id, since) in bucket.uploads(STAGING).await? {
            found.push(Suspended { key, upload: Some(id), ..Suspended::default() }.staging(since)?);
        }
        for (key, since) in bucket.list(STAGING).await? {
            found.push(Suspended { tails: vec![key.clone()], key, ..Suspended::default() }.staging(since)?);
        }
        Ok(found)
    }

    async fn upload_buffer(&mut self) -> Result<(), StoreError> {
        let part = self.buffer.split().freeze();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(Upload::start(self.bucket.clone(), self.key.clone()).await?),
        };
        upload.part(part).await
    }
}

#[async_trait]
impl StagedUpload for S3Staged {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.size += bytes.len() as u64;
        let mut bytes = bytes;
        while self.buffer.len() + bytes.len() > PART {
            let fits = bytes.split_to(PART - self.buffer.len());
            self.buffer.extend_from_slice(&fits);
            self.upload_buffer().await?;
        }
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), StoreError> {
        self.upload = None;
        self.tails = Tails { bucket: self.bucket.clone(), keys: vec![] };
        self.buffer.clear();
        self.size = 0;
        Ok(())
    }

    async fn suspend(mut self: Box<Self>) -> Result<UploadToken, StoreError> {
        // Waits for the running parts before anything is written.
        let mut suspended = Suspended { key: self.key.clone(), ..Suspended::default() };
        if let Some(upload) = &mut self.upload {
            upload.await_all().await?;
            suspended.parts = upload.done.len();
            suspended.upload = Some(upload.id.clone());
        }
        let tail = self.buffer.split().freeze();
        if !tail.is_empty() {
            suspended.tail = tail.len() as u64;
            // A new key each time: the earlier tail must stay unchanged until the row refers to the new one.
            let key = format!("{}-{:08x}", self.key, rand::random::<u32>());
            self.tails.keys.push(key.clone());
            self.bucket.put(&key, tail).await?;
        }
        if let Some(upload) = &mut self.upload {
            upload.finished = true;
        }
        suspended.tails = std::mem::take(&mut self.tails.keys);
        suspended.write()
    }

    async fn commit(mut self: Box<Self>, hash: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        if self.upload.is_some() && !self.buffer.is_empty() {
            self.upload_buffer().await?;
        }
        let small = self.buffer.split().freeze();
        let large = self.upload.take();
        let staged = large.is_some();
        if let Some(upload) = large {
            upload.complete().await?;
        }
        let committed = self.place(hash, now, (!staged).then_some(small)).await;
        if staged {
            // If the deletion fails, the sweep deletes the object; if that fails too, the bucket's lifecycle rule
            // does.
            self.tails.keys.push(self.key.clone());
        }
        let nothing = Tails { bucket: self.bucket.clone(), keys: vec![] };
        if let Err(error) = std::mem::replace(&mut self.tails, nothing).delete().await {
            warn!(%error, "staged objects not deleted, left to the sweep");
        }
        committed
    }
}

impl S3Staged {
    /// Stores the object under its final key, then writes its touch record. This order guarantees that a content with
    /// a record has an object. Returns whether the content is new.
    async fn place(&self, hash: ContentHash, now: Timestamp, small: Option<Bytes>) -> Result<bool, StoreError> {
        let key = object_key(hash);
        let mut new = false;
        loop {
            new |= match &small {
                Some(bytes) => self.bucket.put_if_absent(&key, bytes.clone(), None).await?,
                None => self.copy(&key).await?,
            };
            if self.touches.commit(hash, now).await? {
                return Ok(new);
            }
            // The content is being removed: it must be stored again afterwards.
            sleep(PAUSE).await;
        }
    }

    /// Copies the staged object to its final key within S3. Returns false if the content already exists.
    async fn copy(&self, key: &str) -> Result<bool, StoreError> {
        let bucket = &self.bucket;
        if bucket.size(key).await?.is_some() {
            return Ok(false);
        }
        let source = format!("{}/{}", bucket.name, self.key);
        if self.size <= COPY_AT_ONCE {
            let copy = bucket.client.copy_object().bucket(&bucket.name).key(key).copy_source(source);
            copy.send().await.map_err(unavailable)?;
            return Ok(true);
        }
        let mut upload = Upload::start(bucket.clone(), key.to_owned()).await?;
        let mut start = 0;
        while start < self.size {
            let end = (start + COPY_PART).min(self.size);
            upload.copy_part(source.clone(), format!("bytes={start}-{}", end - 1)).await?;
            start = end;
        }
        upload.complete().await?;
        Ok(true)
    }
}

impl Upload {
    async fn start(bucket: Bucket, key: String) -> Result<Self, StoreError> {
        let create = bucket.client.create_multipart_upload().bucket(&bucket.name).key(&key);
        let id = create.send().await.map_err(unavailable)?.upload_id.unwrap_or_default();
        Ok(Self { bucket, key, id, next: 1, running: JoinSet::new(), done: vec![], finished: false })
    }

    /// Returns the upload with its first `parts` parts, each of [`PART`] bytes. `None` if the upload or a part does
    /// not exist.
    async fn resume(bucket: Bucket, key: &str, id: &str, parts: usize) -> Result<Option<Self>, StoreError> {
        let list = bucket.client.list_parts().bucket(&bucket.name).key(key).upload_id(id);
        let mut pages = list.into_paginator().send();
        let mut done = vec![];
        let Some(next) = i32::try_from(parts).ok().and_then(|parts| parts.checked_add(1)) else { return Ok(None) };
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if status(&error) == Some(404) => return Ok(None),
                page => page.map_err(unavailable)?,
            };
            for part in page.parts.unwrap_or_default() {
                let number = part.part_number.unwrap_or_default();
                let size = part.size.and_then(|size| usize::try_from(size).ok());
                if (1..next).contains(&number) && size == Some(PART) {
                    done.push(completed!(number, part));
                }
            }
        }
        if done.len() != parts {
            return Ok(None);
        }
        let (key, id) = (key.to_owned(), id.to_owned());
        Ok(Some(Self { bucket, key, id, next, running: JoinSet::new(), done, finished: false }))
    }

    /// Starts to upload a part, after waiting for a free slot.
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let number = self.make_room().await?;
        let call = self.bucket.client.upload_part().bucket(&self.bucket.name).key(&self.key).upload_id(&self.id);
        let call = call.part_number(number).body(ByteStream::from(bytes));
        self.running.spawn(async move {
            let part = call.send().await.map_err(unavailable)?;
            Ok(completed!(number, part))
        });
        Ok(())
    }

    /// Starts to copy a range of another object as a part, after waiting for a free slot.
    async fn copy_part(&mut self, source: String, range: String) -> Result<(), StoreError> {
        let number = self.make_room().await?;
        let call = self.bucket.client.upload_part_copy().bucket(&self.bucket.name).key(&self.key).upload_id(&self.id);
        let call = call.part_number(number).copy_source(source).copy_source_range(range);
        self.running.spawn(async move {
            let part = call.send().await.map_err(unavailable)?.copy_part_result;
            Ok(completed!(number, part.unwrap_or_else(|| CopyPartResult::builder().build())))
        });
        Ok(())
    }

    async fn make_room(&mut self) -> Result<i32, StoreError> {
        while self.running.len() >= AT_ONCE {
            self.await_one().await?;
        }
        let number = self.next;
        self.next += 1;
        Ok(number)
    }

    async fn await_one(&mut self) -> Result<(), StoreError> {
        if let Some(part) = self.running.join_next().await {
            self.done.push(part.map_err(|error| StoreError::unavailable("S3", error))??);
        }
        Ok(())
    }

    async fn await_all(&mut self) -> Result<(), StoreError> {
        while !self.running.is_empty() {
            self.await_one().await?;
        }
        Ok(())
    }

    async fn complete(mut self) -> Result<(), StoreError> {
        self.await_all().await?;
        self.done.sort_by_key(|part| part.part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.done))).build();
        let call = self.bucket.client.complete_multipart_upload().bucket(&self.bucket.name).key(&self.key);
        let call = call.upload_id(&self.id).multipart_upload(parts).customize();
        let timeout = TimeoutConfig::builder().operation_attempt_timeout(COMPLETION).build();
        call.config_override(Config::builder().timeout_config(timeout)).send().await.map_err(unavailable)?;
        self.finished = true;
        Ok(())
    }
}

impl Suspended {
    fn read(text: &str) -> Option<Self> {
        let suspended: Self = serde_json::from_str(text).ok()?;
        let ours = suspended.tails.iter().chain([&suspended.key]).all(|key| key.starts_with(STAGING));
        ours.then_some(suspended)
    }

    fn write(&self) -> Result<UploadToken, StoreError> {
        let text = serde_json::to_string(self).map_err(|error| StoreError::unavailable("S3", error))?;
        Ok(UploadToken::new(text))
    }

    fn staging(&self, since: Timestamp) -> Result<StagingEntry, StoreError> {
        let request = self.key.strip_prefix(STAGING).and_then(|name| name.get(..RequestId::LENGTH)?.parse().ok());
        Ok(StagingEntry { token: self.write()?, request, since, may_be_suspended: true })
    }
}

impl Tails {
    async fn delete(mut self) -> Result<(), StoreError> {
        delete(self.bucket.clone(), std::mem::take(&mut self.keys)).await
    }
}

async fn delete(bucket: Bucket, keys: Vec<String>) -> Result<(), StoreError> {
    for key in keys {
        bucket.delete(&key).await?;
    }
    Ok(())
}

impl Drop for Tails {
    fn drop(&mut self) {
        let (bucket, keys) = (self.bucket.clone(), std::mem::take(&mut self.keys));
        if !keys.is_empty() {
            clean_up(delete(bucket, keys));
        }
    }
}

/// Runs the clean-up in the background. If the process ends before it finishes, the sweep deletes the objects; if
/// that fails too, the bucket's lifecycle rule does.
fn clean_up(work: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            if let Err(error) = work.await {
                tracing::warn!(%error, "staged objects not deleted");
            }
        });
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.running.abort_all();
        let (bucket, key, id) = (self.bucket.clone(), self.key.clone(), self.id.clone());
        clean_up(async move { bucket.abort(&key, &id).await });
    }
}
