//! `proxytorrent serve`: everything in one process.

mod fair_queue;
mod http;
mod metrics;
mod shutdown;
mod workers;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::{AbuseLimits, Api, Authenticator, HealthChecks, Limits, Passkeys};
use embedded::{
    ChannelTaskQueue, Database, DatabaseOptions, FolderContents, FolderLock, MemorySwarm, SpaceLimits, SqliteGuards,
    SqliteRequests, SqliteTorrents, SteadyClock, TaskReceiver,
};
use fetcher::{Fetcher, ProxyHealth};
use pipeline::{CollectOrphans, Fetch, Notify, Package, Release, Salt, Scrub, ScrubFindings, Seed, Sweep, WebhookKey};
use ports::{Clock, Contents, Requests, Seeder, StoreError, Swarm, TaskQueue, Torrents};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seeder::SeedSession;
use serde_json::json;
use settings::{ExposeSecret, Profile, Settings};
use tokio::net::TcpListener;
use tracing::{error, info, warn};
use url::Url;

use self::fair_queue::Bounds;
use self::workers::{Steps, Workers};
use crate::commands::CommandError;

/// Rows that one sweep looks at.
const SWEEP_LIMIT: u32 = 100_000;

/// Options of `serve`; all else is set by the environment and .env (see `config`).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Use the development profile: no authentication, no proxy, loopback only (as PROFILE=development).
    #[arg(long)]
    dev: bool,
}

/// The ports on this machine.
struct Backend {
    database: Database,
    requests: Arc<dyn Requests>,
    torrents: Arc<dyn Torrents>,
    contents: Arc<dyn Contents>,
    swarm: Arc<dyn Swarm>,
    tasks: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    _lock: FolderLock,
}

impl Backend {
    async fn open(settings: &Settings) -> Result<(Self, TaskReceiver), CommandError> {
        let storage = &settings.storage;
        let lock = FolderLock::take(&storage.base_path)?;
        let path = settings.database.sqlite_path(storage).map_err(CommandError::Start)?;
        let options = DatabaseOptions { log_statements: settings.database.echo_sql };
        let database = Database::open(&path, options).await?;
        let requests = SqliteRequests::open(database.clone()).await.map_err(|e| CommandError::Start(e.to_string()))?;
        let torrents = SqliteTorrents::open(database.clone(), storage.torrents(), storage.resume())?;
        let limits = SpaceLimits {
            min_free: storage.min_free.map(settings::Bounded::get),
            max_bytes: Some(storage.max_bytes.get()).filter(|bytes| *bytes > 0),
        };
        let contents = FolderContents::open(storage.contents(), limits)?;
        let (tasks, receiver): (ChannelTaskQueue, _) = embedded::channel();
        let backend = Self {
            database,
            requests: Arc::new(requests),
            torrents: Arc::new(torrents),
            contents: Arc::new(contents),
            swarm: Arc::new(MemorySwarm::default()),
            tasks: Arc::new(tasks),
            clock: Arc::new(SteadyClock::default()),
            _lock: lock,
        };
        Ok((backend, receiver))
    }
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let settings = Settings::load(arguments.dev.then_some(Profile::Development))?;
    telemetry::start(&settings);
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    // Before anything is started: a second signal during a slow start must work as well.
    let signals =
        shutdown::Signals::listen().map_err(|e| CommandError::Start(format!("cannot listen for signals: {e}")))?;

    raise_open_files();
    let (backend, tasks) = Backend::open(&settings).await?;
    let fetcher = Fetcher::new(&settings.fetcher, &settings.proxy).map_err(|e| CommandError::Start(e.to_string()))?;
    let session =
        SeedSession::start(&settings.seeder, &settings.torrent, backend.contents.clone(), backend.torrents.clone());
    let session = Arc::new(session.await.map_err(|e| CommandError::Start(e.to_string()))?);

    let address = SocketAddr::new(settings.server.host, settings.server.port);
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.map_err(|e| CommandError::Start(format!("cannot listen on {address} (HOST, PORT): {e}")))?;
    let address = listener.local_addr().map_err(|e| CommandError::Start(e.to_string()))?;
    for own in session.addresses().iter().chain([&address]) {
        fetcher.guard().add_own(*own);
    }

    let metrics = if settings.monitoring.metrics_enabled { Some(metrics::start(session.clone())?) } else { None };
    let findings = Arc::new(ScrubFindings::default());
    let workers = start_workers(&settings, &backend, fetcher.clone(), session.clone(), tasks, findings.clone()).await?;
    let fetching = workers.fetching.clone();
    let estimate = api::Estimate::with_backlog(move |owner| fetching.backlog(owner));
    let api = Api { metrics, estimate, ..api(&settings, &backend, &fetcher, &session, findings, address)? };
    announce(&settings, &api.public_url, &session);

    let patience = Duration::from_secs(settings.server.client_timeout.get());
    let stop = signals.token();
    let serving = tokio::spawn(http::serve(listener, api::router(Arc::new(api)), patience, stop.clone()));

    stop.cancelled().await;
    let grace = Duration::from_secs(settings.server.shutdown_grace.get());
    limit_shutdown(grace);
    info!(grace_seconds = grace.as_secs(), "stopping");
    workers.stop(grace).await;
    let closed = session.stop().await;
    let _ = serving.await;
    backend.database.close().await;
    info!("stopped");
    if !closed {
        seeder::exit_immediately(0);
    }
    Ok(())
}

/// How long a stop may take beyond the grace for running work: fetches are suspended, resume data is saved, libtorrent
/// closes.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

/// Ends the process if the stop takes too long, whatever hangs. The next start finds what was not finished.
fn limit_shutdown(grace: Duration) {
    let deadline = grace + SHUTDOWN_DEADLINE;
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        error!(deadline_seconds = deadline.as_secs(), "shutdown did not end in time and is cut short");
        seeder::exit_immediately(0);
    });
}

/// Every fetch and every peer is an open file, and the usual limit of 1,024 is for programs that are not
/// servers. libtorrent takes its own limit from this one when it starts.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit of open files cannot be raised");
    }
}

async fn start_workers(
    settings: &Settings,
    backend: &Backend,
    fetcher: Fetcher,
    session: Arc<SeedSession>,
    tasks: TaskReceiver,
    findings: Arc<ScrubFindings>,
) -> Result<Workers, CommandError> {
    let Backend { requests, torrents, contents, tasks: sender, clock, .. } = backend;
    let fetch = Fetch {
        requests: requests.clone(),
        contents: contents.clone(),
        tasks: sender.clone(),
        clock: clock.clone(),
        fetcher,
        reuse: settings.cache.cache_enabled,
        max_retries: settings.fetcher.max_retries.get() as u32,
        has_deadline: false,
    };
    let package = Package {
        requests: requests.clone(),
        torrents: torrents.clone(),
        contents: contents.clone(),
        tasks: sender.clone(),
        clock: clock.clone(),
        private: settings.torrent.private_tracker,
        piece_length: settings.torrent.piece_size.map(settings::PieceLength::get),
        created_by: settings
            .torrent
            .names_program()
            .then(|| format!("{}/{}", settings.server.app_name, settings.server.app_version)),
        salt: Salt::from_settings(&settings.torrent),
    };
    let seed = Seed {
        requests: requests.clone(),
        torrents: torrents.clone(),
        seeder: session as Arc<dyn Seeder>,
        tasks: sender.clone(),
        clock: clock.clone(),
    };
    let release = Release {
        requests: requests.clone(),
        torrents: torrents.clone(),
        contents: contents.clone(),
        tasks: sender.clone(),
        clock: clock.clone(),
    };
    let sweep = Sweep {
        requests: requests.clone(),
        contents: contents.clone(),
        tasks: sender.clone(),
        clock: clock.clone(),
        limit: SWEEP_LIMIT,
        last: Arc::default(),
    };
    let collect_orphans = CollectOrphans {
        requests: requests.clone(),
        torrents: torrents.clone(),
        contents: contents.clone(),
        tasks: sender.clone(),
        clock: clock.clone(),
    };
    let scrub = Scrub {
        requests: requests.clone(),
        torrents: torrents.clone(),
        contents: contents.clone(),
        tasks: sender.clone(),
        clock: clock.clone(),
        rate: Some(settings.storage.scrub.get()).filter(|rate| *rate > 0),
        findings,
    };
    let notify = match webhook_key(settings)? {
        None => None,
        Some(key) => Some(Notify {
            requests: requests.clone(),
            tasks: sender.clone(),
            clock: clock.clone(),
            fetcher: fetch.fetcher.clone(),
            key,
        }),
    };
    let failed = |error: &dyn std::fmt::Display| CommandError::Start(error.to_string());
    let spools = sweep.clear_staging().await.map_err(|e| failed(&e))?;
    let restored = seed.restore().await.map_err(|e| failed(&e))?;
    info!(torrents = restored, spools, "picked up where the last run ended");
    let all = settings.fetcher.max_concurrent.get() as usize;
    let per_user = settings.fetcher.max_per_user.map(|most| most.get() as usize);
    let bounds = Bounds {
        all,
        owner: per_user.unwrap_or(all.div_ceil(2)).min(all),
        host: settings.fetcher.max_per_host.get() as usize,
    };
    let steps = Steps { fetch, package, seed, release, sweep, collect_orphans, scrub, notify };
    Ok(Workers::start(tasks, steps, bounds))
}

fn webhook_key(settings: &Settings) -> Result<Option<WebhookKey>, CommandError> {
    let Some(secret) = &settings.security.webhook_secret else { return Ok(None) };
    let bad = || CommandError::Start("SECURITY__WEBHOOK_SECRET: what follows whsec_ is empty or not base64".into());
    WebhookKey::new(secret.expose_secret()).map(Some).ok_or_else(bad)
}

fn api(
    settings: &Settings,
    backend: &Backend,
    fetcher: &Fetcher,
    session: &Arc<SeedSession>,
    findings: Arc<ScrubFindings>,
    address: SocketAddr,
) -> Result<Api, CommandError> {
    let authenticator = Authenticator::new(&settings.security);
    let passkeys = Passkeys::new(&tracker_secret(settings)?, authenticator.users());
    let public_url = match &settings.server.public_url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{address}")).map_err(|e| CommandError::Start(e.to_string()))?,
    };
    Ok(Api {
        requests: backend.requests.clone(),
        torrents: backend.torrents.clone(),
        contents: backend.contents.clone(),
        tasks: backend.tasks.clone(),
        guards: Arc::new(SqliteGuards::new(backend.database.clone())),
        swarm: backend.swarm.clone(),
        clock: backend.clock.clone(),
        authenticator,
        passkeys,
        health: health_checks(backend, fetcher, session, findings),
        metrics: None,
        server: settings.server.clone(),
        torrent: settings.torrent.clone(),
        cache: settings.cache.clone(),
        tracker: settings.tracker.clone(),
        webhooks: settings.security.webhook_secret.is_some(),
        limits: Limits::new(&settings.rate_limit, &settings.limits),
        trusted_proxies: settings.security.trusted_proxies.clone(),
        allow_credentials: settings.fetcher.allow_credential_headers,
        public_url,
        seeder_addresses: session.addresses().to_vec(),
        keep: settings.storage.keep.get(),
        abuse: AbuseLimits::new(&settings.rate_limit),
        connect_to_peers: settings.seeder.connect_to_peers,
        estimate: api::Estimate::default(),
    })
}

/// The key of the passkeys: the configured one, or one that is made at the first start.
fn tracker_secret(settings: &Settings) -> Result<Vec<u8>, CommandError> {
    if let Some(secret) = &settings.tracker.secret {
        return Ok(secret.expose_secret().as_bytes().to_vec());
    }
    let path = Path::new(&settings.storage.base_path).join("tracker-secret");
    let fresh = || hex::encode(rand::random::<[u8; 32]>());
    Ok(embedded::load_or_create_secret(&path, fresh)?.into_bytes())
}

/// What health says about a store that failed. The log has the details, which may hold paths.
fn reason(error: &StoreError, otherwise: &str) -> String {
    warn!(%error, "health check failed");
    if matches!(error, StoreError::Full) {
        "no space left (STORAGE__MIN_FREE, STORAGE__MAX_BYTES)".into()
    } else {
        otherwise.into()
    }
}

fn health_checks(
    backend: &Backend,
    fetcher: &Fetcher,
    session: &Arc<SeedSession>,
    findings: Arc<ScrubFindings>,
) -> HealthChecks {
    let (requests, contents, tasks) = (backend.requests.clone(), backend.contents.clone(), backend.tasks.clone());
    let (fetcher, session) = (fetcher.clone(), session.clone());
    HealthChecks::new()
        .with("database", move || {
            let requests = requests.clone();
            async move {
                requests
                    .check()
                    .await
                    .map(|()| json!({}))
                    .map_err(|error| reason(&error, "the database does not take writes"))
            }
        })
        .with("storage", move || {
            let (contents, findings) = (contents.clone(), findings.clone());
            async move {
                if findings.is_mostly_missing() {
                    return Err("most contents are missing (STORAGE__CONTENT_PATH)".into());
                }
                contents
                    .check()
                    .await
                    .map(|()| json!({ "damaged_contents": findings.damaged() }))
                    .map_err(|error| reason(&error, "the content folder does not take files"))
            }
        })
        .with("task_queue", move || {
            let tasks = tasks.clone();
            async move { tasks.check().await.map(|()| json!({})).map_err(|_| "the workers have stopped".into()) }
        })
        .with("proxy", move || {
            let fetcher = fetcher.clone();
            async move {
                match fetcher.check_proxy().await {
                    Ok(ProxyHealth::Working { working, of }) => Ok(json!({ "working": working, "configured": of })),
                    Ok(ProxyHealth::Disabled) => Ok(json!({ "status": "disabled" })),
                    Err(failure) => Err(failure.message),
                }
            }
        })
        .with("seeder", move || {
            let session = session.clone();
            async move { Ok(json!({ "torrents": session.seeding() })) }
        })
}

/// Says where it is and what to do next.
fn announce(settings: &Settings, url: &Url, session: &SeedSession) {
    info!(%url, data = %settings.storage.base_path.display(), "proxytorrent serves");
    let server = url.as_str().trim_end_matches('/');
    let seeders: Vec<_> = session.addresses().iter().map(ToString::to_string).collect();
    println!("ProxyTorrent {} serves {server} and seeds on {}.", settings.server.app_version, seeders.join(", "));
    if settings.server.profile == Profile::Development {
        let proxy = settings.proxy.proxy_enabled;
        let proxy = if proxy { "through the proxy" } else { "NO PROXY (origins see this machine's address)" };
        let callers = if settings.security.auth_enabled { "known callers only" } else { "no authentication" };
        println!("Development profile: {callers}, {proxy}, loopback only.");
    }
    let program = std::env::args().next().unwrap_or_else(|| "proxytorrent".into());
    println!("Next, in another terminal: {program} get https://example.org/ --server {server}");
}
