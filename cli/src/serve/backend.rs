//! The ports: on this machine, or with the rows in a PostgreSQL database that several instances share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use embedded::{
    ChannelTaskQueue, Database, DatabaseOptions, FolderContents, FolderLock, MemoryRateLimiter, MemorySeeders,
    MemorySwarm, SpaceLimits, SqliteGuards, SqliteRequests, SqliteStatistics, SqliteTorrents, SteadyClock,
    TaskReceiver,
};
use ports::{Guards, Requests, Seeders, Statistics, Stores, Swarm, Torrents};
use postgres::{PgDatabase, PgDatabaseOptions, PgGuards, PgRateLimiter, PgSeeders, PgStatistics, PgSwarm, PgTorrents};
use settings::{DatabaseLocation, ExposeSecret, Settings, Storage};

use crate::error::CommandError;

/// The most that the clocks of this machine and of the database may differ: much less than a lease.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(10);

/// The stores.
pub(super) struct Backend {
    pub stores: Stores,
    /// The contents in `stores`.
    pub folder: FolderContents,
    pub guards: Arc<dyn Guards>,
    pub swarm: Arc<dyn Swarm>,
    pub seeders: Arc<dyn Seeders>,
    /// The key of the passkeys.
    pub tracker_secret: Vec<u8>,
    database: OpenDatabase,
}

/// The open database.
enum OpenDatabase {
    /// A file, with the lock of the data folder.
    Sqlite(Database, FolderLock),
    /// A server.
    Postgres(PgDatabase),
}

/// The ports for rows.
struct Rows {
    requests: Arc<dyn Requests>,
    torrents: Arc<dyn Torrents>,
    statistics: Arc<dyn Statistics>,
    guards: Arc<dyn Guards>,
    swarm: Arc<dyn Swarm>,
    seeders: Arc<dyn Seeders>,
    /// The key of the passkeys.
    tracker_secret: String,
    database: OpenDatabase,
}

impl Backend {
    /// Opens the stores. Returns them with the receiving end of the task queue.
    pub async fn open(settings: &Settings) -> Result<(Self, TaskReceiver), CommandError> {
        let storage = &settings.storage;
        let rows = match settings.database.location(storage).map_err(CommandError::Start)? {
            DatabaseLocation::Sqlite(path) => Rows::in_sqlite(settings, &path).await?,
            DatabaseLocation::Postgres(url) => Rows::in_postgres(settings, url.expose_secret()).await?,
        };
        let limits = SpaceLimits {
            min_free: storage.min_free.map(settings::Bounded::get),
            max_bytes: Some(storage.max_bytes.get()).filter(|bytes| *bytes > 0),
        };
        let folder = match &rows.database {
            OpenDatabase::Sqlite(..) => {
                let folder = FolderContents::open(storage.contents(), limits)?;
                if folder.owner()?.is_some() {
                    return Err(CommandError::Start(format!(
                        "{} has the contents of a PostgreSQL database, which this SQLite database does not know: set \
                         DATABASE__DATABASE_URL to that database, or STORAGE__CONTENT_PATH to another folder",
                        storage.contents().display()
                    )));
                }
                folder
            }
            OpenDatabase::Postgres(database) => {
                let folder = FolderContents::open_shared(storage.contents(), limits)?;
                check_owner(database, &folder, storage).await?;
                folder
            }
        };
        let (tasks, receiver): (ChannelTaskQueue, _) = embedded::channel();
        let stores = Stores {
            requests: rows.requests,
            torrents: rows.torrents,
            statistics: rows.statistics,
            contents: Arc::new(folder.clone()),
            tasks: Arc::new(tasks),
            clock: Arc::new(SteadyClock::default()),
        };
        let Rows { guards, swarm, seeders, tracker_secret, database, .. } = rows;
        let tracker_secret = tracker_secret.into_bytes();
        Ok((Self { stores, folder, guards, swarm, seeders, tracker_secret, database }, receiver))
    }

    /// Whether other instances may use the stores at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.database, OpenDatabase::Postgres(_))
    }

    /// Closes the database.
    pub async fn close(self) {
        match self.database {
            OpenDatabase::Sqlite(database, _lock) => database.close().await,
            OpenDatabase::Postgres(database) => database.close().await,
        }
    }
}

impl Rows {
    /// Durable rows in an SQLite file, short-lived state in memory. Locks the data folder.
    async fn in_sqlite(settings: &Settings, path: &Path) -> Result<Self, CommandError> {
        let storage = &settings.storage;
        let lock = FolderLock::take(&storage.base_path)?;
        let options = DatabaseOptions { log_statements: settings.database.echo_sql };
        let database = Database::open(path, options).await?;
        let requests = SqliteRequests::open(database.clone()).await.map_err(CommandError::start)?;
        let torrents = SqliteTorrents::open(database.clone(), storage.torrents())?;
        let tracker_secret = match &settings.tracker.secret {
            Some(secret) => secret.expose_secret().to_owned(),
            None => embedded::load_or_create_secret(&storage.base_path.join("tracker-secret"), fresh_id)?,
        };
        Ok(Self {
            requests: Arc::new(requests),
            torrents: Arc::new(torrents),
            statistics: Arc::new(SqliteStatistics::new(database.clone())),
            guards: Arc::new(SqliteGuards::new(database.clone(), MemoryRateLimiter::default())),
            swarm: Arc::new(MemorySwarm::default()),
            seeders: Arc::new(MemorySeeders::default()),
            tracker_secret,
            database: OpenDatabase::Sqlite(database, lock),
        })
    }

    /// All rows in PostgreSQL.
    async fn in_postgres(settings: &Settings, url: &str) -> Result<Self, CommandError> {
        let max_connections = settings.database.max_connections.get_u32();
        let options = PgDatabaseOptions { max_connections, log_statements: settings.database.echo_sql };
        let refused = |error: postgres::OpenError| CommandError::Start(format!("{error} (DATABASE__DATABASE_URL)"));
        let database = PgDatabase::open(url, options).await.map_err(refused)?;
        check_clock(&database).await?;
        let tracker_secret = match &settings.tracker.secret {
            Some(secret) => secret.expose_secret().to_owned(),
            None => database.property("tracker_secret", &fresh_id()).await.map_err(CommandError::start)?,
        };
        Ok(Self {
            requests: Arc::new(database.requests().await.map_err(refused)?),
            torrents: Arc::new(PgTorrents::new(database.clone())),
            statistics: Arc::new(PgStatistics::new(database.clone())),
            guards: Arc::new(PgGuards::new(database.clone(), PgRateLimiter::new(database.clone()))),
            swarm: Arc::new(PgSwarm::new(database.clone())),
            seeders: Arc::new(PgSeeders::new(database.clone())),
            tracker_secret,
            database: OpenDatabase::Postgres(database),
        })
    }
}

/// Checks that the clocks of this machine and of the database agree: leases are times in the database.
async fn check_clock(database: &PgDatabase) -> Result<(), CommandError> {
    let ahead = database.clock_lead().await.map_err(CommandError::start)?;
    if u128::from(ahead.unsigned_abs()) <= MAX_CLOCK_SKEW.as_millis() {
        return Ok(());
    }
    Err(CommandError::Start(format!(
        "the clock of this machine is {} s {} that of the database, and may differ by {} s: synchronize both (NTP)",
        ahead.unsigned_abs() / 1000,
        if ahead > 0 { "ahead of" } else { "behind" },
        MAX_CLOCK_SKEW.as_secs(),
    )))
}

/// Returns 32 random bytes in hexadecimal.
fn fresh_id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Checks that the folder has the contents of this database, and that they are in no other folder. The first instance of a
/// new database takes an empty folder. Without the check an instance would remove contents as orphans that its database does
/// not know, or fetch again what it does not find.
async fn check_owner(database: &PgDatabase, folder: &FolderContents, storage: &Storage) -> Result<(), CommandError> {
    let path = storage.contents();
    let path = path.display();
    let id = database.property("id", &fresh_id()).await.map_err(CommandError::start)?;
    let owner = match folder.owner()? {
        Some(owner) => owner,
        None if folder.has_contents()? => {
            return Err(CommandError::Start(format!(
                "{path} has contents that the database (DATABASE__DATABASE_URL) does not know, and would be removed: set \
                 STORAGE__CONTENT_PATH to an empty folder, or to the folder with the contents of this database"
            )));
        }
        None => folder.set_owner(&format!("{id} {}", fresh_id()))?,
    };
    let Some((of_database, contents)) = owner.trim().split_once(' ') else {
        return Err(CommandError::Start(format!("{path}/owner does not have two ids: restore it from a backup")));
    };
    if of_database != id {
        return Err(CommandError::Start(format!(
            "{path} has the contents of another database: set STORAGE__CONTENT_PATH to a folder that all instances on \
             this database share"
        )));
    }
    let known = database.property("contents", contents).await.map_err(CommandError::start)?;
    if known != contents {
        return Err(CommandError::Start(format!(
            "the contents of the database (DATABASE__DATABASE_URL) are in another folder than {path}: set \
             STORAGE__CONTENT_PATH to the folder that all instances share, or restore it from a backup"
        )));
    }
    Ok(())
}
