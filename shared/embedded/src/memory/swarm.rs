//! [`Swarm`] in memory: peers announce themselves again after a restart.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{InfoHash, Timestamp};
use ports::{Announce, MAX_PEERS_PER_ADDRESS, Peer, StoreError, Swarm, SwarmCounts, client_network, select_peers};

/// Peers that are remembered for one torrent, at the most.
const MAX_PEERS: usize = 5_000;

/// Torrents after which those are forgotten that no peer is left of.
const MANY: usize = 1_024;

/// Peers by torrent and by where they listen.
#[derive(Debug, Default)]
pub struct MemorySwarm(Mutex<Swarms>);

#[derive(Debug, Default)]
struct Swarms {
    torrents: HashMap<InfoHash, Peers>,
    /// How many torrents there may be before the next clean-up.
    clean_at: usize,
}

type Peers = HashMap<SocketAddr, (Peer, Timestamp)>;

fn counts(peers: &Peers) -> SwarmCounts {
    let seeds = peers.values().filter(|(peer, _)| peer.seed).count() as u32;
    SwarmCounts { seeds, leechers: peers.len() as u32 - seeds }
}

/// The oldest peer gives way to a new one: of those in its client_network if that has its share, of all if there are as
/// many as there may be.
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
                // Only who announced a peer may take it away.
                if peers.get(&me.address).is_some_and(|(peer, _)| peer.id == me.id) {
                    peers.remove(&me.address);
                }
                me
            }
        };
        let counts = counts(peers);
        // A hash map's order is random: no peer is always told of last.
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
