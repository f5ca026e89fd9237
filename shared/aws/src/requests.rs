//! [`Requests`] on DynamoDB.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use domain::{
    ContentHash, FailureCode, FetchRequest, Fingerprint, InfoHash, LeaseToken, RequestId, Status, Step, Timestamp,
    UserId,
};
use futures::future::try_join_all;
use ports::{Claim, Holder, Load, Requests, Settlement, StoreError, Twins, Wakeup};
use tokio::time::{Instant, sleep};

use crate::dynamo::{
    Change, Item, Query, Table, Written, key, n, number, optional, parsed, s, text, time, time_to_live, unavailable,
};
use crate::rows::{self, INDEXED, SHARDS, read};

/// Rows that DynamoDB reads in one batch, at the most.
const BATCH: usize = 100;

/// Requests that one row names as waiting behind it: an item has room for 400 KB.
const MOST_WAITING: usize = 500;

/// Indices are behind the table by a second at the most, when all is well.
const LAG: Duration = Duration::from_secs(30);

/// How often a row is looked at by whoever waits for its change: DynamoDB tells nobody by itself.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// The table of requests, with its indices.
#[derive(Debug, Clone)]
pub struct DynamoRequests {
    table: Table,
}

impl DynamoRequests {
    /// The values of items. An item that cannot be read is quarantined.
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

    /// Ends an item that cannot be read, so that no sweep finds it again.
    async fn quarantine(&self, key: Item, error: &StoreError) -> Result<(), StoreError> {
        rows::report_unreadable(&key, error);
        let change = Change::when("attribute_exists(#id)")
            .set("status", s(Status::Failed))
            .set("error_code", s(FailureCode::Internal))
            .set("error_message", s(FetchRequest::UNREADABLE))
            .set("lease", None)
            .set("due_at", None)
            .set("due_shard", None)
            .set_all(INDEXED.map(|name| (name, None)));
        self.table.change(key, change).await.map(drop)
    }

    /// The table of this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { table: Table { client, name: name.into() } }
    }

    /// The rows with these ids, in their order; those that are gone are left out.
    async fn rows(&self, ids: &[RequestId]) -> Result<Vec<FetchRequest>, StoreError> {
        let mut found = std::collections::HashMap::new();
        for ids in ids.chunks(BATCH) {
            let mut left: Vec<Item> = ids.iter().map(|id| key("id", id)).collect();
            while !left.is_empty() {
                let keys = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
                let keys = keys.map_err(|error| StoreError::unavailable("DynamoDB", error))?;
                let batch = self.table.client.batch_get_item().request_items(&self.table.name, keys).send().await;
                let batch = batch.map_err(unavailable)?;
                for item in batch.responses.and_then(|mut r| r.remove(&self.table.name)).unwrap_or_default() {
                    let row = rows::read_or_failed(&item)?;
                    found.insert(row.id, row);
                }
                let more = batch.unprocessed_keys.and_then(|mut keys| keys.remove(&self.table.name));
                left = more.map(|keys| keys.keys).unwrap_or_default();
            }
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    async fn change(&self, id: RequestId, change: Change) -> Result<Written, StoreError> {
        self.table.change(key("id", id), change).await
    }

    /// The first items by time of an index that is split into parts.
    async fn earliest(
        &self,
        index: &'static str,
        (part, at): (&str, &str),
        kind: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Item>, StoreError> {
        let parts = (0..SHARDS).map(|shard| {
            let query = Query::of(part, s(format!("{kind}{shard}"))).index(index);
            self.table.query_all(query.and(at, "<=", time(now)).limit(limit))
        });
        let mut items = try_join_all(parts).await?.concat();
        items.sort_by_key(|item| number::<i64>(item, at).unwrap_or_default());
        items.truncate(limit as usize);
        Ok(items)
    }

    async fn live_twins(&self, fingerprint: &Fingerprint) -> Result<Vec<Item>, StoreError> {
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
            Written::Refused(_) => Err(StoreError::AlreadyExists),
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
            // The index has keys alone, so that it is written once: statuses are looked up.
            let (items, next) = self.table.query(query).await?;
            let ids = items.iter().map(|item| parsed(item, "id")).collect::<Result<Vec<_>, _>>()?;
            let rows = self.rows(&ids).await?;
            found.extend(rows.into_iter().filter(|row| status.is_none_or(|status| row.status == status)));
            found.truncate(limit as usize);
            if found.len() == limit as usize || next.is_none() {
                return Ok(found);
            }
            before = ids.last().copied();
        }
    }

    async fn load(&self, owner: &UserId) -> Result<Load, StoreError> {
        let items = self.table.query_all(Query::of("live_owner", s(owner)).index("by_live_owner")).await?;
        let mut load = Load::default();
        for item in &items {
            if has_status(item, &[Status::Ready]) {
                load.stored_bytes += optional(item, "content_size", number)?.unwrap_or(0_u64);
            } else {
                load.active += 1;
            }
        }
        Ok(load)
    }

    async fn changed(&self, seen: &FetchRequest, patience: Duration) -> Result<Option<FetchRequest>, StoreError> {
        let deadline = Instant::now() + patience;
        let state = |row: &FetchRequest| (row.status, row.progress, row.retry_count);
        let mut pause = FIRST_LOOK;
        loop {
            let row = self.get(seen.id).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || row.as_ref().is_none_or(|row| state(row) != state(seen)) {
                return Ok(row);
            }
            sleep(pause.min(left)).await;
            pause = (pause * 3 / 2).min(LONGEST_LOOK);
        }
    }

    async fn claim(
        &self,
        id: RequestId,
        step: Step,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let token = LeaseToken::new();
        let statuses: Vec<_> = Status::ALL.into_iter().filter(|status| status.step() == step).collect();
        let names: Vec<_> = (0..statuses.len()).map(|i| format!(":status_{i}")).collect();
        let mut change = Change::when(&format!("#due_at <= :now AND #status IN ({})", names.join(", ")))
            .value("now", time(now))
            .set("updated_at", time(now))
            .set("due_at", time(now + lease))
            .set("lease", s(token));
        for (i, status) in statuses.iter().enumerate() {
            change = change.value(&format!("status_{i}"), s(status));
        }
        if step == Step::Fetch {
            change = change.set("status", s(Status::Fetching));
        }
        match self.change(id, change).await? {
            Written::Done(item) => match read(&item).and_then(|row| Ok((row, rows::waiting(&item)?))) {
                Ok((request, waiting)) => Ok(Some(Claim { request, token, waiting })),
                Err(error) => {
                    self.quarantine(key("id", id), &error).await?;
                    Ok(None)
                }
            },
            Written::Refused(_) => Ok(None),
        }
    }

    async fn heartbeat(&self, claim: &Claim, progress: u8, now: Timestamp, lease: Duration) -> Result<(), StoreError> {
        let change = Change::when("#lease = :lease")
            .value("lease", s(claim.token))
            .set("progress", n(progress))
            .set("updated_at", time(now))
            .set("due_at", time(now + lease));
        match self.change(claim.request.id, change).await? {
            Written::Done(_) => Ok(()),
            Written::Refused(_) => Err(StoreError::ClaimLost),
        }
    }

    async fn save(&self, claim: &Claim, row: &FetchRequest) -> Result<Vec<RequestId>, StoreError> {
        let change = written(Change::when("#lease = :lease").value("lease", s(claim.token)), row);
        match self.change(row.id, change).await? {
            Written::Done(item) => rows::waiting(&item),
            Written::Refused(_) => Err(StoreError::ClaimLost),
        }
    }

    async fn cancel(&self, id: RequestId, owner: &UserId, now: Timestamp) -> Result<Option<FetchRequest>, StoreError> {
        let change = Change::when("#owner = :owner AND NOT #status IN (:failed, :cancelled, :expired)")
            .value("owner", s(owner))
            .value("failed", s(Status::Failed))
            .value("cancelled", s(Status::Cancelled))
            .value("expired", s(Status::Expired))
            .set("status", s(Status::Cancelled))
            .set("updated_at", time(now))
            .set("due_at", time(now))
            .set("due_shard", s(rows::due_shard(Status::Cancelled, id)))
            .set("lease", None)
            .value("completed_now", time(now))
            .compute("completed_at", "if_not_exists(#completed_at, :completed_now)")
            .set_all(INDEXED.map(|name| (name, None)));
        let item = match self.change(id, change).await? {
            Written::Done(item) => Some(item),
            Written::Refused(item) => item,
        };
        let row = item.map(|item| read(&item)).transpose()?;
        Ok(row.filter(|row| row.owner == *owner))
    }

    async fn keep(
        &self,
        id: RequestId,
        owner: &UserId,
        keep_for: Duration,
        now: Timestamp,
    ) -> Result<Option<FetchRequest>, StoreError> {
        let change = |condition: &str| {
            Change::when(condition)
                .value("owner", s(owner))
                .set("keep_for", n(keep_for.as_millis()))
                .set("updated_at", time(now))
        };
        // A ready row, whose end changes, and then one whose end is computed when it becomes ready.
        let ready = change("#owner = :owner AND #status = :ready")
            .value("ready", s(Status::Ready))
            .set("expires_at", time(now + keep_for))
            .set("due_at", time(now + keep_for))
            .set("lease", None);
        if let Written::Done(item) = self.change(id, ready).await? {
            return Ok(Some(read(&item)?));
        }
        let waiting = change("#owner = :owner AND #status IN (:queued, :fetching, :seeding)")
            .value("queued", s(Status::Queued))
            .value("fetching", s(Status::Fetching))
            .value("seeding", s(Status::Seeding));
        let item = match self.change(id, waiting).await? {
            Written::Done(item) => Some(item),
            Written::Refused(item) => item,
        };
        let row = item.map(|item| rows::read_or_failed(&item)).transpose()?;
        Ok(row.filter(|row| row.owner == *owner))
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Wakeup>, StoreError> {
        let items = self.earliest("by_due_time", ("due_shard", "due_at"), "work-", now, limit).await?;
        let wakeup = |item: &Item| -> Result<Wakeup, StoreError> {
            let id = parsed(item, "id")?;
            Ok(match parsed::<Status>(item, "status")?.step() {
                Step::Fetch | Step::Expire => Wakeup::Fetch(id),
                Step::Package => Wakeup::Package(id),
                Step::Seed => Wakeup::Seed(parsed(item, "infohash")?, Some(id)),
                Step::Release => Wakeup::Release(id),
            })
        };
        self.readable(&items, wakeup).await
    }

    async fn hasten(&self, _: Timestamp, _: Timestamp, _: Timestamp, _: Duration) -> Result<u64, StoreError> {
        // AWS sets the clocks of functions.
        Ok(0)
    }

    async fn outlived(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let items = self.earliest("by_due_time", ("due_shard", "due_at"), "ready-", now, limit).await?;
        self.readable(&items, |item| parsed(item, "id")).await
    }

    async fn forget(&self, _: Timestamp, _: u32) -> Result<u64, StoreError> {
        // DynamoDB does, by the attribute that it takes for the time to live.
        Ok(0)
    }

    async fn twins(&self, fingerprint: &Fingerprint) -> Result<Twins, StoreError> {
        let fetched = [Status::Packaging, Status::Seeding, Status::Ready];
        let mut twins = self.live_twins(fingerprint).await?;
        let first = twins.iter().find(|twin| has_status(twin, &[Status::Queued, Status::Fetching]));
        let first_in_flight = first.map(|twin| parsed(twin, "id")).transpose()?;
        twins.retain(|twin| has_status(twin, &fetched));
        twins.sort_by_key(|twin| number::<i64>(twin, "fetched_at").unwrap_or_default());
        // The index may be behind the table: a twin may have ended meanwhile.
        while let Some(twin) = twins.pop() {
            let row = self.get(parsed(&twin, "id")?).await?.filter(|row| fetched.contains(&row.status));
            if row.is_some() {
                return Ok(Twins { first_in_flight, freshest: row });
            }
        }
        Ok(Twins { first_in_flight, freshest: None })
    }

    async fn wait_behind(&self, id: RequestId, first: RequestId) -> Result<bool, StoreError> {
        let in_flight = [Status::Queued, Status::Fetching];
        let change = Change::when("#status IN (:queued, :fetching)")
            .and("attribute_not_exists(#waiting) OR size(#waiting) < :most")
            .value("queued", s(in_flight[0]))
            .value("fetching", s(in_flight[1]))
            .value("most", n(MOST_WAITING));
        Ok(match self.change(first, change.insert("waiting", id)).await? {
            Written::Done(_) => true,
            // Who finds no room is due all the same when its own wait is over.
            Written::Refused(item) => item.is_some_and(|item| has_status(&item, &in_flight)),
        })
    }

    async fn wake(&self, ids: &[RequestId], now: Timestamp) -> Result<Vec<RequestId>, StoreError> {
        let mut woken = vec![];
        for id in ids.iter().copied() {
            let change = Change::when("#status = :queued").value("queued", s(Status::Queued)).set("due_at", time(now));
            if let Written::Done(_) = self.change(id, change).await? {
                woken.push(id);
            }
        }
        Ok(woken)
    }

    async fn settle(
        &self,
        id: RequestId,
        infohash: InfoHash,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<Option<FetchRequest>, StoreError> {
        // Most requests tell nobody of their end, so that one write does.
        for (told, condition) in [(false, "attribute_not_exists(#callback_url)"), (true, "attribute_exists(#id)")] {
            let change = settle(id, &settlement, now, told).and("#status = :seeding AND #infohash = :infohash");
            let change = change.value("seeding", s(Status::Seeding)).value("infohash", s(infohash));
            match self.change(id, change.and(condition)).await? {
                Written::Done(item) => return Ok(Some(read(&item)?)),
                Written::Refused(Some(item)) if item.contains_key("callback_url") => {}
                Written::Refused(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    async fn holders(&self, content: ContentHash) -> Result<Vec<Holder>, StoreError> {
        let items = self.table.query_all(Query::of("live_content", s(content)).index("by_content")).await?;
        let holders = items
            .iter()
            .map(|item| Ok((parsed::<Status>(item, "status")?, optional(item, "infohash", parsed::<InfoHash>)?)));
        let holders: HashSet<_> = holders.collect::<Result<_, StoreError>>()?;
        Ok(holders.into_iter().map(|(status, infohash)| Holder { status, infohash }).collect())
    }

    async fn ready_with(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let items = self.table.query_all(Query::of("live_content", s(content)).index("by_content")).await?;
        let ready = items.iter().filter(|item| has_status(item, &[Status::Ready]));
        ready.take(limit as usize).map(|item| parsed(item, "id")).collect()
    }

    async fn replace(&self, seen: &FetchRequest, row: &FetchRequest) -> Result<bool, StoreError> {
        let unchanged = Change::when("attribute_not_exists(#lease) AND #status = :seen AND #updated_at = :seen_at")
            .value("seen", s(seen.status))
            .value("seen_at", time(seen.updated_at));
        Ok(matches!(self.change(row.id, written(unchanged, row)).await?, Written::Done(_)))
    }

    async fn notifications(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let items = self.earliest("by_notification", ("notify_shard", "notify_at"), "", now, limit).await?;
        items.iter().map(|item| parsed(item, "id")).collect()
    }

    async fn claim_notification(
        &self,
        id: RequestId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<(FetchRequest, u32)>, StoreError> {
        let change = Change::when("#notify_at <= :now").value("now", time(now));
        match self.change(id, change.set("notify_at", time(now + lease)).add("notify_tries", 1)).await? {
            Written::Done(item) => Ok(Some((read(&item)?, number::<u32>(&item, "notify_tries")? - 1))),
            Written::Refused(_) => Ok(None),
        }
    }

    async fn notified(&self, id: RequestId, next: Option<Timestamp>) -> Result<(), StoreError> {
        let change = Change::when("attribute_exists(#id)").set("notify_at", next.map(time));
        let shard = next.map(|_| s(rows::shard(id)));
        self.change(id, change.set("notify_shard", shard)).await.map(drop)
    }

    fn lag(&self) -> Duration {
        LAG
    }

    async fn check(&self) -> Result<(), StoreError> {
        // A read as any other: DynamoDB describes a table only so often.
        self.table.get(key("id", "none")).await.map(drop)
    }
}

/// Writes all that a step may change, and ends the lease.
fn written(change: Change, row: &FetchRequest) -> Change {
    let mut change = change.set_all(rows::state(row)).set("lease", None);
    if row.spec.callback_url.is_some() && matches!(row.status, Status::Ready | Status::Failed) {
        change = notify_at(change, row.id, row.updated_at);
    }
    if row.status.is_final() && row.due_at.is_none() {
        // DynamoDB deletes it when its time to live is over.
        change = change.value("end", time_to_live(row.updated_at)).compute("expires", ":end + #history");
    }
    change
}

fn notify_at(change: Change, id: RequestId, at: Timestamp) -> Change {
    change.set("notify_at", time(at)).set("notify_shard", s(rows::shard(id)))
}

fn settle(id: RequestId, settlement: &Settlement, now: Timestamp, told: bool) -> Change {
    let change = Change::default().set("updated_at", time(now)).set("lease", None);
    let (status, change) = match settlement {
        Settlement::Ready => (
            Status::Ready,
            change
                .set("progress", n(100))
                .set("completed_at", time(now))
                .value("now", time(now))
                .compute("expires_at", ":now + #keep_for")
                .compute("due_at", ":now + #keep_for")
                .set("error_code", None)
                .set("error_message", None),
        ),
        Settlement::Repackage => {
            (Status::Packaging, change.set("due_at", time(now)).set("error_code", None).set("error_message", None))
        }
        Settlement::Failed(failure) => (
            Status::Failed,
            change
                .set("completed_at", time(now))
                .set("due_at", time(now))
                .set("error_code", s(failure.code))
                .set("error_message", s(&failure.message))
                .set_all(INDEXED.map(|name| (name, None))),
        ),
    };
    let change = change.set("status", s(status)).set("due_shard", s(rows::due_shard(status, id)));
    if told && status != Status::Packaging { notify_at(change, id, now) } else { change }
}
