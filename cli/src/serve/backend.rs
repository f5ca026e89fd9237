//! The ports on this machine.

use std::path::Path;
use std::sync::Arc;

use embedded::{
    ChannelTaskQueue, Database, DatabaseOptions, FolderContents, FolderLock, MemoryRateLimiter, MemorySeeders,
    MemorySwarm, SpaceLimits, SqliteGuards, SqliteRequests, SqliteStatistics, SqliteTorrents, SteadyClock,
    TaskReceiver,
};
use ports::{Guards, Seeders, Stores, Swarm};
use settings::{ExposeSecret, Settings};

use crate::error::CommandError;

/// The stores in the data folder, which this process holds a lock on.
pub(super) struct Backend {
    pub database: Database,
    pub stores: Stores,
    /// The contents in `stores`.
    pub folder: FolderContents,
    pub guards: Arc<dyn Guards>,
    pub swarm: Arc<dyn Swarm>,
    pub seeders: Arc<dyn Seeders>,
    _lock: FolderLock,
}

impl Backend {
    /// Opens the stores. Returns them with the receiving end of the task queue.
    pub async fn open(settings: &Settings) -> Result<(Self, TaskReceiver), CommandError> {
        let storage = &settings.storage;
        let lock = FolderLock::take(&storage.base_path)?;
        let path = settings.database.sqlite_path(storage).map_err(CommandError::Start)?;
        let options = DatabaseOptions { log_statements: settings.database.echo_sql };
        let database = Database::open(&path, options).await?;
        let requests = SqliteRequests::open(database.clone()).await.map_err(CommandError::start)?;
        let torrents = SqliteTorrents::open(database.clone(), storage.torrents())?;
        let limits = SpaceLimits {
            min_free: storage.min_free.map(settings::Bounded::get),
            max_bytes: Some(storage.max_bytes.get()).filter(|bytes| *bytes > 0),
        };
        let folder = FolderContents::open(storage.contents(), limits)?;
        let (tasks, receiver): (ChannelTaskQueue, _) = embedded::channel();
        let stores = Stores {
            requests: Arc::new(requests),
            torrents: Arc::new(torrents),
            statistics: Arc::new(SqliteStatistics::new(database.clone())),
            contents: Arc::new(folder.clone()),
            tasks: Arc::new(tasks),
            clock: Arc::new(SteadyClock::default()),
        };
        let guards = Arc::new(SqliteGuards::new(database.clone(), MemoryRateLimiter::default()));
        let swarm = Arc::new(MemorySwarm::default());
        let seeders = Arc::new(MemorySeeders::default());
        Ok((Self { database, stores, folder, guards, swarm, seeders, _lock: lock }, receiver))
    }
}

/// The key of the passkeys: the configured one, or one that is generated at the first start.
pub(super) fn tracker_secret(settings: &Settings) -> Result<Vec<u8>, CommandError> {
    if let Some(secret) = &settings.tracker.secret {
        return Ok(secret.expose_secret().as_bytes().to_vec());
    }
    let path = Path::new(&settings.storage.base_path).join("tracker-secret");
    let fresh = || hex::encode(rand::random::<[u8; 32]>());
    Ok(embedded::load_or_create_secret(&path, fresh)?.into_bytes())
}
