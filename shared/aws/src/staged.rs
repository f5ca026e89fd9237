//! A content that is coming in: in memory as long as it is small, beyond that in parts under `staging/`.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use domain::{ContentHash, RequestId, Timestamp};
use ports::{Staged, StoreError};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bucket::{Bucket, unavailable};
use crate::contents::{S3Contents, object_key};

/// Bytes a part: what is held in memory of one, and the largest content that is put at once. S3 takes 10,000
/// parts, so this is enough for 156 GiB.
pub(crate) const PART: usize = 16 << 20;

/// Parts that are under way at once; the next bytes wait.
const AT_ONCE: usize = 2;

/// How often a removal is waited for that is in the way.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes that S3 copies with one call, at the most.
const COPY_AT_ONCE: u64 = 5 << 30;

/// Bytes of each call that copies part of a larger object.
const COPY_PART: u64 = 1 << 30;

pub(crate) struct S3Staged {
    contents: S3Contents,
    key: String,
    buffer: BytesMut,
    size: u64,
    upload: Option<Upload>,
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

impl S3Staged {
    pub fn new(contents: S3Contents, id: RequestId) -> Self {
        // Two workers may be at one request for a moment, when a lease runs out.
        let key = format!("staging/{id}-{:08x}", rand::random::<u32>());
        Self { contents, key, buffer: BytesMut::new(), size: 0, upload: None }
    }

    async fn upload_buffer(&mut self) -> Result<(), StoreError> {
        let part = self.buffer.split().freeze();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(Upload::start(self.contents.bucket.clone(), self.key.clone()).await?),
        };
        upload.part(part).await
    }
}

#[async_trait]
impl Staged for S3Staged {
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
        self.buffer.clear();
        self.size = 0;
        Ok(())
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
            // Should this not be reached, the sweep does it, and behind that the bucket's lifecycle.
            self.contents.bucket.delete(&self.key).await?;
        }
        committed
    }
}

impl S3Staged {
    /// Puts the object in place and notes that it was touched. In this order: who finds the record has the object.
    async fn place(&self, hash: ContentHash, now: Timestamp, small: Option<Bytes>) -> Result<bool, StoreError> {
        let (contents, key) = (&self.contents, object_key(hash));
        let mut new = false;
        loop {
            new |= match &small {
                Some(bytes) => contents.bucket.put_if_absent(&key, bytes.clone()).await?,
                None => self.copy(&key).await?,
            };
            if contents.committed(hash, now).await? {
                return Ok(new);
            }
            // It is just being removed: then it is put again.
            sleep(PAUSE).await;
        }
    }

    /// Copies the staged object inside S3; false if the same content is there already.
    async fn copy(&self, key: &str) -> Result<bool, StoreError> {
        let bucket = &self.contents.bucket;
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

    /// Sends a part as soon as there is room.
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let number = self.make_room().await?;
        let call = self.bucket.client.upload_part().bucket(&self.bucket.name).key(&self.key).upload_id(&self.id);
        let call = call.part_number(number).body(ByteStream::from(bytes));
        self.running.spawn(async move {
            let part = call.send().await.map_err(unavailable)?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).build())
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
            Ok(CompletedPart::builder().part_number(number).set_e_tag(part.and_then(|part| part.e_tag)).build())
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

    async fn complete(mut self) -> Result<(), StoreError> {
        while !self.running.is_empty() {
            self.await_one().await?;
        }
        self.done.sort_by_key(|part| part.part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.done))).build();
        let call = self.bucket.client.complete_multipart_upload().bucket(&self.bucket.name).key(&self.key);
        call.upload_id(&self.id).multipart_upload(parts).send().await.map_err(unavailable)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.running.abort_all();
        let abort = self.bucket.client.abort_multipart_upload().bucket(&self.bucket.name).key(&self.key);
        let abort = abort.upload_id(&self.id);
        // Should the process end before it is done, the sweep does it, and behind that the bucket's lifecycle.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = abort.send().await.map_err(unavailable) {
                    tracing::warn!(%error, "an upload was not aborted");
                }
            });
        }
    }
}
