//! Who downloads what: the tracker's memory.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use domain::{InfoHash, Timestamp};

use crate::StoreError;

/// A peer of a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its peer id (BEP 3).
    pub id: [u8; 20],
    /// Where it accepts connections.
    pub address: SocketAddr,
    /// Whether it has everything.
    pub seed: bool,
}

/// What a peer tells the tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// It is there.
    Present(Peer),
    /// It leaves.
    Stopped(Peer),
}

/// How many peers a torrent has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Peers with everything.
    pub seeds: u32,
    /// Peers that download.
    pub leechers: u32,
}

/// Peers of one torrent that one IP address may have: the oldest gives way to a new one. Enough for those behind
/// one NAT, and too few to fill a swarm with peers that there are not.
pub const MAX_PEERS_PER_ADDRESS: usize = 64;

/// Peers per torrent, each forgotten when it is not heard of for a while.
#[async_trait]
pub trait Swarm: Send + Sync {
    /// Notes what a peer says, to be forgotten `keep` after `now`, and returns up to `wanted` other
    /// peers, seeds first, with the counts of all.
    async fn announce(
        &self,
        infohash: InfoHash,
        announce: Announce,
        wanted: usize,
        now: Timestamp,
        keep: Duration,
    ) -> Result<(Vec<Peer>, SwarmCounts), StoreError>;

    /// The counts.
    async fn counts(&self, infohash: InfoHash, now: Timestamp) -> Result<SwarmCounts, StoreError>;
}
