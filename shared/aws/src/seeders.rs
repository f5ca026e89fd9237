//! Registry of seeders ([`Seeders`]) on DynamoDB: items in the table of peers, under a key that no torrent has.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use domain::Timestamp;
use ports::{RunningSeeder, Seeders, StoreError};

use crate::dynamo::{Change, Item, Query, Table, n, number, s, text, time, time_to_live, timestamp};

/// The partition of the seeders, where torrents have their infohash.
const PARTITION: &str = "seeders";

/// The registry. Each seeder is one item with its id as the second key.
#[derive(Debug, Clone)]
pub struct DynamoSeeders {
    table: Table,
}

impl DynamoSeeders {
    /// Creates a handle of the table of peers with this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { table: Table { client, name: name.into() } }
    }
}

fn seeder_key(id: &str) -> Item {
    Item::from([("infohash".to_owned(), s(PARTITION)), ("address".to_owned(), s(id))])
}

fn read(item: &Item) -> Result<RunningSeeder, StoreError> {
    let addresses = text(item, "addresses")?;
    let addresses = addresses.split(' ').filter(|address| !address.is_empty()).map(str::parse::<SocketAddr>);
    let addresses = addresses.collect::<Result<_, _>>().map_err(|error| StoreError::unavailable("DynamoDB", error))?;
    Ok(RunningSeeder { id: text(item, "address")?.into(), addresses, torrents: number(item, "torrents")? })
}

#[async_trait]
impl Seeders for DynamoSeeders {
    async fn register(&self, seeder: &RunningSeeder, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        let addresses: Vec<_> = seeder.addresses.iter().map(ToString::to_string).collect();
        let change = Change::default()
            .set("addresses", s(addresses.join(" ")))
            .set("torrents", n(seeder.torrents))
            .set("until", time(now + keep))
            .set("expires", time_to_live(now + keep));
        self.table.change(seeder_key(&seeder.id), change).await?;
        Ok(())
    }

    async fn deregister(&self, id: &str) -> Result<(), StoreError> {
        self.table.delete(seeder_key(id), Change::default()).await?;
        Ok(())
    }

    async fn running(&self, now: Timestamp) -> Result<Vec<RunningSeeder>, StoreError> {
        let mut running = vec![];
        for item in self.table.query_all(Query::of("infohash", s(PARTITION))).await? {
            if timestamp(&item, "until")? > now {
                running.push(read(&item)?);
            }
        }
        Ok(running)
    }
}
