//! A content that is coming in: in memory as long as it is small, beyond that in parts under `staging/`.

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

/// Bytes a part: what is held in memory of one, and the largest content that is put at once. S3 takes 10,000
/// parts, so this is enough for 156 GiB.
pub(crate) const PART: usize = 16 << 20;

/// Parts that are under way at once; the next bytes wait.
const AT_ONCE: usize = 2;

/// Where everything is that is coming in.
const STAGING: &str = "staging/";

/// How often a removal is waited for that is in the way.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes that S3 copies with one call, at the most: it would take 5 GiB, and longer than a call may.
const COPY_AT_ONCE: u64 = COPY_PART;

/// S3 may take minutes to put many parts together.
const COMPLETION: Duration = Duration::from_secs(300);

/// Bytes of each call that copies part of a larger object.
const COPY_PART: u64 = 256 << 20;

pub(crate) struct S3Staged {
    bucket: Bucket,
    touches: Touches,
    key: String,
    buffer: BytesMut,
    size: u64,
    upload: Option<Upload>,
    tails: Tails,
}

/// What is set aside: the upload with its first parts, and what came after them as an object of its own.
#[derive(Default, Serialize, Deserialize)]
struct Suspended {
    key: String,
    upload: Option<String>,
    parts: u32,
    /// Objects that are to be deleted with it.
    tails: Vec<String>,
    /// Bytes of the last of them, if it belongs to the content.
    tail: u64,
}

/// Objects that hold ends of contents that were set aside. Dropped, they are deleted.
struct Tails {
    bucket: Bucket,
    keys: Vec<String>,
}

/// A multipart upload. Dropped, it is aborted.
struct Upload {
    bucket: Bucket,
    key: String,
    id: String,
    next: i32,
    running: JoinSet<Result<CompletedPart, StoreError>>,
    done: Vec<CompletedPart>,
    finished: bool,
}

/// What completes an upload with a part: S3 asks for whatever checksum it was sent with.
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
        // Two workers may be at one request for a moment, when a lease runs out.
        let key = format!("{STAGING}{id}-{:08x}", rand::random::<u32>());
        let tails = Tails { bucket: bucket.clone(), keys: vec![] };
        Self { bucket, touches, key, buffer: BytesMut::new(), size: 0, upload: None, tails }
    }

    /// Goes on with what is set aside, if it is there as it was.
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
        let size = u64::from(suspended.parts) * PART as u64 + suspended.tail;
        let tails = Tails { bucket: bucket.clone(), keys: suspended.tails };
        Ok(Some(Self { bucket, touches, key: suspended.key, buffer, size, upload, tails }))
    }

    /// Deletes what is set aside.
    pub async fn discard(bucket: &Bucket, upload: &UploadToken) -> Result<(), StoreError> {
        let Some(suspended) = Suspended::read(upload.as_str()) else { return Ok(()) };
        if let Some(id) = &suspended.upload {
            bucket.abort(&suspended.key, id).await?;
        }
        Tails { bucket: bucket.clone(), keys: suspended.tails }.delete().await
    }

    /// All that is under `staging/`. Nothing there tells what was set aside.
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
        // The upload first: it is waited for anyway.
        let mut suspended = Suspended { key: self.key.clone(), ..Suspended::default() };
        if let Some(upload) = &mut self.upload {
            upload.await_all().await?;
            suspended.parts = upload.done.len() as u32;
            suspended.upload = Some(upload.id.clone());
        }
        let tail = self.buffer.split().freeze();
        if !tail.is_empty() {
            suspended.tail = tail.len() as u64;
            // A new name each time: what was set aside before stays as it is until the row says that this is.
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
            // Should it stay, the sweep deletes it, and behind that the bucket's lifecycle.
            self.tails.keys.push(self.key.clone());
        }
        let nothing = Tails { bucket: self.bucket.clone(), keys: vec![] };
        if let Err(error) = std::mem::replace(&mut self.tails, nothing).delete().await {
            warn!(%error, "what was staged is left to the sweep");
        }
        committed
    }
}

impl S3Staged {
    /// Puts the object in place and notes that it was touched. In this order: who finds the record has the object.
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
            // It is just being removed: then it is put again.
            sleep(PAUSE).await;
        }
    }

    /// Copies the staged object inside S3; false if the same content is there already.
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
        for start in (0..self.size).step_by(COPY_PART as usize) {
            let range = format!("bytes={start}-{}", (start + COPY_PART).min(self.size) - 1);
            upload.copy_part(source.clone(), range).await?;
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

    /// An upload that has these parts, each a whole [`PART`], if it is still there.
    async fn resume(bucket: Bucket, key: &str, id: &str, parts: u32) -> Result<Option<Self>, StoreError> {
        let list = bucket.client.list_parts().bucket(&bucket.name).key(key).upload_id(id);
        let mut pages = list.into_paginator().send();
        let mut done = vec![];
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if status(&error) == Some(404) => return Ok(None),
                page => page.map_err(unavailable)?,
            };
            for part in page.parts.unwrap_or_default() {
                let number = part.part_number.unwrap_or_default();
                if (1..=parts as i32).contains(&number) && part.size == Some(PART as i64) {
                    done.push(completed!(number, part));
                }
            }
        }
        if done.len() != parts as usize {
            return Ok(None);
        }
        let (key, id, next) = (key.to_owned(), id.to_owned(), parts as i32 + 1);
        Ok(Some(Self { bucket, key, id, next, running: JoinSet::new(), done, finished: false }))
    }

    /// Sends a part as soon as there is room.
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

    /// Copies a part of another object as soon as there is room.
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

/// Does it on its own. Should the process end before, the sweep does it, and behind that the bucket's lifecycle.
fn clean_up(work: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            if let Err(error) = work.await {
                tracing::warn!(%error, "what was staged was not deleted");
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
