//! One libtorrent session.

use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{ContentHash, InfoHash};
use libtorrent_sys::{Encryption, Event, EventKind, Session, SessionSettings, Statistics};
use ports::{Endpoints, SeedError};
use settings::ExposeSecret;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::disk::ContentsDisk;
use crate::events::{Events, Waiting};
use crate::listen::{Listen, ListenError, OTHERS, interface, interfaces, on_port, read_port_file, sockets};
use crate::lock::lock;
use crate::reader::Reader;
use crate::traffic::Traffic;
use crate::uploads::Uploads;

/// The timeout for the result of a libtorrent call.
const ANSWER: Duration = Duration::from_secs(30);

/// The timeout for libtorrent to close its connections and end its threads.
const CLOSE: Duration = Duration::from_secs(10);

/// The error of a session that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// libtorrent refused the settings or failed to start.
    #[error("cannot start the seeder: {0}")]
    Session(#[from] libtorrent_sys::Error),
    /// The session cannot listen.
    #[error("the seeder cannot listen on {addresses} (SEEDER__LISTEN): {why}")]
    Listen {
        /// The configured listen addresses.
        addresses: String,
        /// The reason.
        why: String,
    },
}

/// One libtorrent session, which runs on one network thread, with its listen sockets and the task for its events.
#[derive(Debug)]
pub(crate) struct SeedSession {
    /// `None` once it is stopped.
    session: Mutex<Option<Arc<Session>>>,
    waiting: Arc<Waiting>,
    stop: CancellationToken,
    events: Mutex<Option<JoinHandle<()>>>,
    pub listen: Listen,
    statistics: Arc<Mutex<Statistics>>,
}

/// What the sessions of a process have in common.
pub(crate) struct Shared {
    /// How many sessions there are.
    pub count: usize,
    pub reader: Arc<Reader>,
    pub statistics: Arc<dyn ports::Statistics>,
    /// Counts the traffic of the torrents, if there are several sessions.
    pub traffic: Option<Arc<Traffic>>,
    pub endpoints: Arc<watch::Sender<Endpoints>>,
}

impl SeedSession {
    /// Starts the session with this number. It listens on the addresses in `seeder`, and has its part of the limits.
    pub async fn start(
        number: usize,
        seeder: &settings::Seeder,
        torrent: &settings::Torrent,
        shared: &Shared,
    ) -> Result<Self, StartError> {
        let forced = seeder.port_file.as_deref().and_then(read_port_file);
        let addresses = forced.map_or_else(|| seeder.listen.clone(), |port| on_port(&seeder.listen, port));
        let interface = interface(seeder);
        let interface = interface.as_deref();
        let proxy = seeder.proxy.as_ref();
        let credentials = proxy.and_then(|proxy| proxy.credentials.as_ref());
        let settings = SessionSettings {
            listen_interfaces: interfaces(&addresses, interface),
            encryption: match torrent.encryption() {
                settings::Encryption::Forced => Encryption::Forced,
                settings::Encryption::Preferred => Encryption::Preferred,
                settings::Encryption::Off => Encryption::Off,
            },
            utp: seeder.utp,
            connect_to_peers: seeder.connect_to_peers,
            proxy_hostname: proxy.map(|proxy| proxy.host.clone()).unwrap_or_default(),
            proxy_port: proxy.map_or(0, |proxy| proxy.port),
            proxy_username: credentials.map(|(user, _)| user.clone()).unwrap_or_default(),
            proxy_password: credentials.map(|(_, password)| password.expose_secret().to_owned()).unwrap_or_default(),
            outgoing_interfaces: interface.map_or_else(|| outgoing_interfaces(&seeder.listen), str::to_owned),
            upload_rate_limit: part_of(torrent.upload_rate_limit.get_i32(), shared.count),
            download_rate_limit: part_of(torrent.download_rate_limit.get_i32(), shared.count),
            connections_limit: part_of(torrent.max_connections.get_i32(), shared.count),
        };
        let stop = CancellationToken::new();
        let notify = Arc::new(Notify::new());
        let disk = ContentsDisk {
            reader: shared.reader.clone(),
            runtime: Handle::current(),
            events: notify.clone(),
            stopping: stop.clone(),
        };
        let session = Arc::new(Session::new(&settings, disk)?);
        // With a proxy there is one UDP socket, to the proxy.
        let count = if proxy.is_some() { 1 } else { sockets(&addresses, interface) };
        let early = listening(&session, &notify, &addresses, interface, count).await?;
        let port = session.listen_port();
        let (listen, opened) = Listen::new(number, seeder, port, forced.is_some(), shared.endpoints.clone());
        let addresses = &shared.endpoints.borrow().sessions[number].clone();
        let (encryption, utp) = (settings.encryption, settings.utp);
        info!(session = number, ?addresses, interface, ?encryption, utp, "session started");

        let waiting = Arc::new(Waiting::default());
        let statistics = Arc::new(Mutex::default());
        let events = Events {
            session: session.clone(),
            notify,
            waiting: waiting.clone(),
            statistics: statistics.clone(),
            uploads: Uploads::new(shared.statistics.clone()),
            traffic: shared.traffic.clone(),
            opened,
        };
        let save_interval = Duration::from_secs(seeder.save_interval.get());
        let events = tokio::spawn(events.run(early, save_interval, stop.clone()));
        Ok(Self {
            session: Mutex::new(Some(session)),
            waiting,
            stop,
            events: Mutex::new(Some(events)),
            listen,
            statistics,
        })
    }

    /// Listens on another port, which all public addresses get, too. Torrents and connected TCP peers stay.
    pub async fn set_listen_port(&self, port: u16) -> Result<(), ListenError> {
        let session = self.session().map_err(|error| ListenError { port, why: error.to_string() })?;
        self.listen.set_port(&session, port).await
    }

    /// Returns the statistics, at most a few seconds old.
    pub fn statistics(&self) -> Statistics {
        *lock(&self.statistics)
    }

    /// Whether any listen socket is open, or peers are reached through a proxy.
    pub async fn is_listening(&self) -> bool {
        if self.listen.is_proxied() {
            return self.session().is_ok();
        }
        self.call(|session| Ok(session.listen_port() != 0)).await.unwrap_or(false)
    }

    /// Requests newer statistics than the session reads by itself.
    pub fn request_statistics(&self) {
        if let Ok(session) = self.session() {
            session.request_statistics();
        }
    }

    /// Sets the upload limit of all peers together, in bytes per second.
    #[expect(clippy::cast_possible_truncation, reason = "the limit fits")]
    pub fn set_upload_rate_limit(&self, limit: f64) {
        if let Ok(session) = self.session()
            && let Err(error) = session.set_upload_rate_limit(limit.max(1.0) as i32)
        {
            error!(%error, limit, "upload limit not set");
        }
    }

    /// Adds a torrent, and returns when it is seeded.
    pub async fn add(&self, infohash: InfoHash, content: ContentHash, metainfo: &[u8]) -> Result<(), SeedError> {
        let (sender, added) = oneshot::channel();
        let session = self.session()?;
        lock(&self.waiting).entry(infohash.to_string()).or_default().push(sender);
        let result = match session.add_torrent(metainfo, &content.to_string()) {
            Ok(()) => tokio::time::timeout(ANSWER, added)
                .await
                .ok()
                .and_then(Result::ok)
                .unwrap_or(Err(SeedError::Unavailable)),
            Err(error) => {
                drop(added);
                Err(SeedError::Refused(error.to_string()))
            }
        };
        if result.is_err() {
            self.forget_waiting(infohash);
        }
        result
    }

    /// Removes a torrent, if the session has it.
    pub async fn remove(&self, infohash: InfoHash) -> Result<(), SeedError> {
        self.call(move |session| session.remove_torrent(&infohash.to_string())).await?;
        Ok(())
    }

    /// Whether peers are connected to a torrent.
    pub async fn is_used(&self, infohash: InfoHash) -> Result<bool, SeedError> {
        self.call(move |session| session.is_used(&infohash.to_string())).await
    }

    /// Connects to a peer of a torrent. Returns whether the session has the torrent.
    pub async fn connect(&self, infohash: InfoHash, peer: SocketAddr) -> Result<bool, SeedError> {
        self.call(move |session| session.connect_peer(&infohash.to_string(), peer)).await
    }

    /// Saves the statistics and closes every connection. Returns whether libtorrent ended in time.
    pub async fn stop(&self) -> bool {
        self.stop.cancel();
        let events = lock(&self.events).take();
        if let Some(events) = events {
            // The event task ends itself after the statistics are saved.
            let _ = events.await;
        }
        let session = lock(&self.session).take();
        // Dropping the session joins libtorrent's threads. It runs on a separate thread, because the runtime waits at
        // shutdown for its own blocking threads.
        let (closed, done) = oneshot::channel();
        std::thread::spawn(move || {
            drop(session);
            let _ = closed.send(());
        });
        let in_time = tokio::time::timeout(CLOSE, done).await.is_ok();
        if !in_time {
            error!(deadline_seconds = CLOSE.as_secs(), "libtorrent did not stop in time");
        }
        in_time
    }

    /// Forgets the callers of [`SeedSession::add`] that no longer wait.
    fn forget_waiting(&self, infohash: InfoHash) {
        if let Entry::Occupied(mut entry) = lock(&self.waiting).entry(infohash.to_string()) {
            entry.get_mut().retain(|sender| !sender.is_closed());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Runs a call that blocks until the network thread responds.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Session) -> Result<T, libtorrent_sys::Error> + Send + 'static,
    ) -> Result<T, SeedError> {
        let session = self.session()?;
        let result = spawn_blocking(move || call(&session)).await.map_err(|_| SeedError::Unavailable)?;
        result.map_err(|error| SeedError::Refused(error.to_string()))
    }

    fn session(&self) -> Result<Arc<Session>, SeedError> {
        lock(&self.session).clone().ok_or(SeedError::Unavailable)
    }
}

/// Returns the part of a limit that each of so many sessions has, rounded up. 0, no limit, stays 0.
pub(crate) fn part_of(limit: i32, sessions: usize) -> i32 {
    let sessions = i32::try_from(sessions).unwrap_or(i32::MAX).max(1);
    limit / sessions + i32::from(limit % sessions > 0)
}

/// Waits until the session listens on this number of sockets. Returns the other events that arrived before that.
async fn listening(
    session: &Session,
    notify: &Notify,
    listen: &[SocketAddr],
    interface: Option<&str>,
    sockets: usize,
) -> Result<Vec<Event>, StartError> {
    let mut seen = vec![];
    let failed = |why: &str| StartError::Listen { addresses: interfaces(listen, interface), why: why.into() };
    let (mut failure, mut deadline) = (None, Instant::now() + ANSWER);
    loop {
        for event in session.take_events()? {
            match event.kind {
                EventKind::ListenFailed if interface.is_none() => return Err(failed(&event.message)),
                EventKind::ListenFailed => {
                    failure.get_or_insert(event.message);
                    deadline = deadline.min(Instant::now() + OTHERS);
                }
                _ => seen.push(event),
            }
        }
        if seen.iter().filter(|event| event.kind == EventKind::Listening).count() >= sockets {
            return Ok(seen);
        }
        if timeout_at(deadline, notify.notified()).await.is_err() {
            return Err(failed(match (&failure, interface) {
                (Some(why), _) => why,
                (None, Some(_)) => "there is no such network interface, or it has no address (SEEDER__INTERFACE)",
                (None, None) => "libtorrent did not respond in time",
            }));
        }
    }
}

/// Returns the addresses that outgoing connections are bound to: the listen addresses, so that the seeder connects
/// through the same interface. Returns an empty string (any address) if a listen address is unspecified, or if there
/// are both IPv4 and IPv6 addresses: libtorrent would use an address of one family for a peer of the other.
fn outgoing_interfaces(listen: &[SocketAddr]) -> String {
    let one_family = listen.iter().all(SocketAddr::is_ipv4) || listen.iter().all(SocketAddr::is_ipv6);
    if !one_family || listen.iter().any(|address| address.ip().is_unspecified()) {
        return String::new();
    }
    listen.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(",")
}
