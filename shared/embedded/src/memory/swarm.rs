//! Swarm of the tracker ([`Swarm`]) in memory. After a restart, peers announce themselves again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{InfoHash, Timestamp};
use ports::{Announce, MAX_PEERS_PER_ADDRESS, Peer, StoreError, Swarm, SwarmCounts, client_network, select_peers};

/// The maximum number of peers of one torrent.
const MAX_PEERS: usize = 5_000;

/// The minimum number of torrents before torrents without peers are removed.
const MANY: usize = 1_024;

/// The peers by torrent and listen address.
#[derive(Debug, Default)]
pub struct MemorySwarm(Mutex<Swarms>);

#[derive(Debug, Default)]
struct Swarms {
    torrents: HashMap<InfoHash, Peers>,
    /// The number of torrents at which the next clean-up runs.
    clean_at: usize,
}

type Peers = HashMap<SocketAddr, (Peer, Timestamp)>;

fn counts(peers: &Peers) -> SwarmCounts {
    SwarmCounts::of(peers.values().map(|(peer, _)| peer))
}

/// Removes the oldest peer to make room for a new one: of the newcomer's network if that network has reached its
/// limit, else of all peers if the torrent has.
fn make_room(peers: &mut Peers, newcomer: SocketAddr) {
    if peers.contains_key(&newcomer) {
        return;
    }
    let home = client_network(newcomer.ip());
    let neighbours = || peers.iter().filter(|(address, _)| client_network(address.ip()) == home);
    let full = neighbours().count() >= MAX_PEERS_PER_ADDRESS;
    if !full && peers.len() < MAX_PEERS {
        return;
    }
    let oldest = peers.iter().filter(|(address, _)| !full || client_network(address.ip()) == home);
    let oldest = oldest.min_by_key(|(_, (_, until))| *until).map(|(address, _)| *address);
    if let Some(oldest) = oldest {
        peers.remove(&oldest);
    }
}

#[async_trait]
impl Swarm for MemorySwarm {
    async fn announce(
        &self,
        infohash: InfoHash,
        announce: Announce,
        wanted: usize,
        now: Timestamp,
        keep: Duration,
    ) -> Result<(Vec<Peer>, SwarmCounts), StoreError> {
        let Swarms { torrents, clean_at } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if torrents.len() >= *clean_at {
            torrents.retain(|_, peers| peers.values().any(|(_, until)| *until > now));
            *clean_at = (torrents.len() * 2).max(MANY);
        }
        let peers = torrents.entry(infohash).or_default();
        peers.retain(|_, (_, until)| *until > now);
        let me = match announce {
            Announce::Present(me) => {
                make_room(peers, me.address);
                peers.insert(me.address, (me, now + keep));
                me
            }
            Announce::Stopped(me) => {
                // Only the client with the same peer id may remove a peer.
                if peers.get(&me.address).is_some_and(|(peer, _)| peer.id == me.id) {
                    peers.remove(&me.address);
                }
                me
            }
        };
        let counts = counts(peers);
        // The order of a hash map is random, so no peer is always returned last.
        let (seeds, others): (Vec<Peer>, Vec<Peer>) = peers
            .values()
            .map(|(peer, _)| *peer)
            .filter(|peer| peer.address != me.address && peer.id != me.id)
            .partition(|peer| peer.seed);
        if peers.is_empty() {
            torrents.remove(&infohash);
        }
        Ok((select_peers(seeds, others, wanted), counts))
    }

    async fn counts(&self, infohash: InfoHash, now: Timestamp) -> Result<SwarmCounts, StoreError> {
        let mut swarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(peers) = swarms.torrents.get_mut(&infohash) else { return Ok(SwarmCounts::default()) };
        peers.retain(|_, (_, until)| *until > now);
        Ok(counts(peers))
    }
}
