//! SQLite: many readers, one writer that commits in groups.

use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use ports::StoreError;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlStr, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::OpenError;

/// How a database is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatabaseOptions {
    /// Log every statement.
    pub log_statements: bool,
}

/// Writes in one transaction, at the most.
const GROUP: usize = 256;

/// The database. Writes go through one task, which commits whatever has come together while it was
/// busy: SQLite has one writer at a time, and many small commits would cost a disk flush each.
#[derive(Debug, Clone)]
pub struct Database {
    readers: SqlitePool,
    writer: mpsc::Sender<Write>,
}

/// Whether a write must survive a power cut before its caller goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It must: somebody is told that it is done.
    Flushed,
    /// It survives the death of the process, and a power cut at most takes the work back a step.
    Written,
}

type Run = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Answer> + Send>;
/// Told whether the transaction was committed.
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

struct Write {
    durability: Durability,
    run: Run,
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
            .busy_timeout(Duration::from_secs(30));
        if !options.log_statements {
            connect = connect.disable_statement_logging();
        }
        let mut connection = connect.connect().await.map_err(|e| failed(e.into()))?;
        migrations().run(&mut connection).await.map_err(|e| failed(e.into()))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false)
            .connect_with(connect.read_only(true))
            .await
            .map_err(|e| failed(e.into()))?;
        let (writer, writes) = mpsc::channel(4 * GROUP);
        tokio::spawn(write_in_groups(connection, writes));
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
        let (answer, answered) = oneshot::channel();
        let run: Run = Box::new(move |connection| {
            Box::pin(async move {
                let result = write(connection).await;
                let answer: Answer = Box::new(move |committed| {
                    let _ = answer.send(committed.map_err(sqlx::Error::Protocol).and(result));
                });
                answer
            })
        });
        let gone = |()| sqlx::Error::WorkerCrashed;
        self.writer.send(Write { durability, run }).await.map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?
    }

    /// Whether it answers.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await.map_err(unavailable)?;
        Ok(())
    }

    /// Writes what is left and closes.
    pub async fn close(self) {
        drop(self.writer);
        self.readers.close().await;
    }
}

/// The tables, version by version; what is listed here has run somewhere and is not to be changed.
fn migrations() -> Migrator {
    let migration = |version, name: &'static str, sql| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(vec![
        migration(1, "initial", include_str!("../migrations/0001_initial.sql")),
        migration(2, "api", include_str!("../migrations/0002_api.sql")),
        migration(3, "checkpoint", include_str!("../migrations/0003_checkpoint.sql")),
        migration(4, "history", include_str!("../migrations/0004_history.sql")),
        migration(5, "stored at", include_str!("../migrations/0005_stored_at.sql")),
    ])
}

async fn write_in_groups(mut connection: SqliteConnection, mut writes: mpsc::Receiver<Write>) {
    let mut group = Vec::with_capacity(GROUP);
    while writes.recv_many(&mut group, GROUP).await > 0 {
        let flush = group.iter().any(|write| write.durability == Durability::Flushed);
        let mut answers = Vec::with_capacity(group.len());
        let committed: sqlx::Result<()> = async {
            // In WAL mode a FULL commit flushes all that was written before it as well.
            if flush {
                sqlx::query("PRAGMA synchronous = FULL").execute(&mut connection).await?;
            }
            let mut transaction = connection.begin().await?;
            for write in group.drain(..) {
                answers.push((write.run)(&mut transaction).await);
            }
            transaction.commit().await?;
            if flush {
                sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut connection).await?;
            }
            Ok(())
        }
        .await;
        let committed = committed.map_err(|error| error.to_string());
        if let Err(error) = &committed {
            tracing::error!(error, "the database did not take a group of writes");
            group.clear();
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the database did not close");
    }
}

pub(crate) fn unavailable(error: impl Into<sqlx::Error>) -> StoreError {
    let error = error.into();
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::AlreadyExists,
        _ => StoreError::unavailable("the database", error),
    }
}
