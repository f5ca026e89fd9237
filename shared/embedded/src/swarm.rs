//! [`Swarm`] in memory: peers announce themselves again after a restart.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{InfoHash, Timestamp};
use ports::{Announce, Peer, StoreError, Swarm, SwarmCounts};

/// Peers that are remembered for one torrent, at the most.
const MAX_PEERS: usize = 5_000;

/// Peers by torrent and by where they listen.
#[derive(Debug, Default)]
pub struct MemorySwarm(Mutex<HashMap<InfoHash, Peers>>);

type Peers = HashMap<SocketAddr, (Peer, Timestamp)>;

fn counts(peers: &Peers) -> SwarmCounts {
    let seeds = peers.values().filter(|(peer, _)| peer.seed).count() as u32;
    SwarmCounts { seeds, leechers: peers.len() as u32 - seeds }
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
        let mut swarm = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peers = swarm.entry(infohash).or_default();
        peers.retain(|_, (_, until)| *until > now);
        let me = match announce {
            Announce::Present(me) => {
                if peers.len() < MAX_PEERS || peers.contains_key(&me.address) {
                    peers.insert(me.address, (me, now + keep));
                }
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
            swarm.remove(&infohash);
        }
        Ok((seeds.into_iter().chain(others).take(wanted).collect(), counts))
    }

    async fn counts(&self, infohash: InfoHash, now: Timestamp) -> Result<SwarmCounts, StoreError> {
        let mut swarm = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(peers) = swarm.get_mut(&infohash) else { return Ok(SwarmCounts::default()) };
        peers.retain(|_, (_, until)| *until > now);
        Ok(counts(peers))
    }
}
