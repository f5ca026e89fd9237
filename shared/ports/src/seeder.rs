//! The seeder's session, as the pipeline sees it.

use std::net::SocketAddr;

use async_trait::async_trait;
use domain::{ContentHash, InfoHash};

/// Why a torrent is not seeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The torrent itself is no good: trying again does not help.
    #[error("the seeder refused the torrent: {0}")]
    Refused(String),
    /// The session has ended or does not answer.
    #[error("the seeder does not answer")]
    Unavailable,
}

/// Holds torrents in a BitTorrent session.
#[async_trait]
pub trait Seeder: Send + Sync {
    /// Whether the torrent is in the session.
    fn has(&self, infohash: InfoHash) -> bool;

    /// Seeds the torrent of this metainfo file from this content, and returns when it is in the session. One that is
    /// there already is fine.
    async fn add(
        &self,
        infohash: InfoHash,
        content: ContentHash,
        metainfo: &[u8],
        resume: &[u8],
    ) -> Result<(), SeedError>;

    /// Connects to a peer that downloads the torrent, if the torrent is in the session. Returns before the connection is
    /// made.
    async fn connect(&self, infohash: InfoHash, peer: SocketAddr) -> Result<(), SeedError>;

    /// Ends the seeding; one that is not there is fine.
    async fn remove(&self, infohash: InfoHash) -> Result<(), SeedError>;
}
