//! `proxytorrent serve`: API, tracker, workers and seeder in one process.

mod backend;
mod fair_queue;
mod health;
mod jwt;
mod metrics;
mod torrent_files;
mod url_folder;
mod workers;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::{Api, Deployment, HttpLimits, TokenVerifier, Webseed};
use fetcher::{BoundInterface, Fetcher, Interface};
use pipeline::{CollectOrphans, Fetch, Notify, Package, Release, Scrub, Seed, Sweep};
use ports::{Endpoints, FleetMember, Stores, UploadLimiter};
use seeder::http::Process;
use seeder::{Reader, Registration, SeedSessions, UploadLimit};
use settings::{Override, Profile, Settings};
use telemetry::Recorder;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{error, info, warn};
use url::Url;

use self::backend::Backend;
use self::fair_queue::Bounds;
use self::jwt::JwtVerifier;
use self::torrent_files::OwnerTorrentFiles;
use self::url_folder::UrlFolder;
use self::workers::{Steps, Workers};
use crate::error::CommandError;

/// The most rows of each kind in one sweep.
const SWEEP_LIMIT: u32 = 100_000;

/// How long a stop may take beyond the grace for running work: fetches are suspended, statistics are saved, libtorrent
/// closes.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

/// Options of `serve`; the environment and .env set everything else (see `config`).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Use the development profile: no authentication, no proxy, loopback only (as PROFILE=development).
    #[arg(long)]
    dev: bool,
    /// The address to listen on, instead of HOST
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// The port to listen on, instead of PORT
    #[arg(long)]
    port: Option<u16>,
}

/// Returns the setting that the option `--dev` replaces.
pub(crate) fn profile(dev: bool) -> Vec<Override> {
    if dev { vec![("PROFILE", Profile::Development.as_str().to_owned())] } else { vec![] }
}

impl Arguments {
    /// Returns the settings that the options replace.
    fn overrides(&self) -> Vec<Override> {
        let host = self.host.map(|host| ("HOST", host.to_string()));
        let port = self.port.map(|port| ("PORT", port.to_string()));
        profile(self.dev).into_iter().chain(host).chain(port).collect()
    }
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let settings = Settings::load(&arguments.overrides())?;
    telemetry::start(&settings);
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    // Before anything starts: a second signal must end a slow start, too.
    let signals =
        telemetry::Signals::listen().map_err(|e| CommandError::Start(format!("cannot listen for signals: {e}")))?;

    seeder::raise_open_files();
    let (backend, tasks) = Box::pin(Backend::open(&settings)).await?;
    let stores = &backend.stores;
    let fetcher = fetcher(&settings)?;
    let reader = Reader::local(stores.contents.clone());
    let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, stores.statistics.clone());
    let sessions = Arc::new(sessions.await.map_err(CommandError::start)?);

    let address = SocketAddr::new(settings.server.host, settings.server.port);
    let listener = bind(address, "HOST, PORT").await?;
    let address = listener.local_addr().map_err(CommandError::start)?;
    let seeder_http = match settings.seeder.http {
        Some(address) => Some(bind(address, "SEEDER__HTTP").await?),
        None => None,
    };
    // Before the workers start: the server must not fetch from itself.
    let own = seeder_http.iter().filter_map(|listener| listener.local_addr().ok()).chain([address]);
    for own in own.chain(sessions.endpoints().borrow().addresses()) {
        fetcher.guard().add_own(own);
    }
    let (registry, clock) = (backend.seeders.clone(), stores.clock.clone());
    let registration = Registration::start(sessions.clone(), registry, clock, &settings.seeder);
    let registration = registration.await.map_err(CommandError::start)?;

    let recorder = settings.monitoring.metrics_enabled.then(|| Recorder::install(env!("CARGO_PKG_VERSION")));
    let recorder = recorder.transpose();
    let recorder = recorder.map_err(|error| CommandError::Start(format!("cannot record metrics: {error}")))?;
    let api = api(&settings, &backend, &fetcher, address)?;
    let url_folder = UrlFolder::open(&settings.url_folder, &api)?;
    let member = backend.is_shared().then(|| registration.member());
    let steps = steps(stores, &fetcher, &sessions, &settings, &api, member)?;
    let findings = steps.scrub.findings.clone();
    if !backend.is_shared() {
        discard_uploads(&steps.collect_orphans).await?;
    }
    let (seed, turns) = (steps.seed.clone(), backend.is_shared().then(|| backend.guards.clone()));
    let workers = Workers::start(tasks, steps, bounds(&settings.fetcher), turns);

    let sources = || metrics::Sources {
        sessions: sessions.clone(),
        queues: workers.queues.clone(),
        fetcher: fetcher.clone(),
        contents: backend.folder.clone(),
        folder: settings.storage.contents(),
    };
    let render = recorder.map(|recorder| {
        let sources = sources();
        Arc::new(move || {
            sources.read();
            recorder.render()
        })
    });
    let metrics = render.clone().map(|render| api::Metrics::new(move || render()));
    let estimate = api::Estimate::with_queue(workers.queues.fetch.clone());
    let health = health::checks(stores, &fetcher, &sessions, findings, seed.clone());
    let limit = UploadLimit::new(sessions.clone(), settings.torrent.upload_rate_limit.get_u32());
    let webseed = webseed(&settings, &backend, &sessions, limit.clone());
    let api = Api { health, metrics, estimate, webseed, events: true, ..api };
    if settings.torrent.webseed.is_none() && !api.links.names_webseed() {
        info!("torrents name no webseed, because it would send contents unencrypted (TORRENT__WEBSEED, PUBLIC_URL)");
    }
    print_banner(&settings, &api.public_url, &sessions);

    let stop = signals.token();
    let progress = seed.progress.clone();
    tokio::spawn(registration.keep(stop.clone(), move || progress.passes()));
    if let Some(limit) = limit {
        tokio::spawn(limit.divide(stop.clone()));
    }
    tokio::spawn(block_own_addresses(fetcher.clone(), sessions.endpoints()));
    tokio::spawn(sessions.clone().spread_hot_torrents(stores.torrents.clone(), stop.clone()));
    seeder::follow_vpn_files(&sessions, &settings.seeder, &stop);
    if let Some(listener) = seeder_http {
        let router = seeder::http::router(sessions.clone(), process(seed, render));
        tokio::spawn(api::serve(listener, router, HttpLimits::new(&settings), stop.clone()));
    }
    let api = Arc::new(api);
    if let Some(folder) = url_folder {
        // Its file operations may block.
        let (runtime, watch) = (Handle::current(), folder.watch(api.clone(), stop.clone()));
        tokio::task::spawn_blocking(move || runtime.block_on(watch));
    }
    let router = api::router(api);
    let serving = tokio::spawn(api::serve(listener, router, HttpLimits::new(&settings), stop.clone()));

    stop.cancelled().await;
    let grace = Duration::from_secs(settings.server.shutdown_grace.get());
    limit_shutdown(grace);
    info!(grace_seconds = grace.as_secs(), "stopping");
    workers.stop(grace).await;
    let closed = sessions.stop().await;
    let _ = serving.await;
    backend.close().await;
    info!("stopped");
    if !closed {
        seeder::exit_immediately(0);
    }
    Ok(())
}

/// Discards the uploads of the last run that cannot be resumed.
async fn discard_uploads(collect_orphans: &CollectOrphans) -> Result<(), CommandError> {
    let discarded_uploads = collect_orphans.clear_staging().await.map_err(CommandError::start)?;
    if discarded_uploads > 0 {
        info!(discarded_uploads, "uploads of the last run discarded");
    }
    Ok(())
}

/// Returns what the seeder's own HTTP server shows.
fn process(seed: Seed, render: Option<Arc<impl Fn() -> String + Send + Sync + 'static>>) -> Process {
    let metrics = render.map(|render| -> Box<dyn Fn() -> String + Send + Sync> { Box::new(move || render()) });
    Process { health: Box::new(move || seed.health()), metrics }
}

/// Creates the fetcher, bound to the network interface of the seeder.
pub(crate) fn fetcher(settings: &Settings) -> Result<Fetcher, CommandError> {
    let mut interface: Option<Arc<dyn Interface>> = None;
    if let Some(name) = &settings.seeder.interface {
        let bound = BoundInterface::new(name.as_str());
        let why = |error| CommandError::Start(format!("SEEDER__INTERFACE needs a name server: {error}"));
        interface = Some(Arc::new(bound.map_err(why)?));
    }
    Fetcher::new(&settings.fetcher, &settings.proxy, interface).map_err(CommandError::start)
}

/// Listens on an address, which these settings name.
async fn bind(address: SocketAddr, settings: &str) -> Result<TcpListener, CommandError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| CommandError::Start(format!("cannot listen on {address} ({settings}): {error}")))
}

/// Ends the process if the stop takes too long, whatever hangs. The next start finds what was not finished.
fn limit_shutdown(grace: Duration) {
    let deadline = grace + SHUTDOWN_DEADLINE;
    std::thread::spawn(move || {
        // A thread, because the runtime itself may hang.
        std::thread::sleep(deadline);
        error!(deadline_seconds = deadline.as_secs(), "shutdown deadline exceeded, exiting");
        seeder::exit_immediately(0);
    });
}

fn steps(
    stores: &Stores,
    fetcher: &Fetcher,
    sessions: &Arc<SeedSessions>,
    settings: &Settings,
    api: &Api,
    member: Option<FleetMember>,
) -> Result<Steps, CommandError> {
    let (public_url, files) = (Some(api.public_url.clone()), OwnerTorrentFiles(api.links.clone()));
    let notify = Notify::new(stores, fetcher, settings, public_url, Some(Arc::new(files)));
    let is_shared = member.is_some();
    Ok(Steps {
        fetch: Fetch::new(stores, fetcher.clone(), settings, false),
        package: Package::new(stores, settings),
        seed: Seed::new(stores, sessions.clone(), member),
        release: Release::new(stores),
        sweep: Sweep::new(stores, SWEEP_LIMIT),
        collect_orphans: CollectOrphans::new(stores, 1),
        // A shared folder can be on a network: a failed read is no damage, and damage is confirmed by a second pass.
        scrub: Scrub { is_remote: is_shared, ..Scrub::new(stores, &settings.storage) },
        notify: notify.map_err(CommandError::start)?,
    })
}

/// The most fetches at once: in all, for one user, and for one user and host.
fn bounds(fetcher: &settings::Fetcher) -> Bounds {
    let all = fetcher.max_concurrent.get_usize();
    let per_user = fetcher.max_per_user.map_or(all.div_ceil(2), settings::Bounded::get_usize);
    Bounds { all, owner: per_user.min(all), host: fetcher.max_per_host.get_usize() }
}

/// Returns the webseed on these sessions, unless it is off.
fn webseed(
    settings: &Settings,
    backend: &Backend,
    sessions: &SeedSessions,
    limit: Option<Arc<UploadLimit>>,
) -> Option<Webseed> {
    if settings.torrent.webseed == Some(false) {
        return None;
    }
    let limiter = limit.map(|limit| -> Arc<dyn UploadLimiter> { limit });
    let reader = Arc::new(sessions.torrent_reader(backend.stores.torrents.clone()));
    Some(Webseed::new(&backend.stores, &backend.tracker_secret, reader, limiter, settings))
}

/// Keeps fetches away from the seeder, at whatever address it is.
async fn block_own_addresses(fetcher: Fetcher, mut endpoints: watch::Receiver<Endpoints>) {
    loop {
        for own in endpoints.borrow_and_update().addresses() {
            fetcher.guard().add_own(own);
        }
        if endpoints.changed().await.is_err() {
            return;
        }
    }
}

fn api(settings: &Settings, backend: &Backend, fetcher: &Fetcher, address: SocketAddr) -> Result<Api, CommandError> {
    let jwt = JwtVerifier::new(&settings.security, fetcher)?;
    let public_url = match &settings.server.public_url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{address}")).map_err(CommandError::start)?,
    };
    let deployment = Deployment {
        tracker_secret: backend.tracker_secret.clone(),
        seeders: backend.seeders.clone(),
        webseed_base: settings.torrent.webseed_base(Some(&public_url)).cloned(),
        public_url,
        jwt: jwt.map(|verifier| -> Arc<dyn TokenVerifier> { Arc::new(verifier) }),
    };
    Ok(Api::new(&backend.stores, backend.guards.clone(), backend.swarm.clone(), settings, deployment))
}

/// Prints where the server is and what to do next.
fn print_banner(settings: &Settings, url: &Url, sessions: &SeedSessions) {
    info!(%url, data = %settings.storage.base_path.display(), "server started");
    let server = url.as_str().trim_end_matches('/');
    let seeders: Vec<_> = sessions.endpoints().borrow().addresses().map(|address| address.to_string()).collect();
    let seeders = match (&settings.seeder.proxy, seeders.is_empty()) {
        (Some(_), _) => "through its proxy".to_owned(),
        (None, true) => "on no public address yet".to_owned(),
        (None, false) => format!("on {}", seeders.join(", ")),
    };
    let version = &settings.server.app_version;
    let mut lines = vec![format!("ProxyTorrent {version} serves {server} and seeds {seeders}.")];
    if settings.server.profile == Profile::Development {
        let proxy = settings.proxy.proxy_enabled;
        let proxy = if proxy { "through the proxy" } else { "NO PROXY (origins see this machine's address)" };
        let callers = if settings.security.auth_enabled { "known callers only" } else { "no authentication" };
        lines.push(format!("Development profile: {callers}, {proxy}, loopback only."));
    }
    let program = std::env::args().next().unwrap_or_else(|| "proxytorrent".into());
    if settings.security.auth_enabled {
        let variables = "CLIENT__TOKEN to your token (or CLIENT__KEY_ID and CLIENT__KEY_SECRET)";
        lines.push(format!("Set {variables} for the client commands."));
    }
    lines.push(format!("Next, in another terminal: {program} get https://example.org/ --server {server}\n"));
    // Whether anybody reads this does not matter to the server.
    let _ = std::io::stdout().write_all(lines.join("\n").as_bytes());
}
