//! The seeder, as the pipeline uses it.

use std::net::SocketAddr;

use async_trait::async_trait;
use domain::{ContentHash, InfoHash};

/// The reason for which a torrent is not seeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The torrent is not valid: a retry does not help.
    #[error("the seeder refused the torrent: {0}")]
    Refused(String),
    /// The session has ended or does not respond.
    #[error("the seeder does not respond")]
    Unavailable,
}

/// A BitTorrent session that seeds torrents.
#[async_trait]
pub trait Seeder: Send + Sync {
    /// Whether the torrent is in the session.
    fn has(&self, infohash: InfoHash) -> bool;

    /// Returns all torrents in the session.
    fn all(&self) -> Vec<InfoHash>;

    /// Adds the torrent of this metainfo file, which is read from this content, and returns when it is in the session. It may
    /// be there already.
    async fn add(&self, infohash: InfoHash, content: ContentHash, metainfo: &[u8]) -> Result<(), SeedError>;

    /// Connects to a peer that downloads the torrent, if the torrent is in the session. Returns before the connection is
    /// established.
    async fn connect(&self, infohash: InfoHash, peer: SocketAddr) -> Result<(), SeedError>;

    /// Removes the torrent from the session. It need not be there.
    async fn remove(&self, infohash: InfoHash) -> Result<(), SeedError>;

    /// As [`Seeder::remove`], unless peers are connected to the torrent. Returns whether it is not in the session any more.
    async fn remove_if_unused(&self, infohash: InfoHash) -> Result<bool, SeedError>;
}
