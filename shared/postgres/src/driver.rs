//! The statements of the stores ([`Driver`]) on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use domain::RequestId;
use sql::{Columns, Driver, Durability, SqlError, Statement, Value};
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Decode, Row, Type};
use tokio::time::timeout;

use crate::database::{PgDatabase, STATEMENT_TIMEOUT};

/// A row of PostgreSQL.
#[expect(missing_debug_implementations, reason = "a row may have secrets, such as headers")]
pub struct PgColumns(PgRow);

impl PgColumns {
    fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(&'r self, column: &str) -> Result<T, SqlError> {
        self.0.try_get(column).map_err(|error| SqlError::unreadable(column, error))
    }
}

impl Columns for PgColumns {
    fn text(&self, column: &str) -> Result<Option<&str>, SqlError> {
        self.get(column)
    }

    fn text_with_nul(&self, column: &str) -> Result<Option<&str>, SqlError> {
        let text = self.bytes(column)?.map(str::from_utf8).transpose();
        text.map_err(|error| SqlError::unreadable(column, error))
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, SqlError> {
        self.get(column)
    }

    fn boolean(&self, column: &str) -> Result<Option<bool>, SqlError> {
        self.get(column)
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, SqlError> {
        self.get(column)
    }
}

/// Replaces NUL characters, which the type TEXT does not have. Texts that may have them are of another type.
pub(crate) fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Returns the query of a statement. Its text is safe, because values are only in its parameters.
fn query(statement: Statement) -> Query<'static, Postgres, PgArguments> {
    let (text, values) = statement.into_parts();
    let text = AssertSqlSafe(text.into_owned());
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Text(text) => query.bind(text.map(without_nul)),
        Value::TextWithNul(text) => query.bind(text.map(String::into_bytes)),
        Value::Integer(number) => query.bind(number),
        Value::Boolean(value) => query.bind(value),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn failed(error: sqlx::Error) -> SqlError {
    // disk_full (postgresql.org/docs/15/errcodes-appendix.html)
    const DISK_FULL: &str = "53100";
    match error.as_database_error() {
        Some(cause) if cause.is_unique_violation() => SqlError::UniqueViolation,
        Some(cause) if cause.code().is_some_and(|code| code == DISK_FULL) => SqlError::Full,
        _ => SqlError::Failed(error.into()),
    }
}

/// Runs a statement for a limited time: a database that vanishes from the network closes no connection.
async fn in_time<T>(statement: impl Future<Output = sqlx::Result<T>>) -> Result<T, SqlError> {
    let result = timeout(STATEMENT_TIMEOUT, statement).await;
    result.map_err(|_| SqlError::Failed("the database does not respond".into()))?.map_err(failed)
}

#[async_trait]
impl Driver for PgDatabase {
    type Row = PgColumns;

    const TEXTS_OF_ARRAY: &'static str = "SELECT value FROM json_array_elements_text($1::json) AS texts (value)";

    const SKIP_LOCKED: &'static str = " FOR UPDATE SKIP LOCKED";

    const RECHECK: Option<Duration> = Some(Duration::from_secs(10));

    async fn query(&self, statement: Statement) -> Result<Vec<PgColumns>, SqlError> {
        self.fetch(Durability::Written, statement).await
    }

    async fn execute(&self, durability: Durability, statement: Statement) -> Result<u64, SqlError> {
        Ok(in_time(query(statement).execute(self.pool(durability))).await?.rows_affected())
    }

    async fn fetch(&self, durability: Durability, statement: Statement) -> Result<Vec<PgColumns>, SqlError> {
        let rows = in_time(query(statement).fetch_all(self.pool(durability))).await?;
        Ok(rows.into_iter().map(PgColumns).collect())
    }

    fn announce_change(&self, id: RequestId) {
        self.announce(id);
    }
}
