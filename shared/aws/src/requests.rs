//! Request store ([`Requests`]) on DynamoDB.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use domain::{
    ContentHash, FailureCode, FetchRequest, Fingerprint, InfoHash, Receivers, RequestId, Status, Step, Timestamp,
    Transition, UserId,
};
use futures::future::try_join_all;
use ports::{
    Applied, Check, Condition, ContentReference, Deduplication, DueNotification, IdenticalRequests, NotificationQueue,
    QuotaUsage, Requests, StoreError, Task,
};
use tokio::time::{Instant, sleep};

use crate::dynamo::{
    Change, Item, Query, Table, Written, key, n, number, optional, parsed, s, text, time, timestamp, unavailable,
};
use crate::rows::{self, INDEXED, SHARDS, read};
use crate::transitions::{self, HasReceivers};

/// The maximum number of items that DynamoDB reads in one batch.
const BATCH: u32 = 100;

/// The maximum number of waiters in one row. The size of an item is limited to 400 KB.
const MOST_WAITING: usize = 500;

/// The maximum staleness of the indices. Normally they are less than a second behind the table.
const LAG: Duration = Duration::from_secs(30);

/// The initial interval at which a waiter polls a row, because DynamoDB sends no notifications. The interval grows.
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// The maximum interval at which a waiter polls a row.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// The table of requests, with its indices.
#[derive(Debug, Clone)]
pub struct DynamoRequests {
    table: Table,
}

impl DynamoRequests {
    /// Returns the values of items. Quarantines an item that cannot be read.
    async fn readable<T>(
        &self,
        items: &[Item],
        value: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match value(item) {
                Ok(value) => values.push(value),
                Err(error) => {
                    self.quarantine(key("id", text(item, "id")?), &error).await?;
                }
            }
        }
        Ok(values)
    }

    /// Quarantines an item that cannot be read: marks it as failed, so that no sweep finds it again.
    async fn quarantine(&self, key: Item, error: &StoreError) -> Result<(), StoreError> {
        rows::report_unreadable(&key, error);
        let change = Change::when("attribute_exists(#id)")
            .set("status", s(Status::Failed))
            .set("error_code", s(FailureCode::Internal))
            .set("error_message", s(FetchRequest::UNREADABLE))
            .set("lease", None)
            .set("due_at", None)
            .set("work_shard", None)
            .set("notify_at", None)
            .set("notify_shard", None)
            .set_all(INDEXED.map(|name| (name, None)));
        self.table.change(key, change).await.map(drop)
    }

    /// Creates a handle of the table with this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { table: Table { client, name: name.into() } }
    }

    /// Returns the items with these ids, in the same order, with these attributes; none stands for all. Omits items that do not
    /// exist.
    async fn items(&self, ids: &[RequestId], attributes: &[&str]) -> Result<Vec<Item>, StoreError> {
        let names = attributes.iter().map(|name| (format!("#{name}"), (*name).to_owned()));
        let names = Some(names.collect::<HashMap<_, _>>()).filter(|names| !names.is_empty());
        let projection = attributes.iter().map(|name| format!("#{name}")).collect::<Vec<_>>().join(", ");
        let mut found = HashMap::new();
        for ids in ids.chunks(BATCH as usize) {
            let mut left: Vec<Item> = ids.iter().map(|id| key("id", id)).collect();
            while !left.is_empty() {
                let keys = KeysAndAttributes::builder()
                    .set_keys(Some(left))
                    .set_expression_attribute_names(names.clone())
                    .set_projection_expression(names.as_ref().map(|_| projection.clone()))
                    .consistent_read(true)
                    .build();
                let keys = keys.map_err(|error| StoreError::unavailable("DynamoDB", error))?;
                let batch = self.table.client.batch_get_item().request_items(&self.table.name, keys).send().await;
                let batch = batch.map_err(unavailable)?;
                let items = batch.responses.and_then(|mut r| r.remove(&self.table.name)).unwrap_or_default();
                if items.is_empty() && batch.unprocessed_keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
                    // Back-off: the table is throttled.
                    sleep(FIRST_LOOK).await;
                }
                for item in items {
                    found.insert(parsed::<RequestId>(&item, "id")?, item);
                }
                let more = batch.unprocessed_keys.and_then(|mut keys| keys.remove(&self.table.name));
                left = more.map(|keys| keys.keys).unwrap_or_default();
            }
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// Returns the row after a transition. Quarantines an item that cannot be read.
    async fn applied(&self, id: RequestId, item: &Item) -> Result<Applied, StoreError> {
        match read(item).and_then(|row| Ok((row, rows::waiting(item)?))) {
            Ok((row, waiting)) => {
                debug_assert!(rows::is_indexed_as(item, &row), "the indices do not match the state of {id}");
                Ok(Applied::Done(Box::new(row), waiting))
            }
            Err(error) => {
                self.quarantine(key("id", id), &error).await?;
                Ok(Applied::Refused(None))
            }
        }
    }

    async fn change(&self, id: RequestId, change: Change) -> Result<Written, StoreError> {
        self.table.change(key("id", id), change).await
    }

    /// Returns the ids of the items of an index.
    async fn ids(&self, query: Query) -> Result<(Vec<RequestId>, Option<Item>), StoreError> {
        let (items, next) = self.table.query(query).await?;
        Ok((items.iter().map(|item| parsed(item, "id")).collect::<Result<_, _>>()?, next))
    }

    /// Returns up to `limit` items of a shard that have work which is due, the oldest requests first.
    async fn due_in(&self, shard: u32, now: Timestamp, limit: u32) -> Result<Vec<Item>, StoreError> {
        let (mut due, mut after) = (vec![], None);
        loop {
            // The index is written when work begins and ends. Leases and back-offs are read from the table.
            let query = Query::of("work_shard", s(shard)).index("by_work").limit(limit).starting_after(after);
            let (ids, next) = self.ids(query).await?;
            // Without the bodies of requests: a backlog must fit into the memory of a function.
            let items = self.items(&ids, &["id", "status", "due_at", "infohash"]).await?;
            // A due time that cannot be read counts as due, so that its row is quarantined.
            due.extend(items.into_iter().filter(|item| timestamp(item, "due_at").map_or(true, |at| at <= now)));
            if next.is_none() || due.len() >= limit as usize {
                return Ok(due);
            }
            after = next;
        }
    }

    /// Returns the earliest items of an index that is sharded into parts, up to `limit`.
    async fn earliest(
        &self,
        index: &'static str,
        (part, at): (&str, &str),
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Item>, StoreError> {
        let parts = (0..SHARDS).map(|shard| {
            let query = Query::of(part, s(shard)).index(index);
            self.table.query_all(query.and(at, "<=", time(now)).limit(limit))
        });
        let mut items = try_join_all(parts).await?.concat();
        items.sort_by_key(|item| number::<i64>(item, at).unwrap_or_default());
        items.truncate(limit as usize);
        Ok(items)
    }

    async fn live_identical(&self, fingerprint: &Fingerprint) -> Result<Vec<Item>, StoreError> {
        self.table.query_all(Query::of("live_fingerprint", s(fingerprint)).index("by_fingerprint")).await
    }
}

fn has_status(item: &Item, statuses: &[Status]) -> bool {
    parsed::<Status>(item, "status").is_ok_and(|status| statuses.contains(&status))
}

#[async_trait]
impl Requests for DynamoRequests {
    async fn create(&self, request: &FetchRequest) -> Result<(), StoreError> {
        let change = Change::when("attribute_not_exists(#id)").set_all(rows::constants(request));
        match self.change(request.id, change.set_all(rows::state(request))).await? {
            Written::Done(_) => Ok(()),
            Written::Refused(_) => Err(StoreError::already_exists("DynamoDB", request.id)),
        }
    }

    async fn get(&self, id: RequestId) -> Result<Option<FetchRequest>, StoreError> {
        self.table.get(key("id", id)).await?.map(|item| rows::read_or_failed(&item)).transpose()
    }

    async fn list(
        &self,
        owner: &UserId,
        status: Option<Status>,
        before: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<FetchRequest>, StoreError> {
        let (mut found, mut before) = (vec![], before);
        loop {
            let mut query = Query::of("owner", s(owner)).index("by_owner").descending().limit(limit.max(1));
            if let Some(before) = before {
                query = query.and("id", "<", s(before));
            }
            // The index contains only keys, so that it is written only once per request. The rows are read from the
            // table.
            let (ids, next) = self.ids(query).await?;
            for item in self.items(&ids, &[]).await? {
                let row = rows::read_or_failed(&item)?;
                found.extend(Some(row).filter(|row| status.is_none_or(|status| row.status == status)));
            }
            found.truncate(limit as usize);
            if found.len() == limit as usize || next.is_none() {
                return Ok(found);
            }
            before = ids.last().copied();
        }
    }

    async fn quota_usage(&self, owner: &UserId) -> Result<QuotaUsage, StoreError> {
        let items = self.table.query_all(Query::of("live_owner", s(owner)).index("by_live_owner")).await?;
        let mut load = QuotaUsage::default();
        for item in &items {
            match optional(item, "stored_size", number::<u64>)? {
                Some(size) => load.stored_bytes += size,
                None => load.active += 1,
            }
        }
        Ok(load)
    }

    async fn wait_for_change(
        &self,
        seen: &FetchRequest,
        timeout: Duration,
    ) -> Result<Option<FetchRequest>, StoreError> {
        let deadline = Instant::now() + timeout;
        let mut pause = FIRST_LOOK;
        loop {
            let row = self.get(seen.id).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || row.as_ref().is_none_or(|row| row.has_progressed_since(seen)) {
                return Ok(row);
            }
            // The interval of the look-ups.
            sleep(pause.min(left)).await;
            pause = (pause * 3 / 2).min(LONGEST_LOOK);
        }
    }

    async fn apply(
        &self,
        id: RequestId,
        condition: Condition<'_>,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let known = match condition {
            Condition::Held(claim) => Some(!claim.request.receivers.is_empty()),
            Condition::Unchanged(seen) => Some(!seen.receivers.is_empty()),
            _ => None,
        };
        let tries = match known {
            _ if !transition.notifies() => &[HasReceivers::Irrelevant][..],
            Some(false) => &[HasReceivers::Irrelevant],
            Some(true) => &[HasReceivers::Yes],
            // Without receivers of the operator most requests have none, so one write usually suffices.
            None => &[HasReceivers::No, HasReceivers::Yes],
        };
        let mut refused = None;
        for has_receivers in tries {
            let change = transitions::update(id, condition, transition, *has_receivers, now);
            match self.change(id, change).await? {
                Written::Done(item) => return self.applied(id, &item).await,
                Written::Refused(item) => {
                    let has_receivers = item.as_ref().is_some_and(|item| item.contains_key("receivers"));
                    refused = item;
                    if !has_receivers {
                        break;
                    }
                }
            }
        }
        let row = refused.map(|item| rows::read_or_failed(&item)).transpose()?;
        Ok(Applied::Refused(row.map(Box::new)))
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, StoreError> {
        let shards = (0..SHARDS).map(|shard| self.due_in(shard, now, limit));
        let mut items = try_join_all(shards).await?.concat();
        items.sort_by_key(|item| number::<i64>(item, "due_at").unwrap_or_default());
        items.truncate(limit as usize);
        let task = |item: &Item| -> Result<Task, StoreError> {
            let id = parsed(item, "id")?;
            timestamp(item, "due_at")?;
            Ok(match parsed::<Status>(item, "status")?.step() {
                Step::Fetch | Step::Expire => Task::Fetch(id),
                Step::Package => Task::Package(id),
                Step::Seed => Task::Seed(parsed(item, "infohash")?, Some(id)),
                Step::Release => Task::Release(id),
            })
        };
        self.readable(&items, task).await
    }

    async fn clamp_due_times(&self, _: Timestamp, _: Timestamp, _: Timestamp, _: Duration) -> Result<u64, StoreError> {
        // Not needed: AWS keeps the clocks of functions synchronized.
        Ok(0)
    }

    async fn list_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let items = self.earliest("by_expiry", ("expiry_shard", "expires_at"), now, limit).await?;
        self.readable(&items, |item| parsed(item, "id")).await
    }

    async fn purge_history(&self, _: Timestamp, _: u32) -> Result<u64, StoreError> {
        // Not needed: DynamoDB deletes ended rows by their time-to-live attribute.
        Ok(0)
    }

    async fn references(&self, content: ContentHash) -> Result<Vec<ContentReference>, StoreError> {
        let items = self.table.query_all(Query::of("live_content", s(content)).index("by_content")).await?;
        let references = items.iter().map(|item| {
            let torrent = optional(item, "live_torrent", parsed::<InfoHash>)?;
            Ok(torrent.map_or(ContentReference::Packaging, ContentReference::Torrent))
        });
        let references: HashSet<_> = references.collect::<Result<_, StoreError>>()?;
        Ok(references.into_iter().collect())
    }

    async fn ready_requests_of(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let (mut ready, mut after) = (vec![], None);
        loop {
            let query = Query::of("live_content", s(content)).index("by_content").limit(BATCH).starting_after(after);
            let (ids, next) = self.ids(query).await?;
            let items = self.items(&ids, &["id", "status"]).await?;
            for item in items.iter().filter(|item| has_status(item, &[Status::Ready])) {
                ready.push(parsed(item, "id")?);
            }
            ready.truncate(limit as usize);
            if next.is_none() || ready.len() == limit as usize {
                return Ok(ready);
            }
            after = next;
        }
    }

    fn max_staleness(&self) -> Duration {
        LAG
    }
}

#[async_trait]
impl Deduplication for DynamoRequests {
    async fn find_identical(&self, fingerprint: &Fingerprint) -> Result<IdenticalRequests, StoreError> {
        let fetched = [Status::Packaging, Status::Seeding, Status::Ready];
        let mut identical = self.live_identical(fingerprint).await?;
        let is_fetched = |other: &Item| other.contains_key("fetched_at");
        let first = identical.iter().find(|other| !is_fetched(other));
        let first_in_flight = first.map(|other| parsed(other, "id")).transpose()?;
        identical.retain(is_fetched);
        identical.sort_by_key(|other| number::<i64>(other, "fetched_at").unwrap_or_default());
        // The index may be stale: the other request may have ended since.
        while let Some(other) = identical.pop() {
            let row = self.get(parsed(&other, "id")?).await?.filter(|row| fetched.contains(&row.status));
            if row.is_some() {
                return Ok(IdenticalRequests { first_in_flight, freshest: row });
            }
        }
        Ok(IdenticalRequests { first_in_flight, freshest: None })
    }

    async fn add_waiter(&self, id: RequestId, first: RequestId) -> Result<bool, StoreError> {
        let in_flight = [Status::Queued, Status::Fetching];
        let change = Change::when("#status IN (:queued, :fetching)")
            .and("attribute_not_exists(#waiting) OR size(#waiting) < :most")
            .value("queued", s(in_flight[0]))
            .value("fetching", s(in_flight[1]))
            .value("most", n(MOST_WAITING));
        Ok(match self.change(first, change.insert("waiting", id)).await? {
            Written::Done(_) => true,
            // If the set is full, the waiter is not added, but its own due time still wakes it.
            Written::Refused(item) => item.is_some_and(|item| has_status(&item, &in_flight)),
        })
    }
}

#[async_trait]
impl NotificationQueue for DynamoRequests {
    async fn due_notifications(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let items = self.earliest("by_notification", ("notify_shard", "notify_at"), now, limit).await?;
        items.iter().map(|item| parsed(item, "id")).collect()
    }

    async fn claim_notification(
        &self,
        id: RequestId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<DueNotification>, StoreError> {
        let change = Change::when("#notify_at <= :now").value("now", time(now));
        match self.change(id, change.set("notify_at", time(now + lease)).add("notify_tries", 1)).await? {
            Written::Done(item) => match due_notification(&item, now + lease) {
                Ok(claimed) => Ok(Some(claimed)),
                Err(error) => self.quarantine(key("id", id), &error).await.map(|()| None),
            },
            Written::Refused(_) => Ok(None),
        }
    }

    async fn finish_notification(
        &self,
        claimed: &DueNotification,
        next: Option<(Timestamp, Receivers)>,
    ) -> Result<(), StoreError> {
        let id = claimed.request.id;
        let change = Change::when("#notify_at = :until")
            .value("until", time(claimed.until))
            .set("notify_at", next.map(|(at, _)| time(at)))
            .set("notify_left", next.map(|(_, receivers)| s(receivers)))
            .set("notify_shard", next.map(|_| s(rows::shard(id))));
        self.change(id, change).await.map(drop)
    }
}

fn due_notification(item: &Item, until: Timestamp) -> Result<DueNotification, StoreError> {
    let request = read(item)?;
    let receivers = optional(item, "notify_left", parsed)?.unwrap_or(request.receivers);
    Ok(DueNotification { request, receivers, tries: number::<u32>(item, "notify_tries")? - 1, until })
}

#[async_trait]
impl Check for DynamoRequests {
    async fn check(&self) -> Result<(), StoreError> {
        // An ordinary read, because DynamoDB limits the rate of DescribeTable.
        self.table.get(key("id", "none")).await.map(drop)
    }
}
