//! What a database provides to the stores of this crate.

use std::fmt::{Debug, Display};
use std::time::Duration;

use async_trait::async_trait;
use domain::RequestId;
use ports::StoreError;

use crate::Statement;

/// The name of the stores in errors.
const STORE: &str = "the database";

/// The error of a statement.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// A column has a value that cannot be read.
    #[error("the column {column} cannot be read: {why}")]
    Unreadable {
        /// The name of the column.
        column: String,
        /// The reason.
        why: String,
    },
    /// A row with the same unique key exists.
    #[error("a row with this key exists")]
    UniqueViolation,
    /// The database has no space left.
    #[error("no space left")]
    Full,
    /// The database failed.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl SqlError {
    /// Returns an [`SqlError::Unreadable`].
    pub fn unreadable(column: &str, why: impl Display) -> Self {
        Self::Unreadable { column: column.to_owned(), why: why.to_string() }
    }
}

impl From<SqlError> for StoreError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Full => Self::Full { store: STORE },
            SqlError::Failed(cause) => Self::unavailable(STORE, cause),
            error => Self::unavailable(STORE, error),
        }
    }
}

/// Whether a write must be flushed to the disk before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The write survives a power failure when it returns, because a client is informed of it.
    Flushed,
    /// The write survives a crash of the process. A power failure, or a crash of a database server, may revert it. That
    /// repeats a step, or lets a nonce be used again that was used in the last moment before.
    Written,
}

/// A row of a result. Each function returns `None` for NULL, and an [`SqlError::Unreadable`] if the column does not exist
/// or has another type.
pub trait Columns: Send + Sync + 'static {
    /// Returns the text in a column.
    fn text(&self, column: &str) -> Result<Option<&str>, SqlError>;

    /// Returns the integer in a column.
    fn integer(&self, column: &str) -> Result<Option<i64>, SqlError>;

    /// Returns the boolean in a column.
    fn boolean(&self, column: &str) -> Result<Option<bool>, SqlError>;

    /// Returns the bytes in a column.
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, SqlError>;

    /// Returns the text in a column whose texts may have NUL characters.
    fn text_with_nul(&self, column: &str) -> Result<Option<&str>, SqlError>;
}

/// Runs statements on a database.
#[async_trait]
pub trait Driver: Clone + Debug + Send + Sync + 'static {
    /// A row of a result.
    type Row: Columns;

    /// A query whose column `value` has the texts of the JSON array that is its parameter `$1`.
    const TEXTS_OF_ARRAY: &'static str;

    /// The end of a query that selects rows to change: it skips those that others change at this moment, so that callers
    /// cannot wait for each other. Empty if there is one writer.
    const SKIP_LOCKED: &'static str;

    /// How long a change that another process made may stay unnoticed, if its announcement is lost. `None`: there is no other
    /// process.
    const RECHECK: Option<Duration>;

    /// Runs a query.
    async fn query(&self, statement: Statement) -> Result<Vec<Self::Row>, SqlError>;

    /// Runs a statement that writes. Returns how many rows it changed.
    async fn execute(&self, durability: Durability, statement: Statement) -> Result<u64, SqlError>;

    /// Runs a statement that writes and has `RETURNING`. Returns its rows.
    async fn fetch(&self, durability: Durability, statement: Statement) -> Result<Vec<Self::Row>, SqlError>;

    /// Informs other processes, if there are any, that a request has changed. Does not wait for them; a lost message only
    /// costs time.
    fn announce_change(&self, _id: RequestId) {}
}
