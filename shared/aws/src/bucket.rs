//! S3 bucket: conditional puts, reads, deletes and lists of objects.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::Bytes;
use domain::{ContentHash, Timestamp};
use ports::StoreError;

/// The maximum number of tries of a conditional put that conflicts with another one.
const TRIES: u32 = 10;

/// The timeout of a deletion that must not happen late, all retries included.
const DELETION: Duration = Duration::from_secs(30);

/// An S3 bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
}

/// A small object with its metadata.
pub(crate) struct Object {
    pub bytes: Vec<u8>,
    /// The user-defined metadata.
    pub metadata: HashMap<String, String>,
}

/// Converts the error of a failed S3 call.
pub(crate) fn unavailable<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match error.code().map(|code| format!("{code}: {}", error.message().unwrap_or_default())) {
        Some(text) => StoreError::unavailable("S3", text),
        None => StoreError::unavailable("S3", DisplayErrorContext(error).to_string()),
    }
}

/// Returns the HTTP status of a failed call, if there was a response.
pub(crate) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// Converts a time of S3. A missing time is 1970.
fn time(at: Option<DateTime>) -> Timestamp {
    Timestamp::from_millis(at.and_then(|at| at.to_millis().ok()).unwrap_or_default())
}

impl Bucket {
    /// Creates a handle of the bucket with this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// Stores an object. Replaces an existing one.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes));
        put.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.map_err(unavailable).map(drop)
    }

    /// Stores an object if the key does not exist, with an optional name and value of metadata. Returns whether it
    /// stored the object. S3 verifies the SHA-256 of the bytes.
    pub(crate) async fn put_if_absent(
        &self,
        key: &str,
        bytes: Bytes,
        metadata: Option<(&str, String)>,
    ) -> Result<bool, StoreError> {
        for attempt in 0..TRIES {
            let mut put = self.client.put_object().bucket(&self.name).key(key).if_none_match("*");
            if let Some((name, value)) = &metadata {
                put = put.metadata(*name, value);
            }
            let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).body(ByteStream::from(bytes.clone()));
            match put.send().await {
                Ok(_) => return Ok(true),
                Err(error) => match status(&error) {
                    Some(412) => return Ok(false),
                    // Another put or delete of the same key is in progress.
                    Some(409) => tokio::time::sleep(std::time::Duration::from_millis(20 << attempt.min(6))).await,
                    _ => return Err(unavailable(error)),
                },
            }
        }
        Err(StoreError::unavailable("S3", "too many concurrent puts of the same object"))
    }

    /// Returns a small object, or `None` if it does not exist.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(output) => {
                let body = output.body.collect().await.map_err(|error| StoreError::unavailable("S3", error))?;
                Ok(Some(Object { bytes: body.to_vec(), metadata: output.metadata.unwrap_or_default() }))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Returns the size of an object in bytes, or `None` if it does not exist.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.client.head_object().bucket(&self.name).key(key).send().await {
            Ok(output) => Ok(output.content_length.and_then(|length| length.try_into().ok())),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Deletes an object. Succeeds if it does not exist.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.client.delete_object().bucket(&self.name).key(key).send().await.map_err(unavailable).map(drop)
    }

    /// Deletes an object within half a minute, or fails. A later deletion could delete an object that was stored
    /// again.
    pub(crate) async fn delete_soon(&self, key: &str) -> Result<(), StoreError> {
        let timeout = TimeoutConfig::builder().operation_timeout(DELETION).build();
        let delete = self.client.delete_object().bucket(&self.name).key(key).customize();
        delete.config_override(Config::builder().timeout_config(timeout)).send().await.map_err(unavailable).map(drop)
    }

    /// Aborts a multipart upload. Succeeds if it does not exist.
    pub(crate) async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreError> {
        let abort = self.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(upload);
        match abort.send().await {
            Err(error) if status(&error) != Some(404) => Err(unavailable(error)),
            _ => Ok(()),
        }
    }

    /// Returns the keys with this prefix, each with the time at which it was stored.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let mut pages = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
        let mut found = vec![];
        while let Some(page) = pages.next().await {
            for object in page.map_err(unavailable)?.contents.unwrap_or_default() {
                let at = time(object.last_modified);
                found.extend(object.key.map(|key| (key, at)));
            }
        }
        Ok(found)
    }

    /// Returns the keys with this prefix that were stored before `before`.
    pub(crate) async fn older(&self, prefix: &str, before: Timestamp) -> Result<Vec<String>, StoreError> {
        let all = self.list(prefix).await?;
        Ok(all.into_iter().filter(|(_, at)| *at < before).map(|(key, _)| key).collect())
    }

    /// Returns the unfinished multipart uploads with this key prefix: key, upload id and start time of each.
    pub(crate) async fn uploads(&self, prefix: &str) -> Result<Vec<(String, String, Timestamp)>, StoreError> {
        let mut found = vec![];
        let (mut key, mut id) = (None, None);
        loop {
            let list = self.client.list_multipart_uploads().bucket(&self.name).prefix(prefix);
            let page = list.set_key_marker(key).set_upload_id_marker(id).send().await.map_err(unavailable)?;
            for upload in page.uploads.unwrap_or_default() {
                let at = time(upload.initiated);
                found.extend(upload.key.zip(upload.upload_id).map(|(key, id)| (key, id, at)));
            }
            if page.is_truncated != Some(true) {
                return Ok(found);
            }
            (key, id) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }

    /// Checks that the bucket is accessible.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.client.head_bucket().bucket(&self.name).send().await.map_err(unavailable).map(drop)
    }
}

/// Returns the object key of a content.
pub(crate) fn object_key(hash: ContentHash) -> String {
    let hash = hash.to_string();
    format!("content/{}/{}/{hash}", &hash[..2], &hash[2..4])
}
