//! PostgreSQL database: connections, migrations, and announcements of changes.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use domain::{RequestId, Timestamp};
use ports::StoreError;
use sql::{Columns, Driver, Durability, SqlError, SqlRequests, Statement, Watchers};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, SqlStr};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use url::Url;

/// The channel of `NOTIFY` on which changed requests are announced.
const CHANNEL: &str = "request_changes";

/// The most ids in one announcement: a payload has less than 8,000 bytes, and an id 37 with its separator.
const BATCH: usize = 200;

/// The pause between two announcements. Each takes a lock that commits with announcements wait for.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(20);

/// The pause before a lost connection for announcements is opened again.
const RECONNECT: Duration = Duration::from_secs(1);

/// The timeout of a statement, with the time to get a connection.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters that a URL may have.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// After this time without an announcement, the connection for announcements is tested.
const LISTEN_TEST: Duration = Duration::from_secs(60);

/// The migrations in the order of their numbers.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "initial", include_str!("../migrations/0001_initial.sql"))];

/// The reason for which a database cannot be opened. It does not have the URL, which may have a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be parsed.
    #[error("the URL of the database is not valid: {0}")]
    Url(Box<dyn std::error::Error + Send + Sync>),
    /// The URL has a parameter that would have no effect.
    #[error("the URL of the database has the parameter {0}; allowed: {allowed}", allowed = PARAMETERS.join(", "))]
    Parameter(String),
    /// The database cannot be reached, or refuses the connection.
    #[error("cannot connect to the database: {0}")]
    Connect(#[source] sqlx::Error),
    /// The tables cannot be created or changed.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[source] MigrateError),
    /// A newer version has changed the tables.
    #[error("the database was migrated by a newer version of ProxyTorrent")]
    Newer,
}

/// The options of a database.
#[derive(Debug, Clone, Copy)]
pub struct PgDatabaseOptions {
    /// The most connections of this process. It uses at least 3.
    pub max_connections: u32,
    /// Whether every statement is logged.
    pub log_statements: bool,
}

impl Default for PgDatabaseOptions {
    fn default() -> Self {
        Self { max_connections: 16, log_statements: false }
    }
}

/// A database that several processes share.
#[derive(Debug, Clone)]
pub struct PgDatabase {
    /// The connections of writes that are flushed to the disk before they return.
    flushed: PgPool,
    /// The connections of all other statements.
    written: PgPool,
    /// The connection for announcements.
    announced: PgPool,
    changes: mpsc::UnboundedSender<RequestId>,
}

impl PgDatabase {
    /// Connects, and runs the migrations: one process at a time runs them. The URL is that of libpq, with the parameters
    /// for TLS: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.
    pub async fn open(url: &str, options: PgDatabaseOptions) -> Result<Self, OpenError> {
        let parsed = Url::parse(url).map_err(|error| OpenError::Url(error.into()))?;
        if let Some((name, _)) = parsed.query_pairs().find(|(name, _)| !PARAMETERS.contains(&name.as_ref())) {
            return Err(OpenError::Parameter(name.into_owned()));
        }
        let connect = PgConnectOptions::from_str(url).map_err(|error| OpenError::Url(error.into()))?;
        let mut connect = connect.application_name("proxytorrent");
        if !options.log_statements {
            connect = connect.disable_statement_logging();
        }
        let for_flushed = (options.max_connections / 3).max(1);
        let for_written = options.max_connections.saturating_sub(for_flushed + 1).max(1);
        let pool = |size| PgPoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT);
        let flushed = pool(for_flushed).connect_with(connect.clone()).await.map_err(OpenError::Connect)?;
        migrations().run(&flushed).await.map_err(|error| match error {
            MigrateError::VersionMissing(_) => OpenError::Newer,
            error => OpenError::Migrate(error),
        })?;
        let announced = pool(1).connect_lazy_with(connect.clone());
        // A commit returns before it is flushed, which takes up to three times wal_writer_delay.
        let written = pool(for_written).connect_lazy_with(connect.options([("synchronous_commit", "off")]));
        let (changes, receiver) = mpsc::unbounded_channel();
        tokio::spawn(announce(written.clone(), receiver));
        Ok(Self { flushed, written, announced, changes })
    }

    /// Returns the table of requests, which learns of the changes that other processes make until the database is
    /// [closed](PgDatabase::close). It is created once, since there is one connection for announcements.
    pub async fn requests(&self) -> Result<SqlRequests<Self>, OpenError> {
        let listener = listen(&self.announced).await.map_err(OpenError::Connect)?;
        let requests = SqlRequests::new(self.clone());
        tokio::spawn(follow(self.announced.clone(), listener, requests.watchers()));
        Ok(requests)
    }

    /// Returns the property with this name, which has the same value for all instances. The first call stores `fresh`.
    pub async fn property(&self, name: &str, fresh: &str) -> Result<String, StoreError> {
        let insert =
            Statement::new("INSERT INTO properties (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
        self.execute(Durability::Flushed, insert.bind(name).bind(fresh)).await?;
        let select = Statement::new("SELECT value FROM properties WHERE name = $1").bind(name);
        let rows = self.query(select).await?;
        let value = rows.first().map(|row| row.text("value")).transpose()?.flatten();
        value.map(ToOwned::to_owned).ok_or_else(|| StoreError::not_found("the database", name))
    }

    /// Returns by how many milliseconds the clock of this machine is ahead of that of the database. The time to ask is part of
    /// it.
    pub async fn clock_lead(&self) -> Result<i64, StoreError> {
        let select = Statement::new("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT AS now");
        let rows = self.query(select).await?;
        let now = rows.first().map(|row| row.integer("now")).transpose()?.flatten().unwrap_or_default();
        Ok(Timestamp::from(SystemTime::now()).as_millis() - now)
    }

    /// Closes the connections, after what runs on them.
    pub async fn close(&self) {
        self.announced.close().await;
        self.written.close().await;
        self.flushed.close().await;
    }

    /// Deletes some expired rows of a table of short-lived rows: few, so that no caller waits for a large clean-up.
    pub(crate) async fn delete_expired(&self, table: &'static str, now: Timestamp) -> Result<(), SqlError> {
        let delete = format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} WHERE expires_at <= $1 LIMIT 16 \
             FOR UPDATE SKIP LOCKED))"
        );
        self.execute(Durability::Written, Statement::new(delete).bind(now.as_millis())).await?;
        Ok(())
    }

    pub(crate) fn pool(&self, durability: Durability) -> &PgPool {
        match durability {
            Durability::Flushed => &self.flushed,
            Durability::Written => &self.written,
        }
    }

    /// Announces a change to the other processes, soon.
    pub(crate) fn announce(&self, id: RequestId) {
        // Fails after the database was closed.
        let _ = self.changes.send(id);
    }
}

fn migrations() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
}

/// Announces changes in batches, until the database is closed. A lost announcement only delays those who wait.
async fn announce(pool: PgPool, mut changes: mpsc::UnboundedReceiver<RequestId>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            received = changes.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = pool.close_event() => return,
        }
        batch.sort_unstable();
        batch.dedup();
        let payload = batch.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(&pool);
        if !matches!(timeout(STATEMENT_TIMEOUT, notify).await, Ok(Ok(_))) {
            tracing::debug!(requests = batch.len(), "changes of requests not announced");
        }
        batch.clear();
        // The least time between two announcements.
        sleep(ANNOUNCE_INTERVAL).await;
    }
}

async fn listen(pool: &PgPool) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Wakes those who wait for the requests that are announced, also by this process, until the database is closed.
async fn follow(pool: PgPool, mut listener: PgListener, watchers: Watchers) {
    loop {
        while wake(&mut listener, &watchers).await {}
        drop(listener);
        listener = loop {
            if pool.is_closed() {
                return;
            }
            // The pause between tries.
            sleep(RECONNECT).await;
            match timeout(STATEMENT_TIMEOUT, listen(&pool)).await {
                Ok(Ok(listener)) => break listener,
                Ok(Err(error)) => tracing::debug!(%error, "changes of requests not followed, trying again"),
                Err(_) => tracing::debug!("changes of requests not followed, trying again"),
            }
        };
    }
}

/// Waits for the next announcement. Returns false if the connection is lost.
async fn wake(listener: &mut PgListener, watchers: &Watchers) -> bool {
    match timeout(LISTEN_TEST, listener.recv()).await {
        Ok(Ok(announcement)) => {
            announcement.payload().split(' ').filter_map(|id| id.parse().ok()).for_each(|id| watchers.changed(id));
            true
        }
        Ok(Err(_)) => false,
        // A database that vanishes from the network closes no connection.
        Err(_) => {
            let test = sqlx::query("SELECT 1").execute(listener);
            matches!(timeout(STATEMENT_TIMEOUT, test).await, Ok(Ok(_)))
        }
    }
}
