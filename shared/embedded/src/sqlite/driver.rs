//! The statements of the stores ([`Driver`]) on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use sql::{Columns, Driver, Durability, SqlError, Statement, Value};
use sqlx::error::DatabaseError;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Row, Type};

use super::database::{Database, is_full};

/// A row of SQLite.
#[expect(missing_debug_implementations, reason = "a row may have secrets, such as headers")]
pub struct SqliteColumns(SqliteRow);

impl SqliteColumns {
    fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(&'r self, column: &str) -> Result<T, SqlError> {
        self.0.try_get(column).map_err(|error| SqlError::unreadable(column, error))
    }
}

impl Columns for SqliteColumns {
    fn text(&self, column: &str) -> Result<Option<&str>, SqlError> {
        self.get(column)
    }

    fn text_with_nul(&self, column: &str) -> Result<Option<&str>, SqlError> {
        self.get(column)
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
fn query(statement: Statement) -> Query<'static, Sqlite, SqliteArguments> {
    let (text, values) = statement.into_parts();
    let text = AssertSqlSafe(text.into_owned());
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Text(text) | Value::TextWithNul(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
        Value::Boolean(value) => query.bind(value),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn failed(error: sqlx::Error) -> SqlError {
    match error {
        error if is_full(&error) => SqlError::Full,
        error if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) => SqlError::UniqueViolation,
        error => SqlError::Failed(error.into()),
    }
}

#[async_trait]
impl Driver for Database {
    type Row = SqliteColumns;

    const TEXTS_OF_ARRAY: &'static str = "SELECT value FROM json_each($1)";

    const SKIP_LOCKED: &'static str = "";

    const RECHECK: Option<Duration> = None;

    async fn query(&self, statement: Statement) -> Result<Vec<SqliteColumns>, SqlError> {
        let rows = query(statement).fetch_all(self.readers()).await.map_err(failed)?;
        Ok(rows.into_iter().map(SqliteColumns).collect())
    }

    async fn execute(&self, durability: Durability, statement: Statement) -> Result<u64, SqlError> {
        let done = self.write(durability, move |connection| query(statement).execute(connection).boxed());
        Ok(done.await.map_err(failed)?.rows_affected())
    }

    async fn fetch(&self, durability: Durability, statement: Statement) -> Result<Vec<SqliteColumns>, SqlError> {
        let rows = self.write(durability, move |connection| query(statement).fetch_all(connection).boxed());
        Ok(rows.await.map_err(failed)?.into_iter().map(SqliteColumns).collect())
    }
}
