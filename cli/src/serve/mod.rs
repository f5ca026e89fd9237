//! `proxytorrent serve`: API, tracker, workers and seeder in one process.

mod backend;
mod fair_queue;
mod health;
mod http;
mod metrics;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Api, Deployment};
use fetcher::Fetcher;
use pipeline::{CollectOrphans, Fetch, Notify, Package, Release, Scrub, Seed, Sweep};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seeder::SeedSession;
use settings::{Profile, Settings};
use tokio::net::TcpListener;
use tracing::{error, info, warn};
use url::Url;

use self::backend::{Backend, tracker_secret};
use self::fair_queue::Bounds;
use self::workers::{Steps, Workers};
use crate::error::CommandError;

/// The most rows of each kind in one sweep.
const SWEEP_LIMIT: u32 = 100_000;

/// How long a stop may take beyond the grace for running work: fetches are suspended, resume data is saved, libtorrent
/// closes.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

/// Options of `serve`; the environment and .env set everything else (see `config`).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Use the development profile: no authentication, no proxy, loopback only (as PROFILE=development).
    #[arg(long)]
    dev: bool,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let settings = Settings::load(arguments.dev.then_some(Profile::Development))?;
    telemetry::start(&settings);
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    // Before anything starts: a second signal must end a slow start, too.
    let signals =
        telemetry::Signals::listen().map_err(|e| CommandError::Start(format!("cannot listen for signals: {e}")))?;

    raise_open_files();
    let (backend, tasks) = Backend::open(&settings).await?;
    let stores = &backend.stores;
    let fetcher = Fetcher::new(&settings.fetcher, &settings.proxy).map_err(CommandError::start)?;
    let session =
        SeedSession::start(&settings.seeder, &settings.torrent, stores.contents.clone(), stores.statistics.clone());
    let session = Arc::new(session.await.map_err(CommandError::start)?);

    let address = SocketAddr::new(settings.server.host, settings.server.port);
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.map_err(|e| CommandError::Start(format!("cannot listen on {address} (HOST, PORT): {e}")))?;
    let address = listener.local_addr().map_err(CommandError::start)?;
    for own in session.addresses().iter().chain([&address]) {
        fetcher.guard().add_own(*own);
    }

    let recorder = if settings.monitoring.metrics_enabled { Some(metrics::start()?) } else { None };
    let steps = Steps {
        fetch: Fetch::new(stores, fetcher.clone(), &settings, false),
        package: Package::new(stores, &settings),
        seed: Seed::new(stores, session.clone()),
        release: Release::new(stores),
        sweep: Sweep::new(stores, SWEEP_LIMIT),
        collect_orphans: CollectOrphans::new(stores),
        scrub: Scrub::new(stores, &settings.storage),
        notify: Notify::new(stores, fetcher.clone(), &settings.security).map_err(CommandError::start)?,
    };
    let findings = steps.scrub.findings.clone();
    // The last run may have left uploads that cannot be resumed.
    let discarded_uploads = steps.sweep.clear_staging().await.map_err(CommandError::start)?;
    if discarded_uploads > 0 {
        info!(discarded_uploads, "uploads of the last run discarded");
    }
    let restored = steps.seed.progress.clone();
    let workers = Workers::start(tasks, steps, bounds(&settings.fetcher));

    let sources = || metrics::Sources {
        session: session.clone(),
        queues: workers.queues.clone(),
        fetcher: fetcher.clone(),
        contents: backend.folder.clone(),
        folder: settings.storage.contents(),
    };
    let metrics = recorder.map(|recorder| recorder.metrics(sources()));
    let fetching = workers.queues.fetch.clone();
    let estimate = api::Estimate::with_backlog(move |owner| fetching.backlog(owner));
    let health = health::checks(stores, &fetcher, &session, findings, restored);
    let api = Api { health, metrics, estimate, ..api(&settings, &backend, &session, address)? };
    print_banner(&settings, &api.public_url, &session);

    let timeout = Duration::from_secs(settings.server.client_timeout.get());
    let stop = signals.token();
    let serving = tokio::spawn(http::serve(listener, api::router(Arc::new(api)), timeout, stop.clone()));

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

/// Ends the process if the stop takes too long, whatever hangs. The next start finds what was not finished.
fn limit_shutdown(grace: Duration) {
    let deadline = grace + SHUTDOWN_DEADLINE;
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        error!(deadline_seconds = deadline.as_secs(), "shutdown deadline exceeded, exiting");
        seeder::exit_immediately(0);
    });
}

/// Raises the limit of open files to its maximum: every fetch and every peer is an open file. libtorrent derives its own
/// limit from this one at its start.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "open file limit not raised");
    }
}

/// The most fetches at once: in all, for one user, and for one user and host.
fn bounds(fetcher: &settings::Fetcher) -> Bounds {
    let all = fetcher.max_concurrent.get_usize();
    let per_user = fetcher.max_per_user.map_or(all.div_ceil(2), settings::Bounded::get_usize);
    Bounds { all, owner: per_user.min(all), host: fetcher.max_per_host.get_usize() }
}

fn api(
    settings: &Settings,
    backend: &Backend,
    session: &SeedSession,
    address: SocketAddr,
) -> Result<Api, CommandError> {
    let public_url = match &settings.server.public_url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{address}")).map_err(CommandError::start)?,
    };
    let deployment = Deployment {
        public_url,
        tracker_secret: tracker_secret(settings)?,
        seeder_addresses: session.addresses().to_vec(),
    };
    Ok(Api::new(&backend.stores, backend.guards.clone(), backend.swarm.clone(), settings, deployment))
}

/// Prints where the server is and what to do next.
fn print_banner(settings: &Settings, url: &Url, session: &SeedSession) {
    info!(%url, data = %settings.storage.base_path.display(), "server started");
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
    if settings.security.auth_enabled {
        println!("Set CLIENT__TOKEN to your token (or CLIENT__KEY_ID and CLIENT__KEY_SECRET) for the client commands.");
    }
    println!("Next, in another terminal: {program} get https://example.org/ --server {server}");
}
