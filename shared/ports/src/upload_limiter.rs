//! The upload limit that webseeds share with the seeder's peers.

use async_trait::async_trait;

/// The limit on what this service uploads (`TORRENT__UPLOAD_RATE_LIMIT`).
#[async_trait]
pub trait UploadLimiter: Send + Sync {
    /// Waits until a webseed may send this many bytes.
    async fn take(&self, bytes: u64);
}
