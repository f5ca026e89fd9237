//! Batched lookups of request rows by id. Concurrent lookups share one query, because the hand-over to the connection
//! and back costs more than the query.

use std::collections::HashMap;

use domain::{FetchRequest, RequestId};
use tokio::sync::{mpsc, oneshot};

use crate::rows::{read_or_failed, request_columns, text};
use crate::{Driver, SqlError, Statement};

/// The maximum number of ids in one query.
const BATCH: usize = 64;

type Answer = Result<Option<FetchRequest>, SqlError>;

/// The sender of lookups to the background task that runs them.
#[derive(Debug, Clone)]
pub(crate) struct Lookups(mpsc::Sender<(RequestId, oneshot::Sender<Answer>)>);

impl Lookups {
    pub fn start(database: impl Driver) -> Self {
        let (sender, mut asked) = mpsc::channel(4 * BATCH);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while asked.recv_many(&mut batch, BATCH).await > 0 {
                answer(&database, &mut batch).await;
            }
        });
        Self(sender)
    }

    /// Returns the row with this id, or `None` if it does not exist. The read happens after the call.
    pub async fn get(&self, id: RequestId) -> Answer {
        let ended = || SqlError::Failed("the task for lookups has ended".into());
        let (answer, answered) = oneshot::channel();
        self.0.send((id, answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

async fn answer<D: Driver>(database: &D, batch: &mut Vec<(RequestId, oneshot::Sender<Answer>)>) {
    let mut ids: Vec<_> = batch.iter().map(|(id, _)| id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let query = format!("SELECT {} FROM requests WHERE id IN ({})", request_columns!(), D::TEXTS_OF_ARRAY);
    let query = Statement::new(query).bind(serde_json::Value::from(ids).to_string());
    let rows = database.query(query).await.map_err(|error| error.to_string()).map(|rows| {
        let rows = rows.iter().filter_map(|row| Some((text::<RequestId>(row, "id").ok()?, row)));
        // An unreadable row must not fail the lookups of other rows.
        rows.map(|(id, row)| (id, read_or_failed(row).map_err(|error| error.to_string()))).collect::<HashMap<_, _>>()
    });
    for (id, answer) in batch.drain(..) {
        let row = match &rows {
            Ok(rows) => rows.get(&id).cloned().transpose(),
            Err(error) => Err(error.clone()),
        };
        let _ = answer.send(row.map_err(|error| SqlError::Failed(error.into())));
    }
}
