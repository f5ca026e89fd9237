//! The statements of the stores ([`Driver`]) on PostgreSQL.

use async_trait::async_trait;
use domain::RequestId;
use ports::StoreError;
use sql::{Columns, Driver, Durability, SqlError, Statement, Value};
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Decode, Row, Type};

use crate::PgDatabase;

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

/// Returns the query of a statement. Its text is safe, because values are only in its parameters.
fn query(statement: Statement) -> Query<'static, Postgres, PgArguments> {
    let (text, values) = statement.into_parts();
    let text = AssertSqlSafe(text.into_owned());
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Text(text) => query.bind(text),
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

#[async_trait]
impl Driver for PgDatabase {
    type Row = PgColumns;

    const TEXTS_OF_ARRAY: &'static str = "SELECT value FROM json_array_elements_text($1::json) AS texts (value)";

    const SKIP_LOCKED: &'static str = " FOR UPDATE SKIP LOCKED";

    async fn query(&self, statement: Statement) -> Result<Vec<PgColumns>, SqlError> {
        self.fetch(Durability::Written, statement).await
    }

    async fn execute(&self, durability: Durability, statement: Statement) -> Result<u64, SqlError> {
        Ok(query(statement).execute(self.pool(durability)).await.map_err(failed)?.rows_affected())
    }

    async fn fetch(&self, durability: Durability, statement: Statement) -> Result<Vec<PgColumns>, SqlError> {
        let rows = query(statement).fetch_all(self.pool(durability)).await.map_err(failed)?;
        Ok(rows.into_iter().map(PgColumns).collect())
    }

    async fn check(&self) -> Result<(), StoreError> {
        // A standby takes no writes.
        let rows = self.query(Statement::new("SELECT pg_is_in_recovery() AS is_standby")).await?;
        match rows.first().map(|row| row.boolean("is_standby")).transpose()?.flatten() {
            Some(false) => Ok(()),
            _ => Err(StoreError::unavailable("the database", "it is a standby, which takes no writes")),
        }
    }

    fn announce_change(&self, id: RequestId) {
        self.announce(id);
    }
}
