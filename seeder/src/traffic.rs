//! The traffic of the torrents, which tells which are hot.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use domain::InfoHash;
use tokio::time::Instant;

use crate::lock::lock;

/// The upload rate of a hot torrent in bytes per second, about a tenth of what a session can encrypt.
const HOT_RATE: u64 = 40_000_000;

/// A torrent is hot, too, if it has this part of the connections that one session allows: one fourth.
const HOT_CONNECTIONS: u64 = 4;

/// The fewest connections that make a torrent hot.
const MIN_HOT_CONNECTIONS: u64 = 50;

/// What was uploaded of each torrent since the last check.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<HashMap<InfoHash, Load>>);

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    bytes: u64,
    /// The most peers that a session had of the torrent.
    peers: u64,
}

impl Traffic {
    /// Counts uploaded bytes of a torrent, of which a session has so many peers.
    pub fn count(&self, infohash: InfoHash, bytes: u64, peers: u64) {
        if bytes > 0 {
            let mut loads = lock(&self.0);
            let load = loads.entry(infohash).or_default();
            load.bytes += bytes;
            load.peers = load.peers.max(peers);
        }
    }

    /// Returns the torrents that were busy for this time, since the last call.
    pub fn busy(&self, time: Duration, max_connections: u64) -> Vec<InfoHash> {
        let loads = std::mem::take(&mut *lock(&self.0));
        let hot_connections = (max_connections / HOT_CONNECTIONS).max(MIN_HOT_CONNECTIONS);
        let is_busy = |load: &Load| load.bytes >= HOT_RATE * time.as_secs().max(1) || load.peers >= hot_connections;
        loads.into_iter().filter(|(_, load)| is_busy(load)).map(|(infohash, _)| infohash).collect()
    }
}

/// A torrent that all sessions have.
#[derive(Debug)]
pub(crate) struct Hot {
    pub busy_at: Instant,
    /// Since when peers are sent to its home session only.
    pub cold_since: Option<Instant>,
}

impl Hot {
    /// Whether peers are sent to all sessions.
    pub fn is_published(&self) -> bool {
        self.cold_since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_and_peers_make_a_torrent_busy() {
        let (traffic, second) = (Traffic::default(), Duration::from_secs(1));
        let [one, two, three] = [1, 2, 3].map(|byte| InfoHash::new([byte; 20]));
        traffic.count(one, HOT_RATE, 1);
        traffic.count(two, HOT_RATE - 1, 99);
        traffic.count(three, 1, 100);
        let mut busy = traffic.busy(second, 400);
        busy.sort_unstable();
        assert_eq!(busy, [one, three]);
        traffic.count(one, HOT_RATE, 1);
        assert_eq!(traffic.busy(2 * second, 400), [], "in two seconds it is half as much");
        assert_eq!(traffic.busy(second, 400), []);
        traffic.count(two, 1, 49);
        assert_eq!(traffic.busy(second, 8), [], "a few peers do not make a torrent hot");
    }
}
