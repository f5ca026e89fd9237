//! SQLite: many readers, one writer that commits in groups.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ports::StoreError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlStr, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::data_folder::OpenError;

/// How a database is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatabaseOptions {
    /// Log every statement.
    pub log_statements: bool,
}

/// The most writes in one transaction.
const GROUP: usize = 256;

/// The size that the write-ahead log is cut to after a checkpoint.
const WAL_LIMIT_BYTES: &str = "67108864";

/// The database. Writes go through one task, which commits whatever has come together while it was
/// busy: SQLite has one writer at a time, and many small commits would cost a disk flush each.
#[derive(Debug, Clone)]
pub struct Database {
    readers: SqlitePool,
    writer: mpsc::Sender<Box<dyn Write>>,
}

/// Whether a write must survive a power cut before its caller goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It must: somebody is told that it is done.
    Flushed,
    /// It survives the death of the process, and a power cut at most takes the work back a step.
    Written,
}

/// A write on its way through the writer task.
trait Write: Send {
    fn durability(&self) -> Durability;

    /// Runs the write and keeps its result. Returns the error that ends the whole transaction, if it is such a one.
    fn run<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), GroupError>>;

    /// Sends the result to the caller, or why the transaction was not committed.
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
        // The caller may have gone.
        let _ = self.reply.send(committed.map_err(sqlx::Error::from).and(self.result));
    }
}

/// Why a transaction was not committed. Every write in it gets the same answer.
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

/// The primary result code (sqlite.org/rescode.html) of an error of SQLite.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn is_full(error: &sqlx::Error) -> bool {
    const SQLITE_FULL: i32 = 13;
    result_code(error) == Some(SQLITE_FULL)
        || matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull)
}

/// Whether the transaction cannot be relied on after this error: SQLite rolls it back by itself after some errors
/// (lang_transaction.html, "Response To Errors Within A Transaction"), and what follows would run outside of it.
fn ends_transaction(error: &sqlx::Error) -> bool {
    const SQLITE_CONSTRAINT: i32 = 19;
    match error {
        sqlx::Error::Database(_) => result_code(error) != Some(SQLITE_CONSTRAINT),
        // The statement ran; what it returned could not be read.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => false,
        _ => true,
    }
}

impl Database {
    /// Opens the file, makes it if need be, and brings its tables up to date.
    pub async fn open(path: &Path, options: DatabaseOptions) -> Result<Self, OpenError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Database { path: path.into(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            crate::files::create_private_folder(folder).map_err(OpenError::io(folder))?;
        }
        // SQLite's -wal and -shm files take their permissions from the database's.
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(OpenError::io(path))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(private).map_err(OpenError::io(path))?;

        let mut connect = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            // A long read lets the write-ahead log grow; the space is given back after the next checkpoint.
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

    /// For reading.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Runs `write`, alone and in order with other writes, and answers once it is committed. Its
    /// statements must be one: a group's writes share a transaction, and only a statement is undone
    /// by itself.
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

    /// Reads, and writes a row: a database on a full disk still answers reads.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await.map_err(unavailable)?;
        let write = self.write(Durability::Written, |connection| {
            sqlx::query(
                "INSERT INTO health (id, writes) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET writes = writes + 1",
            )
            .execute(connection)
            .boxed()
        });
        write.await.map(drop).map_err(unavailable)
    }

    /// Writes what is left and closes.
    pub async fn close(self) {
        drop(self.writer);
        self.readers.close().await;
    }
}

/// The migrations in `migrations/`, in the order of their numbers.
fn migrations() -> Migrator {
    let files: &[(i64, &'static str, &'static str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}

/// The error of migrations that did not run, in words for the operator.
fn migration_error(error: MigrateError) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        MigrateError::VersionMissing(_) => "it was made by a newer version of ProxyTorrent".into(),
        error => error.into(),
    }
}

/// Looks for damage in the database's file, beside everything else: on a large database it takes a while.
async fn quick_check(readers: SqlitePool) {
    match sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&readers).await {
        Ok(found) if found == "ok" => {}
        Ok(found) => tracing::error!(found, "the database is damaged: stop, and restore a backup"),
        // The pool was closed meanwhile, say.
        Err(error) => tracing::debug!(%error, "database not checked"),
    }
}

/// The one task that writes.
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
                tracing::error!(?error, writes = group.len(), "transaction failed, its writes are rolled back");
                // Whatever failed, a new connection has no transaction left over and no setting changed.
                self.connection = None;
            }
            for write in group.drain(..) {
                write.answer(committed.clone());
            }
        }
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database did not close");
        }
    }

    /// Runs a group of writes in one transaction. After an error none of them is committed.
    async fn commit(&mut self, group: &mut [Box<dyn Write>]) -> Result<(), GroupError> {
        let failed = |error: sqlx::Error| GroupError::from(&error);
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.connect.connect().await.map_err(failed)?),
        };
        // In WAL mode a FULL commit flushes all that was written before it as well.
        let flush = group.iter().any(|write| write.durability() == Durability::Flushed);
        if flush {
            sqlx::query("PRAGMA synchronous = FULL").execute(&mut *connection).await.map_err(failed)?;
        }
        // By hand: a transaction of sqlx counts itself as open after a commit that failed.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed)?;
        for write in group {
            write.run(connection).await?;
        }
        sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed)?;
        if flush {
            // The transaction is committed: an error here must not be taken for a failed write.
            if let Err(error) = sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut *connection).await {
                tracing::warn!(%error, "the writer's connection is replaced");
                self.connection = None;
            }
        }
        Ok(())
    }
}

pub(crate) fn unavailable(error: impl Into<sqlx::Error>) -> StoreError {
    let error = error.into();
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::AlreadyExists,
        error if is_full(error) => StoreError::Full,
        _ => StoreError::unavailable("the database", error),
    }
}
