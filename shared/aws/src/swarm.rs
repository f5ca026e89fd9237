//! Swarm of the tracker ([`Swarm`]) on DynamoDB.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::{InfoHash, Timestamp};
use futures::future::try_join_all;
use ports::{Announce, MAX_PEERS_PER_ADDRESS, Peer, StoreError, Swarm, SwarmCounts, client_network, select_peers};

use crate::dynamo::{Change, Item, Query, Table, parsed, s, time, time_to_live, timestamp};

/// The table of peers. Each peer is one item, with its infohash and its listen address as keys.
#[derive(Debug, Clone)]
pub struct DynamoSwarm {
    table: Table,
}

impl DynamoSwarm {
    /// Creates a handle of the table with this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { table: Table { client, name: name.into() } }
    }

    /// Returns the peers of a torrent that have not expired, each with its expiry. Reads one page, about ten thousand
    /// peers; further ones are not returned.
    async fn peers(&self, infohash: InfoHash, now: Timestamp) -> Result<Vec<(Peer, Timestamp)>, StoreError> {
        let (items, _) = self.table.query(Query::of("infohash", s(infohash))).await?;
        let peers = items.iter().map(|item| Ok((read(item)?, timestamp(item, "until")?)));
        let peers: Vec<_> = peers.collect::<Result<_, StoreError>>()?;
        Ok(peers.into_iter().filter(|(_, until)| *until > now).collect())
    }
}

fn peer_key(infohash: InfoHash, address: SocketAddr) -> Item {
    Item::from([("infohash".to_owned(), s(infohash)), ("address".to_owned(), s(address))])
}

fn peer_id(id: [u8; 20]) -> AttributeValue {
    AttributeValue::B(Blob::new(id))
}

fn read(item: &Item) -> Result<Peer, StoreError> {
    let id = item.get("peer_id").and_then(|id| id.as_b().ok()).and_then(|id| id.as_ref().try_into().ok());
    let id =
        id.ok_or_else(|| StoreError::unavailable("DynamoDB", "the attribute peer_id of an item cannot be read"))?;
    let seed = item.get("seed").and_then(|seed| seed.as_bool().ok()).copied().unwrap_or_default();
    Ok(Peer { id, address: parsed(item, "address")?, seed })
}

fn counts(peers: &[(Peer, Timestamp)]) -> SwarmCounts {
    SwarmCounts::of(peers.iter().map(|(peer, _)| peer))
}

#[async_trait]
impl Swarm for DynamoSwarm {
    async fn announce(
        &self,
        infohash: InfoHash,
        announce: Announce,
        wanted: usize,
        now: Timestamp,
        keep: Duration,
    ) -> Result<(Vec<Peer>, SwarmCounts), StoreError> {
        let me = match announce {
            Announce::Present(me) => {
                let until = now + keep;
                let change = Change::default()
                    .set("peer_id", peer_id(me.id))
                    .set("seed", AttributeValue::Bool(me.seed))
                    .set("until", time(until))
                    .set("expires", time_to_live(until));
                self.table.change(peer_key(infohash, me.address), change).await?;
                me
            }
            Announce::Stopped(me) => {
                // Only the client with the same peer id may remove a peer.
                let mine = Change::when("#peer_id = :peer_id").value("peer_id", peer_id(me.id));
                self.table.delete(peer_key(infohash, me.address), mine).await?;
                me
            }
        };
        let mut peers = self.peers(infohash, now).await?;
        // The query may be stale. The caller's own peer counts as announced.
        peers.retain(|(peer, _)| peer.address != me.address);
        if matches!(announce, Announce::Present(_)) {
            let home = client_network(me.address.ip());
            let mut neighbours: Vec<_> =
                peers.iter().filter(|(peer, _)| client_network(peer.address.ip()) == home).copied().collect();
            neighbours.sort_by_key(|(_, until)| *until);
            let surplus = (neighbours.len() + 1).saturating_sub(MAX_PEERS_PER_ADDRESS);
            let surplus: Vec<_> = neighbours.iter().take(surplus).map(|(peer, _)| peer.address).collect();
            let gone = surplus.iter().map(|peer| self.table.delete(peer_key(infohash, *peer), Change::default()));
            try_join_all(gone).await?;
            peers.retain(|(peer, _)| !surplus.contains(&peer.address));
            peers.push((me, now + keep));
        }
        let counts = counts(&peers);
        let others = peers.into_iter().map(|(peer, _)| peer);
        let others = others.filter(|peer| peer.address != me.address && peer.id != me.id);
        let (mut seeds, mut leechers): (Vec<Peer>, Vec<Peer>) = others.partition(|peer| peer.seed);
        // The order of the table is fixed, so each response starts with a random peer.
        for peers in [&mut seeds, &mut leechers] {
            let first = rand::random_range(0..peers.len().max(1));
            peers.rotate_left(first);
        }
        Ok((select_peers(seeds, leechers, wanted), counts))
    }

    async fn counts(&self, infohash: InfoHash, now: Timestamp) -> Result<SwarmCounts, StoreError> {
        Ok(counts(&self.peers(infohash, now).await?))
    }
}
