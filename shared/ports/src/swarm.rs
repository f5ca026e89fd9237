//! The swarms of torrents: the peers that the tracker knows.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use domain::{InfoHash, Timestamp};

use crate::StoreError;

/// A peer of a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The peer id (BEP 3).
    pub id: [u8; 20],
    /// The address on which it accepts connections.
    pub address: SocketAddr,
    /// Whether it has the whole torrent.
    pub seed: bool,
}

/// The announce of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// The peer is in the swarm.
    Present(Peer),
    /// The peer leaves the swarm.
    Stopped(Peer),
}

/// The number of peers of a torrent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Peers with the whole torrent.
    pub seeds: u32,
    /// Peers that download.
    pub leechers: u32,
}

impl SwarmCounts {
    /// Returns the counts of these peers.
    pub fn of<'a>(peers: impl IntoIterator<Item = &'a Peer>) -> Self {
        let mut counts = Self::default();
        for peer in peers {
            *(if peer.seed { &mut counts.seeds } else { &mut counts.leechers }) += 1;
        }
        counts
    }
}

/// The most peers of one torrent in one [client_network]; a new one replaces the oldest. Enough for the clients behind one
/// NAT, and too few to fill a swarm with peers that do not exist.
pub const MAX_PEERS_PER_ADDRESS: usize = 64;

/// Returns the network that one customer has: an IPv4 address, or the /64 of an IPv6 address.
pub fn client_network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Selects up to `wanted` peers: seeds first, but at most half while there are enough others, so that false seeds cannot
/// displace real peers.
pub fn select_peers(mut seeds: Vec<Peer>, others: Vec<Peer>, wanted: usize) -> Vec<Peer> {
    seeds.truncate((wanted / 2).max(wanted.saturating_sub(others.len())));
    seeds.into_iter().chain(others).take(wanted).collect()
}

/// The peers of each torrent. A peer is removed when it does not announce itself for some time.
#[async_trait]
pub trait Swarm: Send + Sync {
    /// Records an announce, which expires `keep` after `now`. Returns up to `wanted` other peers, seeds first, and the counts of
    /// all peers.
    async fn announce(
        &self,
        infohash: InfoHash,
        announce: Announce,
        wanted: usize,
        now: Timestamp,
        keep: Duration,
    ) -> Result<(Vec<Peer>, SwarmCounts), StoreError>;

    /// Returns the counts.
    async fn counts(&self, infohash: InfoHash, now: Timestamp) -> Result<SwarmCounts, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_customer_are_one_network() {
        let of = |address: &str| client_network(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
