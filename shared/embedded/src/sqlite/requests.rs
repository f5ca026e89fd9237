//! Request store ([`Requests`]) on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, FetchRequest, Fingerprint, Receivers, RequestId, Status, Step, Timestamp, Transition, UserId, millis,
};
use futures::FutureExt;
use ports::{
    Applied, Check, Condition, ContentReference, Deduplication, DueNotification, IdenticalRequests, NotificationQueue,
    QuotaUsage, Requests, StoreError, Task,
};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::database::{Database, Durability, STORE, unavailable};
use super::lookups::Lookups;
use super::rows::{
    is_unreadable, optional_text, read, read_or_failed, report_unreadable, signed, text, unsigned, waiting,
};
use super::transitions;
use crate::memory::watchers::Watchers;

/// The table of requests in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteRequests {
    database: Database,
    lookups: Lookups,
    watchers: Watchers,
}

impl SqliteRequests {
    /// Opens the table and makes all rows in progress due now: the previous process ended, so its leases are invalid
    /// and its tasks are lost. Queued rows keep their due time.
    pub async fn open(database: Database) -> Result<Self, StoreError> {
        let freed = database
            .write(Durability::Written, |connection| {
                sqlx::query(
                    "UPDATE requests SET lease = NULL, due_at = 0 \
                     WHERE lease IS NOT NULL OR status IN ('fetching', 'packaging', 'seeding')",
                )
                .execute(connection)
                .boxed()
            })
            .await
            .map_err(unavailable);
        match freed {
            Ok(_) => {}
            // Ready contents can still be served when the disk is full, and the leases expire anyway.
            Err(error) if error.is_full() => {
                tracing::error!("no space left, leases of the previous process not released");
            }
            Err(error) => return Err(error),
        }
        let lookups = Lookups::start(database.readers().clone());
        Ok(Self { database, lookups, watchers: Watchers::default() })
    }

    /// Returns the values of rows. Quarantines a row that cannot be read.
    async fn readable<T>(
        &self,
        rows: Vec<SqliteRow>,
        value: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            match value(&row) {
                Ok(value) => values.push(value),
                Err(error) => {
                    let id = row.try_get_unchecked::<String, _>("id").map_err(unavailable)?;
                    self.quarantine(id, &error).await?;
                }
            }
        }
        Ok(values)
    }

    /// Quarantines a row that cannot be read: marks it as failed, so that no sweep finds it again.
    async fn quarantine(&self, id: String, error: &sqlx::Error) -> Result<(), StoreError> {
        report_unreadable(&id, error);
        let done = self.database.write(Durability::Written, move |connection| {
            sqlx::query(
                "UPDATE requests SET status = 'failed', error_code = 'internal', error_message = ?2, due_at = NULL, \
                 notify_at = NULL, lease = NULL WHERE id = ?1",
            )
            .bind(id)
            .bind(FetchRequest::UNREADABLE)
            .execute(connection)
            .boxed()
        });
        done.await.map(drop).map_err(unavailable)
    }

    async fn first_in_flight(&self, fingerprint: &Fingerprint) -> Result<Option<RequestId>, StoreError> {
        sqlx::query(
            "SELECT id FROM requests WHERE fingerprint = ? AND status IN ('queued', 'fetching') ORDER BY id LIMIT 1",
        )
        .bind(fingerprint.to_string())
        .try_map(|row: SqliteRow| text(&row, "id"))
        .fetch_optional(self.database.readers())
        .await
        .map_err(unavailable)
    }
}

#[async_trait]
impl Requests for SqliteRequests {
    async fn create(&self, request: &FetchRequest) -> Result<(), StoreError> {
        let row = request.clone();
        self.database
            .write(Durability::Flushed, move |connection| {
                async move {
                    sqlx::query(
                        "INSERT INTO requests (id, owner, client_ip, url, method, headers, body, sha256, format, ttl, \
                         keep_for, fingerprint, status, progress, retry_count, created_at, updated_at, due_at, \
                         callback_url, webseed, history, receivers) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
                         ?, ?, ?, ?, ?, ?)",
                    )
                    .bind(row.id.to_string())
                    .bind(row.owner.as_str())
                    .bind(row.client_ip.map(|ip| ip.to_string()))
                    .bind(row.spec.url.as_str())
                    .bind(row.spec.method.as_str())
                    .bind(serde_json::to_string(&row.spec.headers).map_err(|e| sqlx::Error::Encode(e.into()))?)
                    .bind(&row.spec.body)
                    .bind(row.spec.sha256.map(|hash| hash.to_string()))
                    .bind(row.spec.format.as_str())
                    .bind(signed(row.spec.ttl.as_secs()))
                    .bind(millis(row.keep_for))
                    .bind(row.fingerprint.to_string())
                    .bind(row.status.as_str())
                    .bind(row.progress)
                    .bind(row.retry_count)
                    .bind(row.created_at.as_millis())
                    .bind(row.updated_at.as_millis())
                    .bind(row.due_at.map(Timestamp::as_millis))
                    .bind(row.spec.callback_url.as_ref().map(Url::as_str))
                    .bind(row.spec.webseed)
                    .bind(signed(row.history.as_secs()))
                    .bind(row.receivers.to_string())
                    .execute(connection)
                    .await
                }
                .boxed()
            })
            .await
            .map(drop)
            .map_err(|error| match error.as_database_error() {
                Some(cause) if cause.is_unique_violation() => StoreError::already_exists(STORE, request.id),
                _ => unavailable(error),
            })
    }

    async fn get(&self, id: RequestId) -> Result<Option<FetchRequest>, StoreError> {
        self.lookups.get(id).await.map_err(unavailable)
    }

    async fn list(
        &self,
        owner: &UserId,
        status: Option<Status>,
        before: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<FetchRequest>, StoreError> {
        let sql = match status {
            None => "SELECT * FROM requests WHERE owner = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
            Some(_) => "SELECT * FROM requests WHERE owner = ?1 AND id < ?2 AND status = ?4 ORDER BY id DESC LIMIT ?3",
        };
        let query = sqlx::query(sql)
            .bind(owner.as_str())
            // `~` sorts after every id.
            .bind(before.map_or_else(|| "~".to_owned(), |id| id.to_string()))
            .bind(limit);
        let query = match status {
            None => query,
            Some(status) => query.bind(status.as_str()),
        };
        query.try_map(|row| read_or_failed(&row)).fetch_all(self.database.readers()).await.map_err(unavailable)
    }

    async fn quota_usage(&self, owner: &UserId) -> Result<QuotaUsage, StoreError> {
        sqlx::query(
            "SELECT coalesce(sum(status <> 'ready'), 0) AS active, \
             coalesce(sum(CASE status WHEN 'ready' THEN content_size END), 0) AS stored_bytes FROM requests \
             WHERE owner = ? AND status IN ('queued', 'fetching', 'packaging', 'seeding', 'ready')",
        )
        .bind(owner.as_str())
        .try_map(|row: SqliteRow| {
            Ok(QuotaUsage { active: unsigned(&row, "active")?, stored_bytes: unsigned(&row, "stored_bytes")? })
        })
        .fetch_one(self.database.readers())
        .await
        .map_err(unavailable)
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
            if row.as_ref().is_none_or(|row| row.has_progressed_since(seen))
                || timeout_at(deadline, watcher.changed()).await.is_err()
            {
                return Ok(row);
            }
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
        let mut update = transitions::update(id, condition, transition, now);
        let write = self.database.write(durability, move |connection| {
            async move {
                let query = update.build().try_map(|row| Ok((read(&row)?, waiting(&row)?)));
                query.fetch_optional(connection).await
            }
            .boxed()
        });
        match write.await {
            Ok(Some((row, waiting))) => {
                self.watchers.changed(id);
                Ok(Applied::Done(Box::new(row), waiting))
            }
            Ok(None) => Ok(Applied::Refused(None)),
            Err(error) if is_unreadable(&error) => {
                self.quarantine(id.to_string(), &error).await?;
                Ok(Applied::Refused(None))
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, StoreError> {
        let query = sqlx::query(
            "SELECT id, status, infohash FROM requests \
             WHERE due_at <= ? AND status <> 'ready' ORDER BY due_at LIMIT ?",
        )
        .bind(now.as_millis())
        .bind(limit);
        let task = |row: &SqliteRow| {
            let id = text(row, "id")?;
            Ok(match text::<Status>(row, "status")?.step() {
                Step::Fetch | Step::Expire => Task::Fetch(id),
                Step::Package => Task::Package(id),
                Step::Seed => Task::Seed(text(row, "infohash")?, Some(id)),
                Step::Release => Task::Release(id),
            })
        };
        self.readable(query.fetch_all(self.database.readers()).await.map_err(unavailable)?, task).await
    }

    async fn clamp_due_times(
        &self,
        now: Timestamp,
        latest: Timestamp,
        latest_notification: Timestamp,
        lease: Duration,
    ) -> Result<u64, StoreError> {
        let done = self.database.write(Durability::Written, move |connection| {
            sqlx::query(
                "UPDATE requests SET due_at = CASE WHEN lease IS NULL THEN ?1 ELSE ?2 END \
                 WHERE due_at > ?3 AND status <> 'ready'",
            )
            .bind(now.as_millis())
            .bind((now + lease).as_millis())
            .bind(latest.as_millis())
            .execute(connection)
            .boxed()
        });
        let notifications = self.database.write(Durability::Written, move |connection| {
            sqlx::query("UPDATE requests SET notify_at = ?1 WHERE notify_at > ?2")
                .bind(now.as_millis())
                .bind(latest_notification.as_millis())
                .execute(connection)
                .boxed()
        });
        Ok(done.await.map_err(unavailable)?.rows_affected() + notifications.await.map_err(unavailable)?.rows_affected())
    }

    async fn list_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query =
            sqlx::query("SELECT id FROM requests WHERE due_at <= ? AND status = 'ready' ORDER BY due_at LIMIT ?")
                .bind(now.as_millis())
                .bind(limit);
        let rows = query.fetch_all(self.database.readers()).await.map_err(unavailable)?;
        self.readable(rows, |row| text(row, "id")).await
    }

    async fn purge_history(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let done = self.database.write(Durability::Written, move |connection| {
            sqlx::query(
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE updated_at + history * 1000 <= ? \
                 AND due_at IS NULL AND notify_at IS NULL AND status IN ('failed', 'cancelled', 'expired') LIMIT ?)",
            )
            .bind(now.as_millis())
            .bind(limit)
            .execute(connection)
            .boxed()
        });
        Ok(done.await.map_err(unavailable)?.rows_affected())
    }

    async fn references(&self, content: ContentHash) -> Result<Vec<ContentReference>, StoreError> {
        sqlx::query(
            "SELECT DISTINCT CASE status WHEN 'packaging' THEN NULL ELSE infohash END AS torrent FROM requests \
             WHERE content_hash = ? AND status IN ('packaging', 'seeding', 'ready')",
        )
        .bind(content.to_string())
        .try_map(|row: SqliteRow| {
            let torrent = optional_text(&row, "torrent")?;
            Ok(torrent.map_or(ContentReference::Packaging, ContentReference::Torrent))
        })
        .fetch_all(self.database.readers())
        .await
        .map_err(unavailable)
    }

    async fn ready_requests_of(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query = sqlx::query("SELECT id FROM requests WHERE content_hash = ? AND status = 'ready' LIMIT ?")
            .bind(content.to_string())
            .bind(limit);
        let rows = query.fetch_all(self.database.readers()).await.map_err(unavailable)?;
        self.readable(rows, |row| text(row, "id")).await
    }
}

#[async_trait]
impl Deduplication for SqliteRequests {
    async fn find_identical(&self, fingerprint: &Fingerprint) -> Result<IdenticalRequests, StoreError> {
        let freshest = sqlx::query(
            "SELECT * FROM requests WHERE fingerprint = ? AND status IN ('packaging', 'seeding', 'ready') \
             ORDER BY fetched_at DESC LIMIT 1",
        )
        .bind(fingerprint.to_string())
        .try_map(|row| read_or_failed(&row))
        .fetch_optional(self.database.readers())
        .await
        .map_err(unavailable)?
        .filter(|row| row.status != Status::Failed);
        Ok(IdenticalRequests { first_in_flight: self.first_in_flight(fingerprint).await?, freshest })
    }

    async fn add_waiter(&self, id: RequestId, first: RequestId) -> Result<bool, StoreError> {
        let done = self.database.write(Durability::Written, move |connection| {
            sqlx::query(
                "UPDATE requests SET waiting = replace(waiting, ?1 || ' ', '') || ?1 || ' ' \
                 WHERE id = ?2 AND status IN ('queued', 'fetching')",
            )
            .bind(id.to_string())
            .bind(first.to_string())
            .execute(connection)
            .boxed()
        });
        Ok(done.await.map_err(unavailable)?.rows_affected() == 1)
    }
}

#[async_trait]
impl NotificationQueue for SqliteRequests {
    async fn due_notifications(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query = sqlx::query("SELECT id FROM requests WHERE notify_at <= ? ORDER BY notify_at LIMIT ?")
            .bind(now.as_millis())
            .bind(limit);
        let rows = query.fetch_all(self.database.readers()).await.map_err(unavailable)?;
        self.readable(rows, |row| text(row, "id")).await
    }

    async fn claim_notification(
        &self,
        id: RequestId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<DueNotification>, StoreError> {
        // Most requests may have no receiver, and a read is cheaper than a write.
        let due = sqlx::query("SELECT 1 FROM requests WHERE id = ? AND notify_at <= ?")
            .bind(id.to_string())
            .bind(now.as_millis())
            .fetch_optional(self.database.readers())
            .await
            .map_err(unavailable)?;
        if due.is_none() {
            return Ok(None);
        }
        let claim = self.database.write(Durability::Written, move |connection| {
            sqlx::query(
                "UPDATE requests SET notify_at = ?3, notify_tries = notify_tries + 1 \
                 WHERE id = ?1 AND notify_at <= ?2 RETURNING *",
            )
            .bind(id.to_string())
            .bind(now.as_millis())
            .bind((now + lease).as_millis())
            .fetch_all(connection)
            .boxed()
        });
        let claimed = self.readable(claim.await.map_err(unavailable)?, |row| {
            let request = read(row)?;
            let receivers = optional_text(row, "notify_left")?.unwrap_or(request.receivers);
            let tries = row.try_get::<u32, _>("notify_tries")? - 1;
            Ok(DueNotification { request, receivers, tries, until: now + lease })
        });
        Ok(claimed.await?.pop())
    }

    async fn finish_notification(
        &self,
        claimed: &DueNotification,
        next: Option<(Timestamp, Receivers)>,
    ) -> Result<(), StoreError> {
        let (id, until) = (claimed.request.id, claimed.until);
        self.database
            .write(Durability::Written, move |connection| {
                sqlx::query("UPDATE requests SET notify_at = ?, notify_left = ? WHERE id = ? AND notify_at = ?")
                    .bind(next.map(|(at, _)| at.as_millis()))
                    .bind(next.map(|(_, receivers)| receivers.to_string()))
                    .bind(id.to_string())
                    .bind(until.as_millis())
                    .execute(connection)
                    .boxed()
            })
            .await
            .map(drop)
            .map_err(unavailable)
    }
}

#[async_trait]
impl Check for SqliteRequests {
    async fn check(&self) -> Result<(), StoreError> {
        self.database.check().await
    }
}
