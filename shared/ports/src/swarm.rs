//! Who downloads what: the tracker's memory.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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

/// Peers of one torrent that one [client_network] may have: the oldest gives way to a new one. Enough for those behind
/// one NAT, and too few to fill a swarm with peers that there are not.
pub const MAX_PEERS_PER_ADDRESS: usize = 64;

/// The addresses that one customer has, all told: an IPv4 address, or the /64 of an IPv6 one.
pub fn client_network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Which peers are told of, `wanted` at the most: seeds first, and no more of them than half where there are others to
/// be told of, so that nobody drowns those out.
pub fn select_peers(mut seeds: Vec<Peer>, others: Vec<Peer>, wanted: usize) -> Vec<Peer> {
    seeds.truncate((wanted / 2).max(wanted.saturating_sub(others.len())));
    seeds.into_iter().chain(others).take(wanted).collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_one_customer_is_one_neighbourhood() {
        let of = |address: &str| client_network(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
