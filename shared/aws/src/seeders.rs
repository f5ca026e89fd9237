//! Registry of seeders ([`Seeders`]) on DynamoDB: items in the table of peers, under a key that no torrent has.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use domain::Timestamp;
use futures::future::join_all;
use ports::{Endpoints, RunningSeeder, Seeders, StoreError, Task};
use rand::random;
use tracing::warn;

use crate::dynamo::{Change, Item, Query, Table, n, number, optional, s, text, time, time_to_live, timestamp};
use crate::task_queue::{message, tasks};

/// The partition of the seeders, where torrents have their infohash.
const PARTITION: &str = "seeders";

/// What separates the addresses of two sessions.
const SESSION: &str = ";";

/// The registry. Each seeder is one item with its id as the second key. The tasks that were sent to a seeder are items of a
/// partition of their own, ordered by time.
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

/// Returns the partition of the tasks of a seeder.
fn tasks_of(id: &str) -> String {
    format!("tasks of seeder {id}")
}

/// Returns the values that are separated by spaces.
fn list<T: FromStr<Err: Error + Send + Sync + 'static>>(text: &str) -> Result<Vec<T>, StoreError> {
    let values = text.split(' ').filter(|value| !value.is_empty()).map(str::parse);
    values.collect::<Result<_, _>>().map_err(|error| StoreError::unavailable("DynamoDB", error))
}

/// Returns the values, separated by spaces.
fn listed<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

fn read(item: &Item) -> Result<RunningSeeder, StoreError> {
    // Seeders of earlier versions have one session.
    let sessions = text(item, if item.contains_key("sessions") { "sessions" } else { "addresses" })?;
    let sessions = sessions.split(SESSION).map(list).collect::<Result<_, _>>()?;
    let hot = if item.contains_key("hot") { list(text(item, "hot")?)? } else { vec![] };
    Ok(RunningSeeder {
        id: text(item, "address")?.into(),
        endpoints: Endpoints { sessions, hot },
        torrents: number(item, "torrents")?,
        // Seeders of earlier versions do not have the others: each has every torrent.
        weight: optional(item, "weight", number)?.unwrap_or(1),
        replicas: optional(item, "replicas", number)?.unwrap_or(1),
        is_complete: optional(item, "complete", number)? != Some(0),
    })
}

#[async_trait]
impl Seeders for DynamoSeeders {
    async fn register(&self, seeder: &RunningSeeder, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        let sessions: Vec<_> = seeder.endpoints.sessions.iter().map(listed).collect();
        let change = Change::default()
            // For trackers of earlier versions, which name all of them to each peer.
            .set("addresses", s(listed(seeder.endpoints.addresses())))
            .set("sessions", s(sessions.join(SESSION)))
            .set("hot", s(listed(&seeder.endpoints.hot)))
            .set("torrents", n(seeder.torrents))
            .set("weight", n(seeder.weight))
            .set("replicas", n(seeder.replicas))
            .set("complete", n(u8::from(seeder.is_complete)))
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

    async fn send(&self, id: &str, task: Task, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        // Fixed widths, so that the order of the keys is that of the times. DynamoDB deletes old items by itself.
        let order = format!("{:015}-{:016x}", now.as_millis(), random::<u64>());
        let key = Item::from([("infohash".to_owned(), s(tasks_of(id))), ("address".to_owned(), s(order))]);
        let change = Change::default().set("task", s(message(task))).set("expires", time_to_live(now + keep));
        self.table.change(key, change).await?;
        Ok(())
    }

    async fn take_tasks(&self, id: &str, limit: u32) -> Result<Vec<Task>, StoreError> {
        let (items, _) = self.table.query(Query::of("infohash", s(tasks_of(id))).limit(limit)).await?;
        let deletes = items.iter().map(|item| async move {
            let key = ["infohash", "address"].map(|name| (name.to_owned(), item[name].clone()));
            if let Err(error) = self.table.delete(key.into(), Change::default()).await {
                warn!(%error, "task not deleted, it is handled again");
            }
        });
        join_all(deletes).await;
        items
            .iter()
            .map(|item| Ok(tasks(text(item, "task")?)))
            .collect::<Result<Vec<_>, _>>()
            .map(|tasks| tasks.concat())
    }
}
