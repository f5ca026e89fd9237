//! Content store ([`Contents`]) in S3, with a touch record of each content in DynamoDB.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use domain::{ContentHash, RequestId, Timestamp};
use moka::future::Cache;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ports::{Check, Contents, LINK_VALIDITY, Removal, StagedUpload, StagingEntry, StoreError, Unreadable, UploadToken};

use crate::bucket::{Bucket, object_key, status, unavailable};
use crate::staged::S3Staged;
use crate::touches::Touches;

/// The number of bytes per read from S3. Concurrent readers of the same chunk share one call.
const CHUNK: u64 = 4 << 20;

/// The content store: S3 objects under `content/`.
#[derive(Debug, Clone)]
pub struct S3Contents {
    bucket: Bucket,
    touches: Touches,
    /// `None`: every read is a call.
    chunks: Option<Cache<(ContentHash, u64), Bytes>>,
    unreadable: Arc<Unreadable>,
}

impl S3Contents {
    /// Creates the store from the bucket of the objects, the table of the touch records, and the size of the memory
    /// cache in bytes. With 0 every read is one call of exactly the requested range.
    pub fn new(bucket: Bucket, client: aws_sdk_dynamodb::Client, table: impl Into<String>, memory: u64) -> Self {
        let chunks = (memory > 0).then(|| {
            let chunks = Cache::builder()
                .max_capacity(memory)
                .weigher(|_, chunk: &Bytes| u32::try_from(chunk.len()).unwrap_or(u32::MAX));
            chunks.support_invalidation_closures().build()
        });
        Self { bucket, touches: Touches::new(client, table.into()), chunks, unreadable: Arc::default() }
    }

    /// Returns the response to a ranged GET; `None` if the range starts after the end of the object.
    async fn get(&self, content: ContentHash, offset: u64, length: u64) -> Result<Option<ByteStream>, StoreError> {
        let range = format!("bytes={offset}-{}", offset + length - 1);
        let get = self.bucket.client.get_object().bucket(&self.bucket.name).key(object_key(content)).range(range);
        match get.send().await {
            Ok(output) => Ok(Some(output.body)),
            Err(error) => match status(&error) {
                Some(404) => {
                    self.unreadable.add(content);
                    Err(StoreError::not_found("S3", content))
                }
                Some(416) => Ok(None),
                _ => Err(unavailable(error)),
            },
        }
    }

    /// Fills the buffer with one call.
    async fn read_directly(&self, content: ContentHash, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let mut rest = buffer;
        if let Some(mut body) = self.get(content, offset, rest.len() as u64).await? {
            while let Some(part) = body.try_next().await.map_err(|error| StoreError::unavailable("S3", error))? {
                let (filled, missing) = rest.split_at_mut(part.len().min(rest.len()));
                filled.copy_from_slice(&part[..filled.len()]);
                rest = missing;
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.unreadable.add(content);
        Err(after_end())
    }

    async fn chunk(
        &self,
        chunks: &Cache<(ContentHash, u64), Bytes>,
        content: ContentHash,
        index: u64,
    ) -> Result<Bytes, StoreError> {
        let read = async {
            let Some(body) = self.get(content, index * CHUNK, CHUNK).await? else { return Ok(Bytes::new()) };
            let body = body.collect().await.map_err(|error| StoreError::unavailable("S3", error))?;
            Ok(body.into_bytes())
        };
        let chunk = chunks.try_get_with((content, index), Box::pin(read)).await;
        chunk.map_err(|error: Arc<StoreError>| match &*error {
            StoreError::NotFound { .. } => StoreError::not_found("S3", content),
            error => StoreError::unavailable("S3", error.to_string()),
        })
    }

    /// Removes the chunks of a content from the memory cache.
    fn forget(&self, content: ContentHash) {
        if let Some(chunks) = &self.chunks {
            chunks.invalidate_entries_if(move |(hash, _), _| *hash == content).ok();
        }
    }
}

fn after_end() -> StoreError {
    StoreError::unavailable("S3", "read after the end of the content")
}

/// Returns the `Content-Disposition` header (RFC 6266) with the file name encoded as in RFC 8187.
fn disposition(file_name: &str) -> String {
    format!("attachment; filename*=UTF-8''{}", utf8_percent_encode(file_name, NON_ALPHANUMERIC))
}

#[async_trait]
impl Contents for S3Contents {
    async fn stage(&self, id: RequestId) -> Result<Box<dyn StagedUpload>, StoreError> {
        Ok(Box::new(S3Staged::new(self.bucket.clone(), self.touches.clone(), id)))
    }

    async fn resume(
        &self,
        _id: RequestId,
        suspended: &UploadToken,
    ) -> Result<Option<Box<dyn StagedUpload>>, StoreError> {
        let staged = S3Staged::resume(self.bucket.clone(), self.touches.clone(), suspended).await?;
        Ok(staged.map(|staged| -> Box<dyn StagedUpload> { Box::new(staged) }))
    }

    async fn discard(&self, upload: &UploadToken) -> Result<(), StoreError> {
        S3Staged::discard(&self.bucket, upload).await
    }

    async fn staging(&self) -> Result<Vec<StagingEntry>, StoreError> {
        S3Staged::all(&self.bucket).await
    }

    async fn read_at(&self, content: ContentHash, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let Some(chunks) = &self.chunks else { return self.read_directly(content, offset, buffer).await };
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let chunk = self.chunk(chunks, content, at / CHUNK).await?;
            let from = (at % CHUNK) as usize;
            let part = chunk.get(from..).unwrap_or_default();
            if part.is_empty() {
                return Err(after_end());
            }
            let length = part.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&part[..length]);
            filled += length;
        }
        Ok(())
    }

    async fn size(&self, content: ContentHash) -> Result<Option<u64>, StoreError> {
        self.bucket.size(&object_key(content)).await
    }

    async fn touch(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        self.touches.touch(content, now).await
    }

    async fn remove(&self, content: ContentHash, since: Timestamp) -> Result<Removal, StoreError> {
        if !self.touches.begin_removal(content, since).await? {
            return Ok(Removal::TouchedSince);
        }
        self.bucket.delete_soon(&object_key(content)).await?;
        self.forget(content);
        self.touches.end_removal(content).await?;
        Ok(Removal::Gone)
    }

    async fn quarantine(&self, content: ContentHash) -> Result<(), StoreError> {
        // The record changes first: a touch must not find a deleted content.
        self.touches.begin_quarantine(content).await?;
        self.bucket.delete(&object_key(content)).await?;
        self.forget(content);
        self.touches.end_removal(content).await
    }

    fn report_unreadable(&self, content: ContentHash) {
        self.unreadable.add(content);
    }

    async fn unreadable(&self) -> ContentHash {
        self.unreadable.next().await
    }

    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<ContentHash>, StoreError> {
        let keys = self.bucket.older(&format!("content/{part:02x}/"), before).await?;
        Ok(keys.iter().filter_map(|key| key.rsplit('/').next()?.parse().ok()).collect())
    }

    async fn link(
        &self,
        content: ContentHash,
        file_name: &str,
        media_type: &str,
    ) -> Result<Option<String>, StoreError> {
        let valid =
            PresigningConfig::expires_in(LINK_VALIDITY).map_err(|error| StoreError::unavailable("S3", error))?;
        let get = self.bucket.client.get_object().bucket(&self.bucket.name).key(object_key(content));
        let get = get.response_content_disposition(disposition(file_name)).response_content_type(media_type);
        Ok(Some(get.presigned(valid).await.map_err(unavailable)?.uri().to_owned()))
    }
}

#[async_trait]
impl Check for S3Contents {
    async fn check(&self) -> Result<(), StoreError> {
        self.bucket.check().await
    }
}
