//! Swarms of the tracker ([`Swarm`]). After a crash of the database, peers announce themselves again.

use std::time::Duration;

use async_trait::async_trait;
use domain::{InfoHash, Timestamp};
use ports::{Announce, MAX_PEERS_PER_ADDRESS, Peer, StoreError, Swarm, SwarmCounts, client_network, select_peers};
use sql::{Columns, Driver, Durability, SqlError, Statement};

use crate::PgDatabase;
use crate::driver::PgColumns;

/// The most peers of one torrent that an announce considers, those with the newest announces.
const MAX_PEERS: u32 = 5_000;

/// The peers in a database.
#[derive(Debug, Clone)]
pub struct PgSwarm(PgDatabase);

impl PgSwarm {
    /// The peers in this database.
    pub fn new(database: PgDatabase) -> Self {
        Self(database)
    }

    /// Records a peer. Of the peers in its network the oldest ones are removed that are too many.
    async fn insert(&self, infohash: InfoHash, peer: Peer, until: Timestamp) -> Result<(), StoreError> {
        let (infohash, network) = (infohash.to_string(), client_network(peer.address.ip()).to_string());
        let insert = Statement::new(
            "INSERT INTO peers (infohash, address, network, peer_id, is_seed, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (infohash, address) \
             DO UPDATE SET peer_id = $4, is_seed = $5, expires_at = $6",
        );
        let insert = insert
            .bind(infohash.as_str())
            .bind(peer.address.to_string())
            .bind(network.as_str())
            .bind(&peer.id[..])
            .bind(peer.seed)
            .bind(until.as_millis());
        self.0.execute(Durability::Written, insert).await?;
        let delete = Statement::new(
            "DELETE FROM peers WHERE ctid = ANY (ARRAY (SELECT ctid FROM peers WHERE infohash = $1 AND address IN \
             (SELECT address FROM peers WHERE infohash = $1 AND network = $2 ORDER BY expires_at DESC OFFSET $3) \
             FOR UPDATE SKIP LOCKED))",
        );
        let most = i64::try_from(MAX_PEERS_PER_ADDRESS).unwrap_or(i64::MAX);
        self.0.execute(Durability::Written, delete.bind(infohash).bind(network).bind(most)).await?;
        Ok(())
    }

    /// Removes a peer. Only the client with the same peer id may do so.
    async fn delete(&self, infohash: InfoHash, peer: Peer) -> Result<(), StoreError> {
        let delete = Statement::new("DELETE FROM peers WHERE infohash = $1 AND address = $2 AND peer_id = $3");
        let delete = delete.bind(infohash.to_string()).bind(peer.address.to_string()).bind(&peer.id[..]);
        self.0.execute(Durability::Written, delete).await?;
        Ok(())
    }
}

fn read(row: &PgColumns) -> Result<Peer, SqlError> {
    let id = row.bytes("peer_id")?.and_then(|id| id.try_into().ok());
    let address = row.text("address")?.unwrap_or_default().parse();
    Ok(Peer {
        id: id.ok_or_else(|| SqlError::unreadable("peer_id", "it has not 20 bytes"))?,
        address: address.map_err(|error| SqlError::unreadable("address", error))?,
        seed: row.boolean("is_seed")? == Some(true),
    })
}

#[async_trait]
impl Swarm for PgSwarm {
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
                self.insert(infohash, me, now + keep).await?;
                me
            }
            Announce::Stopped(me) => {
                self.delete(infohash, me).await?;
                me
            }
        };
        self.0.delete_expired("peers", now).await?;
        let counts = self.counts(infohash, now).await?;
        // Each kind in another order each time, so that no peer is always returned last.
        let select = Statement::new(
            "SELECT peer_id, address, is_seed FROM (SELECT * FROM peers WHERE infohash = $1 AND expires_at > $2 \
             AND address <> $3 AND peer_id <> $4 ORDER BY expires_at DESC LIMIT $5) AS newest ORDER BY random()",
        );
        let select = select
            .bind(infohash.to_string())
            .bind(now.as_millis())
            .bind(me.address.to_string())
            .bind(&me.id[..])
            .bind(MAX_PEERS);
        let rows = self.0.query(select).await?;
        let peers: Vec<Peer> = rows.iter().map(read).collect::<Result<_, _>>()?;
        let (seeds, others) = peers.into_iter().partition(|peer| peer.seed);
        Ok((select_peers(seeds, others, wanted), counts))
    }

    async fn counts(&self, infohash: InfoHash, now: Timestamp) -> Result<SwarmCounts, StoreError> {
        let select = Statement::new(
            "SELECT count(*) FILTER (WHERE is_seed) AS seeds, count(*) FILTER (WHERE NOT is_seed) AS leechers \
             FROM peers WHERE infohash = $1 AND expires_at > $2",
        );
        let rows = self.0.query(select.bind(infohash.to_string()).bind(now.as_millis())).await?;
        let Some(row) = rows.first() else { return Ok(SwarmCounts::default()) };
        let count =
            |column| Ok::<_, SqlError>(u32::try_from(row.integer(column)?.unwrap_or_default()).unwrap_or(u32::MAX));
        Ok(SwarmCounts { seeds: count("seeds")?, leechers: count("leechers")? })
    }
}
