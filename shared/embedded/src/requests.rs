//! [`Requests`] on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, FetchRequest, Fingerprint, InfoHash, LeaseToken, RequestId, Status, Step, Timestamp, UserId,
};
use futures::FutureExt;
use ports::{Claim, Holder, Load, Requests, Settlement, StoreError, Twins, Wakeup};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Row, Sqlite};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::database::{Database, Durability, unavailable};
use crate::lookups::Lookups;
use crate::rows::{is_unreadable, optional_text, read, read_or_failed, report_unreadable, text, waiting};
use crate::watchers::Watchers;

/// The table of requests in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteRequests {
    database: Database,
    lookups: Lookups,
    watchers: Watchers,
}

impl SqliteRequests {
    /// Opens the table and makes everything due that was under way: the holders of its leases died with the
    /// process before, and its wake-ups were lost with it. Queued rows wait for their time.
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
            // What is ready can be served from a full disk; the leases run out by themselves.
            Err(StoreError::Full) => tracing::error!("no space left: leases of the last run are not released"),
            Err(error) => return Err(error),
        }
        let lookups = Lookups::start(database.readers().clone());
        Ok(Self { database, lookups, watchers: Watchers::default() })
    }

    /// The values of rows. A row that cannot be read is quarantined.
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

    /// Ends a row that cannot be read, so that no sweep finds it again.
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

/// Claims a row that has one of these statuses.
macro_rules! claim_sql {
    ($statuses:literal) => {
        concat!(
            "UPDATE requests SET updated_at = ?3, due_at = ?4, lease = ?2 WHERE id = ?1 AND status IN (",
            $statuses,
            ") AND due_at <= ?3 RETURNING *"
        )
    };
}

/// Writes all that a step may change, if the condition on the row holds.
macro_rules! write_state_sql {
    ($condition:literal) => {
        concat!(
            "UPDATE requests SET status = ?2, progress = ?3, retry_count = ?4, sha256 = ?5, content_hash = ?6, \
             content_size = ?7, content_type = ?8, file_name = ?9, final_url = ?10, origin_status = ?11, \
             fetched_at = ?12, checkpoint = ?13, infohash = ?14, infohash_v2 = ?15, error_code = ?16, \
             error_message = ?17, updated_at = ?18, completed_at = ?19, expires_at = ?20, due_at = ?21, lease = NULL, \
             notify_at = CASE WHEN callback_url IS NOT NULL AND ?22 THEN ?18 ELSE notify_at END \
             WHERE id = ?1 AND ",
            $condition,
            " RETURNING waiting"
        )
    };
}

/// Binds what [`write_state_sql`] writes.
fn bind_state<'q>(
    query: sqlx::query::Query<'q, Sqlite, SqliteArguments>,
    row: &FetchRequest,
) -> sqlx::query::Query<'q, Sqlite, SqliteArguments> {
    let (content, failure) = (row.content.as_ref(), row.failure.as_ref());
    query
        .bind(row.id.to_string())
        .bind(row.status.as_str())
        .bind(row.progress)
        .bind(row.retry_count)
        .bind(row.spec.sha256.map(|hash| hash.to_string()))
        .bind(content.map(|c| c.hash.to_string()))
        .bind(content.map(|c| c.size as i64))
        .bind(content.map(|c| c.media_type.clone()))
        .bind(content.map(|c| c.file_name.clone()))
        .bind(content.map(|c| c.final_url.to_string()))
        .bind(content.map(|c| c.origin_status))
        .bind(content.map(|c| c.fetched_at.as_millis()))
        .bind(row.checkpoint.clone())
        .bind(row.infohash.map(|hash| hash.to_string()))
        .bind(row.infohash_v2.map(|hash| hash.to_string()))
        .bind(failure.map(|f| f.code.as_str()))
        .bind(failure.map(|f| f.message.clone()))
        .bind(row.updated_at.as_millis())
        .bind(row.completed_at.map(Timestamp::as_millis))
        .bind(row.expires_at.map(Timestamp::as_millis))
        .bind(row.due_at.map(Timestamp::as_millis))
        .bind(matches!(row.status, Status::Ready | Status::Failed))
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
                         callback_url, history) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    .bind(row.spec.ttl)
                    .bind(row.keep_for.as_millis() as i64)
                    .bind(row.fingerprint.to_string())
                    .bind(row.status.as_str())
                    .bind(row.progress)
                    .bind(row.retry_count)
                    .bind(row.created_at.as_millis())
                    .bind(row.updated_at.as_millis())
                    .bind(row.due_at.map(Timestamp::as_millis))
                    .bind(row.spec.callback_url.as_ref().map(Url::as_str))
                    .bind(row.history.as_secs() as i64)
                    .execute(connection)
                    .await
                }
                .boxed()
            })
            .await
            .map(drop)
            .map_err(unavailable)
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
            // Sorts behind every id.
            .bind(before.map_or_else(|| "~".to_owned(), |id| id.to_string()))
            .bind(limit);
        let query = match status {
            None => query,
            Some(status) => query.bind(status.as_str()),
        };
        query.try_map(|row| read_or_failed(&row)).fetch_all(self.database.readers()).await.map_err(unavailable)
    }

    async fn load(&self, owner: &UserId) -> Result<Load, StoreError> {
        sqlx::query(
            "SELECT coalesce(sum(status <> 'ready'), 0) AS active, \
             coalesce(sum(CASE status WHEN 'ready' THEN content_size END), 0) AS stored_bytes FROM requests \
             WHERE owner = ? AND status IN ('queued', 'fetching', 'packaging', 'seeding', 'ready')",
        )
        .bind(owner.as_str())
        .try_map(|row: SqliteRow| {
            let number = |column| row.try_get::<i64, _>(column).map(|number| number as u64);
            Ok(Load { active: number("active")?, stored_bytes: number("stored_bytes")? })
        })
        .fetch_one(self.database.readers())
        .await
        .map_err(unavailable)
    }

    async fn changed(&self, seen: &FetchRequest, patience: Duration) -> Result<Option<FetchRequest>, StoreError> {
        let deadline = Instant::now() + patience;
        let mut watcher = self.watchers.watch(seen.id);
        let state = |row: &FetchRequest| (row.status, row.progress, row.retry_count);
        loop {
            let row = self.get(seen.id).await?;
            if row.as_ref().is_none_or(|row| state(row) != state(seen))
                || timeout_at(deadline, watcher.changed()).await.is_err()
            {
                return Ok(row);
            }
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
        let sql = match step {
            Step::Fetch => {
                "UPDATE requests SET status = 'fetching', updated_at = ?3, due_at = ?4, lease = ?2 \
                 WHERE id = ?1 AND status IN ('queued', 'fetching') AND due_at <= ?3 RETURNING *"
            }
            Step::Package => claim_sql!("'packaging'"),
            Step::Seed => claim_sql!("'seeding'"),
            Step::Expire => claim_sql!("'ready'"),
            Step::Release => claim_sql!("'failed', 'cancelled', 'expired'"),
        };
        let row = self
            .database
            .write(Durability::Written, move |connection| {
                sqlx::query(sql)
                    .bind(id.to_string())
                    .bind(token.to_string())
                    .bind(now.as_millis())
                    .bind((now + lease).as_millis())
                    .try_map(move |row| Ok(Claim { request: read(&row)?, token, waiting: waiting(&row)? }))
                    .fetch_optional(connection)
                    .boxed()
            })
            .await;
        let row = match row {
            Err(error) if is_unreadable(&error) => {
                self.quarantine(id.to_string(), &error).await?;
                return Ok(None);
            }
            row => row.map_err(unavailable)?,
        };
        if row.is_some() {
            self.watchers.changed(id);
        }
        Ok(row)
    }

    async fn heartbeat(&self, claim: &Claim, progress: u8, now: Timestamp, lease: Duration) -> Result<(), StoreError> {
        let (id, token) = (claim.request.id, claim.token);
        let done = self
            .database
            .write(Durability::Written, move |connection| {
                sqlx::query("UPDATE requests SET progress = ?, updated_at = ?, due_at = ? WHERE id = ? AND lease = ?")
                    .bind(progress)
                    .bind(now.as_millis())
                    .bind((now + lease).as_millis())
                    .bind(id.to_string())
                    .bind(token.to_string())
                    .execute(connection)
                    .boxed()
            })
            .await
            .map_err(unavailable)?;
        self.watchers.changed(claim.request.id);
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::ClaimLost) }
    }

    async fn save(&self, claim: &Claim, row: &FetchRequest) -> Result<Vec<RequestId>, StoreError> {
        let (row, token) = (row.clone(), claim.token);
        let done = self.database.write(Durability::Written, move |connection| {
            bind_state(sqlx::query(write_state_sql!("lease = ?23")), &row)
                .bind(token.to_string())
                .try_map(|row| waiting(&row))
                .fetch_optional(connection)
                .boxed()
        });
        let done = done.await.map_err(unavailable)?;
        self.watchers.changed(claim.request.id);
        done.ok_or(StoreError::ClaimLost)
    }

    async fn cancel(&self, id: RequestId, owner: &UserId, now: Timestamp) -> Result<Option<FetchRequest>, StoreError> {
        let name = owner.clone();
        let cancelled = self
            .database
            .write(Durability::Flushed, move |connection| {
                async move {
                    sqlx::query(
                        "UPDATE requests SET status = 'cancelled', updated_at = ?3, due_at = ?3, lease = NULL, \
                         completed_at = coalesce(completed_at, ?3) \
                         WHERE id = ?1 AND owner = ?2 AND status NOT IN ('failed', 'cancelled', 'expired') RETURNING *",
                    )
                    .bind(id.to_string())
                    .bind(name.as_str())
                    .bind(now.as_millis())
                    .try_map(|row| read(&row))
                    .fetch_optional(connection)
                    .await
                }
                .boxed()
            })
            .await
            .map_err(unavailable)?;
        match cancelled {
            Some(row) => {
                self.watchers.changed(id);
                Ok(Some(row))
            }
            None => Ok(self.get(id).await?.filter(|row| row.owner == *owner)),
        }
    }

    async fn keep(
        &self,
        id: RequestId,
        owner: &UserId,
        keep_for: Duration,
        now: Timestamp,
    ) -> Result<Option<FetchRequest>, StoreError> {
        let name = owner.clone();
        let kept = self.database.write(Durability::Flushed, move |connection| {
            async move {
                sqlx::query(
                    "UPDATE requests SET keep_for = ?3, updated_at = ?4, \
                     expires_at = CASE status WHEN 'ready' THEN ?4 + ?3 ELSE expires_at END, \
                     due_at = CASE status WHEN 'ready' THEN ?4 + ?3 ELSE due_at END, \
                     lease = CASE status WHEN 'ready' THEN NULL ELSE lease END \
                     WHERE id = ?1 AND owner = ?2 AND status IN ('queued', 'fetching', 'seeding', 'ready') RETURNING *",
                )
                .bind(id.to_string())
                .bind(name.as_str())
                .bind(keep_for.as_millis() as i64)
                .bind(now.as_millis())
                .try_map(|row| read(&row))
                .fetch_optional(connection)
                .await
            }
            .boxed()
        });
        match kept.await.map_err(unavailable)? {
            Some(row) => {
                self.watchers.changed(id);
                Ok(Some(row))
            }
            None => Ok(self.get(id).await?.filter(|row| row.owner == *owner)),
        }
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Wakeup>, StoreError> {
        let query = sqlx::query(
            "SELECT id, status, infohash FROM requests \
             WHERE due_at <= ? AND status <> 'ready' ORDER BY due_at LIMIT ?",
        )
        .bind(now.as_millis())
        .bind(limit);
        let wakeup = |row: &SqliteRow| {
            let id = text(row, "id")?;
            Ok(match text::<Status>(row, "status")?.step() {
                Step::Fetch | Step::Expire => Wakeup::Fetch(id),
                Step::Package => Wakeup::Package(id),
                Step::Seed => Wakeup::Seed(text(row, "infohash")?, Some(id)),
                Step::Release => Wakeup::Release(id),
            })
        };
        self.readable(query.fetch_all(self.database.readers()).await.map_err(unavailable)?, wakeup).await
    }

    async fn hasten(
        &self,
        now: Timestamp,
        latest: Timestamp,
        latest_webhook: Timestamp,
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
        let webhooks = self.database.write(Durability::Written, move |connection| {
            sqlx::query("UPDATE requests SET notify_at = ?1 WHERE notify_at > ?2")
                .bind(now.as_millis())
                .bind(latest_webhook.as_millis())
                .execute(connection)
                .boxed()
        });
        Ok(done.await.map_err(unavailable)?.rows_affected() + webhooks.await.map_err(unavailable)?.rows_affected())
    }

    async fn outlived(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query =
            sqlx::query("SELECT id FROM requests WHERE due_at <= ? AND status = 'ready' ORDER BY due_at LIMIT ?")
                .bind(now.as_millis())
                .bind(limit);
        let rows = query.fetch_all(self.database.readers()).await.map_err(unavailable)?;
        self.readable(rows, |row| text(row, "id")).await
    }

    async fn forget(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
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

    async fn twins(&self, fingerprint: &Fingerprint) -> Result<Twins, StoreError> {
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
        Ok(Twins { first_in_flight: self.first_in_flight(fingerprint).await?, freshest })
    }

    async fn wait_behind(&self, id: RequestId, first: RequestId) -> Result<bool, StoreError> {
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

    async fn wake(&self, ids: &[RequestId], now: Timestamp) -> Result<Vec<RequestId>, StoreError> {
        let mut woken = vec![];
        for id in ids.iter().copied() {
            let done = self.database.write(Durability::Written, move |connection| {
                sqlx::query("UPDATE requests SET due_at = ? WHERE id = ? AND status = 'queued'")
                    .bind(now.as_millis())
                    .bind(id.to_string())
                    .execute(connection)
                    .boxed()
            });
            if done.await.map_err(unavailable)?.rows_affected() == 1 {
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
        let (sql, failure) = match settlement {
            Settlement::Ready => (
                "UPDATE requests SET status = 'ready', progress = 100, updated_at = ?2, completed_at = ?2, \
                 expires_at = ?2 + keep_for, due_at = ?2 + keep_for, error_code = ?3, error_message = ?4, lease = NULL, \
                 notify_at = CASE WHEN callback_url IS NOT NULL THEN ?2 END \
                 WHERE id = ?5 AND infohash = ?1 AND status = 'seeding' RETURNING *",
                None,
            ),
            Settlement::Repackage => (
                "UPDATE requests SET status = 'packaging', updated_at = ?2, due_at = ?2, \
                 error_code = ?3, error_message = ?4, lease = NULL \
                 WHERE id = ?5 AND infohash = ?1 AND status = 'seeding' RETURNING *",
                None,
            ),
            Settlement::Failed(failure) => (
                "UPDATE requests SET status = 'failed', updated_at = ?2, completed_at = ?2, due_at = ?2, \
                 error_code = ?3, error_message = ?4, lease = NULL, \
                 notify_at = CASE WHEN callback_url IS NOT NULL THEN ?2 END \
                 WHERE id = ?5 AND infohash = ?1 AND status = 'seeding' RETURNING *",
                Some(failure),
            ),
        };
        let row: Option<FetchRequest> = self
            .database
            .write(Durability::Written, move |connection| {
                sqlx::query(sql)
                    .bind(infohash.to_string())
                    .bind(now.as_millis())
                    .bind(failure.as_ref().map(|f| f.code.as_str()))
                    .bind(failure.map(|f| f.message))
                    .bind(id.to_string())
                    .try_map(|row| read(&row))
                    .fetch_optional(connection)
                    .boxed()
            })
            .await
            .map_err(unavailable)?;
        if row.is_some() {
            self.watchers.changed(id);
        }
        Ok(row)
    }

    async fn holders(&self, content: ContentHash) -> Result<Vec<Holder>, StoreError> {
        sqlx::query(
            "SELECT DISTINCT status, infohash FROM requests \
             WHERE content_hash = ? AND status IN ('packaging', 'seeding', 'ready')",
        )
        .bind(content.to_string())
        .try_map(|row: SqliteRow| {
            Ok(Holder { status: text(&row, "status")?, infohash: optional_text(&row, "infohash")? })
        })
        .fetch_all(self.database.readers())
        .await
        .map_err(unavailable)
    }

    async fn ready_with(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let query = sqlx::query("SELECT id FROM requests WHERE content_hash = ? AND status = 'ready' LIMIT ?")
            .bind(content.to_string())
            .bind(limit);
        let rows = query.fetch_all(self.database.readers()).await.map_err(unavailable)?;
        self.readable(rows, |row| text(row, "id")).await
    }

    async fn replace(&self, seen: &FetchRequest, row: &FetchRequest) -> Result<bool, StoreError> {
        let (id, row, status, updated_at) = (seen.id, row.clone(), seen.status, seen.updated_at);
        let done = self.database.write(Durability::Written, move |connection| {
            bind_state(sqlx::query(write_state_sql!("lease IS NULL AND status = ?23 AND updated_at = ?24")), &row)
                .bind(status.as_str())
                .bind(updated_at.as_millis())
                .fetch_optional(connection)
                .boxed()
        });
        let done = done.await.map_err(unavailable)?;
        self.watchers.changed(id);
        Ok(done.is_some())
    }

    async fn notifications(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
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
    ) -> Result<Option<(FetchRequest, u32)>, StoreError> {
        // Most requests tell nobody: a read is cheaper than a write.
        let due = sqlx::query("SELECT 1 FROM requests WHERE id = ? AND notify_at <= ?")
            .bind(id.to_string())
            .bind(now.as_millis())
            .fetch_optional(self.database.readers())
            .await
            .map_err(unavailable)?;
        if due.is_none() {
            return Ok(None);
        }
        self.database
            .write(Durability::Written, move |connection| {
                sqlx::query(
                    "UPDATE requests SET notify_at = ?3, notify_tries = notify_tries + 1 \
                     WHERE id = ?1 AND notify_at <= ?2 RETURNING *",
                )
                .bind(id.to_string())
                .bind(now.as_millis())
                .bind((now + lease).as_millis())
                .try_map(|row| Ok((read(&row)?, row.try_get::<u32, _>("notify_tries")? - 1)))
                .fetch_optional(connection)
                .boxed()
            })
            .await
            .map_err(unavailable)
    }

    async fn notified(&self, id: RequestId, next: Option<Timestamp>) -> Result<(), StoreError> {
        self.database
            .write(Durability::Written, move |connection| {
                sqlx::query("UPDATE requests SET notify_at = ? WHERE id = ?")
                    .bind(next.map(Timestamp::as_millis))
                    .bind(id.to_string())
                    .execute(connection)
                    .boxed()
            })
            .await
            .map(drop)
            .map_err(unavailable)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.database.check().await
    }
}
