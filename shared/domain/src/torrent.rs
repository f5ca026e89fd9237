//! Torrents: formats, states and records.

use crate::text_enum::text_enum;
use crate::{ContentHash, FileName, InfoHash, InfoHashV2, Timestamp};

text_enum! {
    /// The metadata in a torrent.
    #[derive(Default)]
    pub enum TorrentFormat ("torrent format") {
        /// BEP 3 alone: every client can download it.
        #[default]
        V1 = "v1",
        /// BEP 3 and BEP 52 together; some older clients cannot read it.
        Hybrid = "hybrid",
    }
}

text_enum! {
    /// The state of a torrent in the store.
    pub enum TorrentState ("torrent state") {
        /// Stored; the seeder is about to add it.
        Adding = "adding",
        /// In the seeder's session.
        Seeding = "seeding",
        /// No request needs it any more: it is about to be deleted.
        Retired = "retired",
    }
}

/// The record of a torrent. Requests with the same content, name and format share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torrent {
    /// The v1 infohash, which is its key.
    pub infohash: InfoHash,
    /// The v2 infohash of a hybrid torrent.
    pub infohash_v2: Option<InfoHashV2>,
    /// The content.
    pub content_hash: ContentHash,
    /// The name of its file.
    pub name: FileName,
    /// The content's size in bytes.
    pub size: u64,
    /// Bytes per piece.
    pub piece_length: u32,
    /// Its state.
    pub state: TorrentState,
    /// The number of requests that ever referred to it: a compare-and-swap on it keeps a new request from losing it.
    pub version: u64,
    /// When it was first stored.
    pub created_at: Timestamp,
}
