//! Batched lookups of request rows by id. Concurrent lookups share one query, because the hand-over to SQLite's
//! thread and back costs more than the query.

use std::collections::HashMap;

use domain::{FetchRequest, RequestId};
use sqlx::sqlite::SqlitePool;
use tokio::sync::{mpsc, oneshot};

use super::rows::{read_or_failed, text};

/// The maximum number of ids in one query.
const BATCH: usize = 64;

type Answer = sqlx::Result<Option<FetchRequest>>;

/// The sender of lookups to the background task that runs them.
#[derive(Debug, Clone)]
pub(crate) struct Lookups(mpsc::Sender<(RequestId, oneshot::Sender<Answer>)>);

impl Lookups {
    pub fn start(pool: SqlitePool) -> Self {
        let (sender, mut asked) = mpsc::channel(4 * BATCH);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while asked.recv_many(&mut batch, BATCH).await > 0 {
                answer(&pool, &mut batch).await;
            }
        });
        Self(sender)
    }

    /// Returns the row with this id, or `None` if it does not exist. The read happens after the call.
    pub async fn get(&self, id: RequestId) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.send((id, answer)).await.map_err(|_| sqlx::Error::WorkerCrashed)?;
        answered.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}

async fn answer(pool: &SqlitePool, batch: &mut Vec<(RequestId, oneshot::Sender<Answer>)>) {
    let mut ids: Vec<_> = batch.iter().map(|(id, _)| id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = sqlx::query("SELECT * FROM requests WHERE id IN (SELECT value FROM json_each(?))")
        .bind(serde_json::to_string(&ids).unwrap_or_default())
        .fetch_all(pool)
        .await;
    let rows = rows.map_err(|error| error.to_string()).map(|rows| {
        let rows = rows.iter().filter_map(|row| Some((text::<RequestId>(row, "id").ok()?, row)));
        // An unreadable row must not fail the lookups of other rows.
        rows.map(|(id, row)| (id, read_or_failed(row).map_err(|error| error.to_string()))).collect::<HashMap<_, _>>()
    });
    for (id, answer) in batch.drain(..) {
        let row = match &rows {
            Ok(rows) => rows.get(&id).cloned().transpose(),
            Err(error) => Err(error.clone()),
        };
        let _ = answer.send(row.map_err(sqlx::Error::Protocol));
    }
}
