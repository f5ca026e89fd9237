//! Request store ([`Requests`]) in SQL.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, FetchRequest, Fingerprint, Receivers, RequestId, Status, Step, Timestamp, Transition, UserId, millis,
};
use ports::{
    Applied, Check, Condition, ContentReference, Deduplication, DueNotification, IdenticalRequests, NotificationQueue,
    QuotaUsage, Requests, StoreError, Task,
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::lookups::Lookups;
use crate::rows::{
    number, optional_text, read, read_or_failed, report_unreadable, request_columns, required, signed, text, waiting,
};
use crate::transitions;
use crate::watchers::Watchers;
use crate::{Columns, Driver, Durability, SqlError, Statement, Value};

/// The table of requests in a database.
#[derive(Debug, Clone)]
pub struct SqlRequests<D> {
    database: D,
    lookups: Lookups,
    watchers: Watchers,
}

impl<D: Driver> SqlRequests<D> {
    /// The table in this database, which other processes may use, too.
    pub fn new(database: D) -> Self {
        Self { lookups: Lookups::start(database.clone()), database, watchers: Watchers::default() }
    }

    /// Opens the table as the only process that uses it. Makes all rows in progress due now: the previous process ended, so
    /// its leases are invalid and its tasks are lost. Queued rows keep their due time.
    pub async fn open(database: D) -> Result<Self, StoreError> {
        let free = Statement::new(
            "UPDATE requests SET lease = NULL, due_at = 0 \
             WHERE lease IS NOT NULL OR status IN ('fetching', 'packaging', 'seeding')",
        );
        match database.execute(Durability::Written, free).await {
            Ok(_) => {}
            // Ready contents can still be served when the disk is full, and the leases expire anyway.
            Err(SqlError::Full) => tracing::error!("no space left, leases of the previous process not released"),
            Err(error) => return Err(error.into()),
        }
        Ok(Self::new(database))
    }

    /// Those who wait for a change of a request in this process.
    pub fn watchers(&self) -> Watchers {
        self.watchers.clone()
    }

    /// Returns the values of rows. Quarantines a row that cannot be read.
    async fn readable<T>(
        &self,
        rows: Vec<D::Row>,
        value: impl Fn(&D::Row) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            match value(&row) {
                Ok(value) => values.push(value),
                Err(error) => {
                    let id = required(row.text("id")?, "id")?;
                    self.quarantine(id, &error).await?;
                }
            }
        }
        Ok(values)
    }

    /// Quarantines a row that cannot be read: marks it as failed, so that no sweep finds it again.
    async fn quarantine(&self, id: &str, error: &SqlError) -> Result<(), StoreError> {
        report_unreadable(id, error);
        let update = Statement::new(
            "UPDATE requests SET status = 'failed', error_code = 'internal', error_message = $2, due_at = NULL, \
             notify_at = NULL, lease = NULL WHERE id = $1",
        );
        self.database.execute(Durability::Written, update.bind(id).bind(FetchRequest::UNREADABLE)).await?;
        Ok(())
    }

    /// Returns the ids that a query finds.
    async fn ids(&self, query: Statement) -> Result<Vec<RequestId>, StoreError> {
        let rows = self.database.query(query).await?;
        self.readable(rows, |row| text(row, "id")).await
    }
}

#[async_trait]
impl<D: Driver> Requests for SqlRequests<D> {
    async fn create(&self, request: &FetchRequest) -> Result<(), StoreError> {
        let headers = serde_json::to_string(&request.spec.headers);
        let headers = headers.map_err(|error| StoreError::unavailable("the database", error))?;
        let insert = Statement::new(
            "INSERT INTO requests (id, owner, client_ip, url, method, headers, body, sha256, format, ttl, keep_for, \
             fingerprint, status, progress, retry_count, created_at, updated_at, due_at, callback_url, webseed, \
             history, receivers) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21, $22)",
        );
        let insert = insert
            .bind(request.id.to_string())
            .bind(request.owner.as_str())
            .bind(request.client_ip.map(|ip| ip.to_string()))
            .bind(request.spec.url.as_str())
            .bind(request.spec.method.as_str())
            .bind(headers)
            .bind(Value::TextWithNul(request.spec.body.clone()))
            .bind(request.spec.sha256.map(|hash| hash.to_string()))
            .bind(request.spec.format.as_str())
            .bind(signed(request.spec.ttl.as_secs()))
            .bind(millis(request.keep_for))
            .bind(request.fingerprint.to_string())
            .bind(request.status.as_str())
            .bind(i64::from(request.progress))
            .bind(request.retry_count)
            .bind(request.created_at.as_millis())
            .bind(request.updated_at.as_millis())
            .bind(request.due_at.map(Timestamp::as_millis))
            .bind(request.spec.callback_url.as_ref().map(Url::to_string))
            .bind(request.spec.webseed)
            .bind(signed(request.history.as_secs()))
            .bind(request.receivers.to_string());
        match self.database.execute(Durability::Flushed, insert).await {
            Err(SqlError::UniqueViolation) => Err(StoreError::already_exists("the database", request.id)),
            result => Ok(result.map(drop)?),
        }
    }

    async fn get(&self, id: RequestId) -> Result<Option<FetchRequest>, StoreError> {
        Ok(self.lookups.get(id).await?)
    }

    async fn list(
        &self,
        owner: &UserId,
        status: Option<Status>,
        before: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<FetchRequest>, StoreError> {
        let query = Statement::new(match status {
            None => concat!(
                "SELECT ",
                request_columns!(),
                " FROM requests WHERE owner = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
            ),
            Some(_) => concat!(
                "SELECT ",
                request_columns!(),
                " FROM requests WHERE owner = $1 AND id < $2 AND status = $4 ORDER BY id DESC LIMIT $3"
            ),
        });
        // `~` sorts after every id.
        let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
        let mut query = query.bind(owner.as_str()).bind(before).bind(limit);
        if let Some(status) = status {
            query = query.bind(status.as_str());
        }
        let rows = self.database.query(query).await?;
        Ok(rows.iter().map(read_or_failed).collect::<Result<_, _>>()?)
    }

    async fn quota_usage(&self, owner: &UserId) -> Result<QuotaUsage, StoreError> {
        let query = Statement::new(
            "SELECT count(CASE WHEN status <> 'ready' THEN 1 END) AS active, \
             CAST(coalesce(sum(CASE status WHEN 'ready' THEN content_size END), 0) AS BIGINT) AS stored_bytes \
             FROM requests WHERE owner = $1 AND status IN ('queued', 'fetching', 'packaging', 'seeding', 'ready')",
        );
        let rows = self.database.query(query.bind(owner.as_str())).await?;
        let Some(row) = rows.first() else { return Ok(QuotaUsage::default()) };
        Ok(QuotaUsage { active: number(row, "active")?, stored_bytes: number(row, "stored_bytes")? })
    }

    async fn wait_for_change(
        &self,
        seen: &FetchRequest,
        timeout: Duration,
    ) -> Result<Option<FetchRequest>, StoreError> {
        let deadline = Instant::now() + timeout;
        let mut watcher = self.watchers.watch(seen.id);
        loop {
            let row = self.get(seen.id).await?;
            if row.as_ref().is_none_or(|row| row.has_progressed_since(seen)) || Instant::now() >= deadline {
                return Ok(row);
            }
            let recheck = D::RECHECK.map_or(deadline, |recheck| deadline.min(Instant::now() + recheck));
            let _ = timeout_at(recheck, watcher.changed()).await;
        }
    }

    async fn apply(
        &self,
        id: RequestId,
        condition: Condition<'_>,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let durability = if transition.durable { Durability::Flushed } else { Durability::Written };
        let rows = self.database.fetch(durability, transitions::update(id, condition, transition, now)).await?;
        let Some(row) = rows.first() else { return Ok(Applied::Refused(None)) };
        self.watchers.changed(id);
        self.database.announce_change(id);
        match read(row).and_then(|request| Ok((request, waiting(row)?))) {
            Ok((request, waiting)) => Ok(Applied::Done(Box::new(request), waiting)),
            Err(error) => {
                self.quarantine(&id.to_string(), &error).await?;
                Ok(Applied::Refused(None))
            }
        }
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, StoreError> {
        let query = Statement::new(
            "SELECT id, status, infohash FROM requests \
             WHERE due_at <= $1 AND status <> 'ready' ORDER BY due_at LIMIT $2",
        );
        let rows = self.database.query(query.bind(now.as_millis()).bind(limit)).await?;
        let task = |row: &D::Row| {
            let id = text(row, "id")?;
            Ok(match text::<Status>(row, "status")?.step() {
                Step::Fetch | Step::Expire => Task::Fetch(id),
                Step::Package => Task::Package(id),
                Step::Seed => Task::Seed(text(row, "infohash")?, Some(id)),
                Step::Release => Task::Release(id),
            })
        };
        self.readable(rows, task).await
    }

    async fn clamp_due_times(
        &self,
        now: Timestamp,
        latest: Timestamp,
        latest_notification: Timestamp,
        lease: Duration,
    ) -> Result<u64, StoreError> {
        let rows = Statement::new(
            "UPDATE requests SET due_at = CASE WHEN lease IS NULL THEN $1 ELSE $2 END \
             WHERE due_at > $3 AND status <> 'ready'",
        );
        let rows = rows.bind(now.as_millis()).bind((now + lease).as_millis()).bind(latest.as_millis());
        let notifications = Statement::new("UPDATE requests SET notify_at = $1 WHERE notify_at > $2");
        let notifications = notifications.bind(now.as_millis()).bind(latest_notification.as_millis());
        Ok(self.database.execute(Durability::Written, rows).await?
            + self.database.execute(Durability::Written, notifications).await?)
    }

    async fn list_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query =
            Statement::new("SELECT id FROM requests WHERE due_at <= $1 AND status = 'ready' ORDER BY due_at LIMIT $2");
        self.ids(query.bind(now.as_millis()).bind(limit)).await
    }

    async fn purge_history(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = format!(
            "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE updated_at + history * 1000 <= $1 \
             AND due_at IS NULL AND notify_at IS NULL AND status IN ('failed', 'cancelled', 'expired') LIMIT $2{})",
            D::SKIP_LOCKED
        );
        let delete = Statement::new(delete).bind(now.as_millis()).bind(limit);
        Ok(self.database.execute(Durability::Written, delete).await?)
    }

    async fn references(&self, content: ContentHash) -> Result<Vec<ContentReference>, StoreError> {
        let query = Statement::new(
            "SELECT DISTINCT CASE status WHEN 'packaging' THEN NULL ELSE infohash END AS torrent FROM requests \
             WHERE content_hash = $1 AND status IN ('packaging', 'seeding', 'ready')",
        );
        let rows = self.database.query(query.bind(content.to_string())).await?;
        let reference = |row: &D::Row| {
            let torrent = optional_text(row, "torrent")?;
            Ok(torrent.map_or(ContentReference::Packaging, ContentReference::Torrent))
        };
        Ok(rows.iter().map(reference).collect::<Result<_, SqlError>>()?)
    }

    async fn ready_requests_of(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query = Statement::new("SELECT id FROM requests WHERE content_hash = $1 AND status = 'ready' LIMIT $2");
        self.ids(query.bind(content.to_string()).bind(limit)).await
    }
}

#[async_trait]
impl<D: Driver> Deduplication for SqlRequests<D> {
    async fn find_identical(&self, fingerprint: &Fingerprint) -> Result<IdenticalRequests, StoreError> {
        let freshest = Statement::new(concat!(
            "SELECT ",
            request_columns!(),
            " FROM requests WHERE fingerprint = $1 AND status IN ('packaging', 'seeding', 'ready') \
             ORDER BY fetched_at DESC LIMIT 1",
        ));
        let rows = self.database.query(freshest.bind(fingerprint.to_string())).await?;
        let freshest = rows.first().map(read_or_failed).transpose()?.filter(|row| row.status != Status::Failed);
        let first_in_flight = Statement::new(
            "SELECT id FROM requests WHERE fingerprint = $1 AND status IN ('queued', 'fetching') ORDER BY id LIMIT 1",
        );
        let rows = self.database.query(first_in_flight.bind(fingerprint.to_string())).await?;
        let first_in_flight = rows.first().map(|row| text(row, "id")).transpose()?;
        Ok(IdenticalRequests { first_in_flight, freshest })
    }

    async fn add_waiter(&self, waiter: RequestId, first: RequestId) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE requests SET waiting = replace(waiting, $1 || ' ', '') || $1 || ' ' \
             WHERE id = $2 AND status IN ('queued', 'fetching')",
        );
        let update = update.bind(waiter.to_string()).bind(first.to_string());
        Ok(self.database.execute(Durability::Written, update).await? == 1)
    }
}

#[async_trait]
impl<D: Driver> NotificationQueue for SqlRequests<D> {
    async fn due_notifications(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query = Statement::new("SELECT id FROM requests WHERE notify_at <= $1 ORDER BY notify_at LIMIT $2");
        self.ids(query.bind(now.as_millis()).bind(limit)).await
    }

    async fn claim_notification(
        &self,
        id: RequestId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<DueNotification>, StoreError> {
        // Most requests may have no receiver, and a read is cheaper than a write.
        let is_due = Statement::new("SELECT id FROM requests WHERE id = $1 AND notify_at <= $2");
        if self.database.query(is_due.bind(id.to_string()).bind(now.as_millis())).await?.is_empty() {
            return Ok(None);
        }
        let claim = Statement::new(concat!(
            "UPDATE requests SET notify_at = $3, notify_tries = notify_tries + 1 \
             WHERE id = $1 AND notify_at <= $2 RETURNING ",
            request_columns!(),
        ));
        let claim = claim.bind(id.to_string()).bind(now.as_millis()).bind((now + lease).as_millis());
        let rows = self.database.fetch(Durability::Written, claim).await?;
        let claimed = self.readable(rows, |row| {
            let request = read(row)?;
            let receivers = optional_text::<Receivers>(row, "notify_left")?.unwrap_or(request.receivers);
            let tries = number::<u32>(row, "notify_tries")?.saturating_sub(1);
            Ok(DueNotification { request, receivers, tries, until: now + lease })
        });
        Ok(claimed.await?.pop())
    }

    async fn finish_notification(
        &self,
        claimed: &DueNotification,
        next: Option<(Timestamp, Receivers)>,
    ) -> Result<(), StoreError> {
        let update =
            Statement::new("UPDATE requests SET notify_at = $1, notify_left = $2 WHERE id = $3 AND notify_at = $4");
        let update = update
            .bind(next.map(|(at, _)| at.as_millis()))
            .bind(next.map(|(_, receivers)| receivers.to_string()))
            .bind(claimed.request.id.to_string())
            .bind(claimed.until.as_millis());
        self.database.execute(Durability::Written, update).await?;
        Ok(())
    }
}

#[async_trait]
impl<D: Driver> Check for SqlRequests<D> {
    async fn check(&self) -> Result<(), StoreError> {
        self.database.query(Statement::new("SELECT 1 AS one")).await?;
        // Reads still work on a full disk, or on a standby.
        let write =
            "INSERT INTO health (id, writes) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET writes = health.writes + 1";
        self.database.execute(Durability::Written, Statement::new(write)).await?;
        Ok(())
    }
}
