//! Objects of one S3 bucket.

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

/// Tries of a conditional put that another's is in the way of.
const TRIES: u32 = 10;

/// How long a call may be tried that must not come late.
const DELETION: Duration = Duration::from_secs(30);

/// A bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
}

/// A small object.
pub(crate) struct Object {
    pub bytes: Vec<u8>,
    /// What was said of it when it was stored.
    pub metadata: HashMap<String, String>,
}

/// A call that S3 did not answer as it should.
pub(crate) fn unavailable<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match error.code().map(|code| format!("{code}: {}", error.message().unwrap_or_default())) {
        Some(text) => StoreError::unavailable("S3", text),
        None => StoreError::unavailable("S3", DisplayErrorContext(error).to_string()),
    }
}

/// The HTTP status of a refused call.
pub(crate) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// What S3 says of a time; of what it says nothing, long ago.
fn time(at: Option<DateTime>) -> Timestamp {
    Timestamp::from_millis(at.and_then(|at| at.to_millis().ok()).unwrap_or_default())
}

impl Bucket {
    /// The bucket of this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// Stores an object, whatever was there.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes));
        put.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.map_err(unavailable).map(drop)
    }

    /// Stores an object, with a name and value of metadata, if there is none of this key; whether it did. S3 checks that
    /// the bytes came whole.
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
                    // Another put of the same key is under way, or was just deleted.
                    Some(409) => tokio::time::sleep(std::time::Duration::from_millis(20 << attempt.min(6))).await,
                    _ => return Err(unavailable(error)),
                },
            }
        }
        Err(StoreError::unavailable("S3", "another put of the same object is always in the way"))
    }

    /// A small object, if it is there.
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

    /// The size of an object in bytes, if it is there.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.client.head_object().bucket(&self.name).key(key).send().await {
            Ok(output) => Ok(output.content_length.map(|length| length as u64)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Deletes an object; one that is not there is fine.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.client.delete_object().bucket(&self.name).key(key).send().await.map_err(unavailable).map(drop)
    }

    /// As [`Bucket::delete`], and not tried for longer than half a minute: what comes later might delete what is there
    /// again.
    pub(crate) async fn delete_soon(&self, key: &str) -> Result<(), StoreError> {
        let timeout = TimeoutConfig::builder().operation_timeout(DELETION).build();
        let delete = self.client.delete_object().bucket(&self.name).key(key).customize();
        delete.config_override(Config::builder().timeout_config(timeout)).send().await.map_err(unavailable).map(drop)
    }

    /// Aborts a multipart upload; one that is not there is fine.
    pub(crate) async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreError> {
        let abort = self.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(upload);
        match abort.send().await {
            Err(error) if status(&error) != Some(404) => Err(unavailable(error)),
            _ => Ok(()),
        }
    }

    /// The keys with this prefix, and when each was stored.
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

    /// The keys with this prefix that were stored before `before`.
    pub(crate) async fn older(&self, prefix: &str, before: Timestamp) -> Result<Vec<String>, StoreError> {
        let all = self.list(prefix).await?;
        Ok(all.into_iter().filter(|(_, at)| *at < before).map(|(key, _)| key).collect())
    }

    /// The multipart uploads under way whose key has this prefix: keys, ids, and when each began.
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

    /// Whether the bucket answers.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.client.head_bucket().bucket(&self.name).send().await.map_err(unavailable).map(drop)
    }
}

/// The key of the object of a content.
pub(crate) fn object_key(hash: ContentHash) -> String {
    let hash = hash.to_string();
    format!("content/{}/{}/{hash}", &hash[..2], &hash[2..4])
}
