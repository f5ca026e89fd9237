//! Seeding session: adds and removes torrents.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::{ContentHash, InfoHash};
use libtorrent_sys::{Encryption, Event, EventKind, Session, SessionSettings, Statistics};
use ports::{SeedError, Seeder, Torrents};
use settings::ExposeSecret;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::disk::ContentsDisk;
use crate::events::{Events, Waiting};
use crate::listen::{Listen, ListenError, OTHERS, interface, interfaces, on_port, read_port_file, sockets};
use crate::lock::lock;
use crate::reader::Reader;
use crate::uploads::Uploads;
use crate::verified::TorrentReader;

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

/// A running seeder.
#[derive(Debug)]
pub struct SeedSession {
    /// `None` once it is stopped.
    session: Mutex<Option<Arc<Session>>>,
    waiting: Arc<Waiting>,
    reader: Arc<Reader>,
    /// The torrents that were added and not removed, with their contents.
    held: Mutex<HashMap<InfoHash, ContentHash>>,
    /// The torrents whose contents webseeds have read, whether the session has them or not.
    read: Arc<Mutex<HashMap<InfoHash, ContentHash>>>,
    stop: CancellationToken,
    events: Mutex<Option<JoinHandle<()>>>,
    listen: Listen,
    connect_to_peers: bool,
    statistics: Arc<Mutex<Statistics>>,
}

impl SeedSession {
    /// Starts a session that listens for peers, reads from `reader` and saves in `statistics` how much it uploads.
    pub async fn start(
        seeder: &settings::Seeder,
        torrent: &settings::Torrent,
        reader: Reader,
        statistics: Arc<dyn ports::Statistics>,
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
            upload_rate_limit: torrent.upload_rate_limit.get_i32(),
            download_rate_limit: torrent.download_rate_limit.get_i32(),
            connections_limit: torrent.max_connections.get_i32(),
        };
        let stop = CancellationToken::new();
        let (notify, reader) = (Arc::new(Notify::new()), Arc::new(reader));
        let disk = ContentsDisk {
            reader: reader.clone(),
            runtime: Handle::current(),
            events: notify.clone(),
            stopping: stop.clone(),
        };
        let session = Arc::new(Session::new(&settings, disk)?);
        // With a proxy there is one UDP socket, to the proxy.
        let count = if proxy.is_some() { 1 } else { sockets(&addresses, interface) };
        let early = listening(&session, &notify, &addresses, interface, count).await?;
        let (listen, opened) = Listen::new(seeder, session.listen_port(), forced.is_some());
        let addresses = listen.addresses().borrow().clone();
        info!(?addresses, interface, encryption = ?settings.encryption, utp = settings.utp, "seeder started");

        let waiting = Arc::new(Waiting::default());
        let uploads = Uploads::new(statistics);
        let statistics = Arc::new(Mutex::default());
        let events = Events {
            session: session.clone(),
            notify,
            waiting: waiting.clone(),
            statistics: statistics.clone(),
            uploads,
            opened,
        };
        let save_interval = Duration::from_secs(seeder.save_interval.get());
        let events = tokio::spawn(events.run(early, save_interval, stop.clone()));
        Ok(Self {
            session: Mutex::new(Some(session)),
            waiting,
            reader,
            held: Mutex::default(),
            read: Arc::default(),
            stop,
            events: Mutex::new(Some(events)),
            listen,
            connect_to_peers: seeder.connect_to_peers,
            statistics,
        })
    }

    /// Returns the addresses at which peers reach this seeder, and their changes.
    pub fn addresses(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.listen.addresses()
    }

    /// Listens on another port, which all public addresses get, too. Torrents and connected TCP peers stay.
    pub async fn set_listen_port(&self, port: u16) -> Result<(), ListenError> {
        let session = self.session().map_err(|error| ListenError { port, why: error.to_string() })?;
        self.listen.set_port(&session, port).await
    }

    /// Changes the IP address at which peers reach this seeder.
    pub async fn set_public_ip(&self, ip: IpAddr) {
        self.listen.set_public_ip(ip).await;
    }

    /// Returns a reader of the torrents in this store, which shares the cache of the session.
    pub fn torrent_reader(&self, torrents: Arc<dyn Torrents>) -> TorrentReader {
        TorrentReader::new(self.reader.clone(), torrents, self.read.clone())
    }

    /// Returns the number of seeded torrents.
    pub fn seeding(&self) -> u64 {
        lock(&self.held).len() as u64
    }

    /// Returns the statistics of the session, at most a few seconds old.
    pub fn statistics(&self) -> Statistics {
        *lock(&self.statistics)
    }

    /// Whether any listen socket is open, or peers are reached through a proxy.
    pub async fn is_listening(&self) -> bool {
        let Ok(session) = self.session() else { return false };
        if self.listen.is_proxied() {
            return true;
        }
        // The call blocks until the network thread responds.
        spawn_blocking(move || session.listen_port() != 0).await.unwrap_or(false)
    }

    /// Requests newer statistics than the session reads by itself.
    pub(crate) fn request_statistics(&self) {
        if let Ok(session) = self.session() {
            session.request_statistics();
        }
    }

    /// Sets the upload limit of all peers together, in bytes per second.
    #[expect(clippy::cast_possible_truncation, reason = "the limit fits")]
    pub(crate) fn set_upload_rate_limit(&self, limit: f64) {
        if let Ok(session) = self.session()
            && let Err(error) = session.set_upload_rate_limit(limit.max(1.0) as i32)
        {
            error!(%error, limit, "upload limit not set");
        }
    }

    /// Saves the statistics and closes every connection. Returns whether libtorrent ended in time. If it did not,
    /// its threads still run, and the process must end with [`exit_immediately`](libtorrent_sys::exit_immediately).
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

    /// Forgets the callers of [`Seeder::add`] that no longer wait.
    fn forget_waiting(&self, infohash: InfoHash) {
        if let Entry::Occupied(mut entry) = lock(&self.waiting).entry(infohash.to_string()) {
            entry.get_mut().retain(|sender| !sender.is_closed());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    fn session(&self) -> Result<Arc<Session>, SeedError> {
        lock(&self.session).clone().ok_or(SeedError::Unavailable)
    }
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

#[async_trait]
impl Seeder for SeedSession {
    fn has(&self, infohash: InfoHash) -> bool {
        lock(&self.held).contains_key(&infohash)
    }

    fn all(&self) -> Vec<InfoHash> {
        lock(&self.held).keys().copied().collect()
    }

    async fn add(&self, infohash: InfoHash, content: ContentHash, metainfo: &[u8]) -> Result<(), SeedError> {
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
        match &result {
            Ok(()) => drop(lock(&self.held).insert(infohash, content)),
            Err(_) => self.forget_waiting(infohash),
        }
        result
    }

    async fn remove(&self, infohash: InfoHash) -> Result<(), SeedError> {
        let (session, name) = (self.session()?, infohash.to_string());
        let (content, read) = (lock(&self.held).remove(&infohash), lock(&self.read).remove(&infohash));
        // The call blocks until the network thread responds.
        let removed = spawn_blocking(move || session.remove_torrent(&name)).await;
        if let Some(content) = content.or(read).filter(|content| self.reader.has_read(*content))
            && !lock(&self.held).values().any(|held| *held == content)
        {
            self.reader.forget(content);
        }
        removed.map_err(|_| SeedError::Unavailable)?.map_err(|error| SeedError::Refused(error.to_string()))?;
        Ok(())
    }

    async fn remove_if_unused(&self, infohash: InfoHash) -> Result<bool, SeedError> {
        let (session, name) = (self.session()?, infohash.to_string());
        // The call blocks until the network thread responds.
        let used = spawn_blocking(move || session.is_used(&name)).await;
        let used = used.map_err(|_| SeedError::Unavailable)?.map_err(|error| SeedError::Refused(error.to_string()))?;
        if !used {
            self.remove(infohash).await?;
        }
        Ok(!used)
    }

    async fn connect(&self, infohash: InfoHash, peer: SocketAddr) -> Result<(), SeedError> {
        if !self.connect_to_peers || !self.has(infohash) {
            return Ok(());
        }
        let (session, name) = (self.session()?, infohash.to_string());
        // The call blocks until the network thread responds.
        let connected = spawn_blocking(move || session.connect_peer(&name, peer)).await;
        connected.map_err(|_| SeedError::Unavailable)?.map_err(|error| SeedError::Refused(error.to_string()))?;
        debug!(%infohash, %peer, "peer connection started");
        Ok(())
    }
}
