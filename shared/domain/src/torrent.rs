//! Torrents as the store knows them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ContentHash, InfoHash, InfoHashV2, Timestamp};

/// Which metadata a torrent carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TorrentFormat {
    /// BEP 3 alone: every client can download it.
    #[default]
    V1,
    /// BEP 3 and BEP 52 together; some older clients cannot read it.
    Hybrid,
}

impl TorrentFormat {
    /// As it is written in the API, the settings and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for TorrentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TorrentFormat {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "v1" => Ok(Self::V1),
            "hybrid" => Ok(Self::Hybrid),
            other => Err(format!("'{other}' is neither v1 nor hybrid")),
        }
    }
}

/// What the seeder has to do with a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TorrentState {
    /// Stored; the seeder is about to have it.
    Adding,
    /// In the seeder's session.
    Seeding,
    /// No request needs it any more: it is about to be deleted.
    Retired,
}

impl TorrentState {
    /// As it is written in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Seeding => "seeding",
            Self::Retired => "retired",
        }
    }
}

impl FromStr for TorrentState {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "adding" => Ok(Self::Adding),
            "seeding" => Ok(Self::Seeding),
            "retired" => Ok(Self::Retired),
            other => Err(format!("'{other}' is no torrent state")),
        }
    }
}

/// One torrent: the same content, name and format make the same torrent, whoever asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torrent {
    /// The v1 infohash: the torrent's key.
    pub infohash: InfoHash,
    /// The v2 infohash of a hybrid torrent.
    pub infohash_v2: Option<InfoHashV2>,
    /// What it is a torrent of.
    pub content_hash: ContentHash,
    /// The file's name in it.
    pub name: String,
    /// The content's size in bytes.
    pub size: u64,
    /// Bytes a piece.
    pub piece_length: u32,
    /// What the seeder has to do with it.
    pub state: TorrentState,
    /// Counts the requests that ever referred to it, so that it is not retired under a new one.
    pub version: u64,
    /// When it was first stored.
    pub created_at: Timestamp,
}
