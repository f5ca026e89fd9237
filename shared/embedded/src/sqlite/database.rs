//! SQLite database: many readers, one writer with group commit.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sql::Durability;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlStr, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::data_folder::OpenError;

/// The options of a database.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatabaseOptions {
    /// Whether every statement is logged.
    pub log_statements: bool,
}

/// The maximum number of writes in one transaction.
const GROUP: usize = 256;

/// The size to which the write-ahead log is truncated after a checkpoint.
const WAL_LIMIT_BYTES: &str = "67108864";

/// The database. One task runs all writes, and commits those that arrived during the last commit as one transaction
/// (group commit): SQLite allows one writer at a time, and every small commit would cost a disk flush.
#[derive(Debug, Clone)]
pub struct Database {
    readers: SqlitePool,
    writer: mpsc::Sender<Box<dyn Write>>,
}

/// A write in the queue of the writer task.
trait Write: Send {
    fn durability(&self) -> Durability;

    /// Runs the write and keeps its result. Returns an error if the whole transaction must be rolled back.
    fn run<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), GroupError>>;

    /// Sends the result to the caller, or the reason why the transaction was not committed.
    fn answer(self: Box<Self>, committed: Result<(), GroupError>);
}

struct TypedWrite<T, F> {
    durability: Durability,
    write: Option<F>,
    result: sqlx::Result<T>,
    reply: oneshot::Sender<sqlx::Result<T>>,
}

impl<T, F> Write for TypedWrite<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), GroupError>> {
        Box::pin(async move {
            let Some(write) = self.write.take() else { return Ok(()) };
            self.result = write(connection).await;
            match &self.result {
                Err(error) if ends_transaction(error) => Err(GroupError::from(error)),
                _ => Ok(()),
            }
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), GroupError>) {
        // Fails if the caller no longer waits.
        let _ = self.reply.send(committed.map_err(sqlx::Error::from).and(self.result));
    }
}

/// The error of a transaction that was not committed. Every write in it returns the same error.
#[derive(Debug, Clone)]
enum GroupError {
    Full,
    Failed(String),
}

impl From<&sqlx::Error> for GroupError {
    fn from(error: &sqlx::Error) -> Self {
        if is_full(error) { Self::Full } else { Self::Failed(error.to_string()) }
    }
}

impl From<GroupError> for sqlx::Error {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Full => Self::Io(io::ErrorKind::StorageFull.into()),
            GroupError::Failed(text) => Self::Protocol(text),
        }
    }
}

/// Returns the primary result code (sqlite.org/rescode.html) of an SQLite error, or `None` for other errors.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    const SQLITE_FULL: i32 = 13;
    result_code(error) == Some(SQLITE_FULL)
        || matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull)
}

/// Whether the transaction must be abandoned after this error: after some errors SQLite rolls it back automatically
/// (lang_transaction.html, "Response To Errors Within A Transaction"), and further statements would run outside of
/// it.
fn ends_transaction(error: &sqlx::Error) -> bool {
    const SQLITE_CONSTRAINT: i32 = 19;
    match error {
        sqlx::Error::Database(_) => result_code(error) != Some(SQLITE_CONSTRAINT),
        // The statement ran, but its result could not be decoded.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => false,
        _ => true,
    }
}

impl Database {
    /// Opens the file, creates it if necessary, and runs the migrations.
    pub async fn open(path: &Path, options: DatabaseOptions) -> Result<Self, OpenError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Database { path: path.into(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            crate::files::create_private_folder(folder).map_err(OpenError::io(folder))?;
        }
        // SQLite's -wal and -shm files inherit the permissions of the database file.
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(OpenError::io(path))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(private).map_err(OpenError::io(path))?;

        let mut connect = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            // A long read lets the write-ahead log grow. The space is released after the next checkpoint.
            .pragma("journal_size_limit", WAL_LIMIT_BYTES)
            .busy_timeout(Duration::from_secs(30));
        if !options.log_statements {
            connect = connect.disable_statement_logging();
        }
        let mut connection = connect.connect().await.map_err(|e| failed(e.into()))?;
        migrations().run(&mut connection).await.map_err(|error| failed(migration_error(error)))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false)
            .connect_with(connect.clone().read_only(true))
            .await
            .map_err(|e| failed(e.into()))?;
        tokio::spawn(quick_check(readers.clone()));
        let (writer, writes) = mpsc::channel(4 * GROUP);
        tokio::spawn(Writer { connect, connection: Some(connection) }.run(writes));
        Ok(Self { readers, writer })
    }

    /// Returns the pool of read-only connections.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Runs `write` in order with other writes. Returns its result after the commit. If several statements must be
    /// atomic, combine them into one: the writes of a group share a transaction, and on a constraint error only the
    /// failed statement is undone.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        write: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    ) -> sqlx::Result<T> {
        let (reply, answered) = oneshot::channel();
        let gone = || sqlx::Error::WorkerCrashed;
        let write = TypedWrite { durability, write: Some(write), result: Err(gone()), reply };
        self.writer.send(Box::new(write)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Commits the writes that are queued, also those whose callers no longer wait, and closes the connections.
    pub async fn close(self) {
        if let Err(error) = self.write(Durability::Flushed, |_| futures::future::ready(Ok(())).boxed()).await {
            tracing::warn!(%error, "pending writes not committed");
        }
        drop(self.writer);
        self.readers.close().await;
    }
}

/// Returns the migrations in `migrations/` in the order of their numbers.
fn migrations() -> Migrator {
    let files: &[(i64, &'static str, &'static str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}

/// Converts a migration error into a message for the operator.
fn migration_error(error: MigrateError) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        MigrateError::VersionMissing(_) => "it was created by a newer version of ProxyTorrent".into(),
        error => error.into(),
    }
}

/// Checks the database file for damage, in the background: it takes long on a large database.
async fn quick_check(readers: SqlitePool) {
    match sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&readers).await {
        Ok(found) if found == "ok" => {}
        Ok(found) => tracing::error!(found, "the database is damaged: stop, and restore a backup"),
        // For example if the pool was closed during the check.
        Err(error) => tracing::debug!(%error, "database not checked"),
    }
}

/// The task that runs all writes.
struct Writer {
    connect: SqliteConnectOptions,
    /// `None` after a failed transaction, until the next group of writes.
    connection: Option<SqliteConnection>,
}

impl Writer {
    async fn run(mut self, mut writes: mpsc::Receiver<Box<dyn Write>>) {
        let mut group = Vec::with_capacity(GROUP);
        while writes.recv_many(&mut group, GROUP).await > 0 {
            let committed = self.commit(&mut group).await;
            if let Err(error) = &committed {
                tracing::error!(?error, writes = group.len(), "transaction failed, writes rolled back");
                // A new connection has no open transaction and no changed setting.
                self.connection = None;
            }
            for write in group.drain(..) {
                write.answer(committed.clone());
            }
        }
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "database not closed");
        }
    }

    /// Runs a group of writes in one transaction. After an error none of them is committed.
    async fn commit(&mut self, group: &mut [Box<dyn Write>]) -> Result<(), GroupError> {
        let failed = |error: sqlx::Error| GroupError::from(&error);
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.connect.connect().await.map_err(failed)?),
        };
        // In WAL mode, a FULL commit also flushes all earlier writes.
        let flush = group.iter().any(|write| write.durability() == Durability::Flushed);
        if flush {
            sqlx::query("PRAGMA synchronous = FULL").execute(&mut *connection).await.map_err(failed)?;
        }
        // Explicit statements, because sqlx treats its own transaction as open after a failed commit.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed)?;
        for write in group {
            write.run(connection).await?;
        }
        sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed)?;
        if flush {
            // The transaction is already committed, so an error here must not fail the writes.
            if let Err(error) = sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut *connection).await {
                tracing::warn!(%error, "writer connection replaced");
                self.connection = None;
            }
        }
        Ok(())
    }
}
