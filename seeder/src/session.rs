//! The session: torrents come and go, resume data is kept.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{ContentHash, InfoHash};
use libtorrent_sys::{Event, EventKind, Session, SessionSettings};
use ports::{Contents, SeedError, Seeder, Torrents};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::disk::ContentsDisk;

/// How long libtorrent may take to answer a call.
const ANSWER: Duration = Duration::from_secs(30);

/// The first bytes of the peer id (BEP 20): PT 0.1.0.
const FINGERPRINT: &str = "-PT0100-";

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// libtorrent said no.
    #[error("cannot start the seeder: {0}")]
    Session(#[from] libtorrent_sys::Error),
    /// It cannot listen.
    #[error("the seeder cannot listen on {addresses} (SEEDER__LISTEN): {why}")]
    Listen {
        /// Where it was to listen.
        addresses: String,
        /// Why it cannot.
        why: String,
    },
}

/// A running seeder.
#[derive(Debug)]
pub struct SeedSession {
    /// `None` once it is stopped.
    session: Mutex<Option<Arc<Session>>>,
    waiting: Arc<Waiting>,
    /// What has been added and not removed.
    held: Mutex<HashSet<InfoHash>>,
    stop: CancellationToken,
    events: Mutex<Option<JoinHandle<()>>>,
    addresses: Vec<SocketAddr>,
}

/// Who waits for libtorrent to have added a torrent.
type Waiting = Mutex<HashMap<String, Vec<oneshot::Sender<Result<(), SeedError>>>>>;

impl SeedSession {
    /// Starts a session that listens, reads from `contents` and keeps resume data in `torrents`.
    pub async fn start(
        seeder: &settings::Seeder,
        torrent: &settings::Torrent,
        contents: Arc<dyn Contents>,
        torrents: Arc<dyn Torrents>,
    ) -> Result<Self, StartError> {
        let interfaces: Vec<_> = seeder.listen.iter().map(ToString::to_string).collect();
        let settings = SessionSettings {
            listen_interfaces: interfaces.join(","),
            require_encryption: torrent.encryption_enabled,
            upload_rate_limit: torrent.upload_rate_limit.get() as i32,
            download_rate_limit: torrent.download_rate_limit.get() as i32,
            connections_limit: torrent.max_connections.get() as i32,
            user_agent: String::new(),
            peer_fingerprint: FINGERPRINT.into(),
        };
        let stop = CancellationToken::new();
        let notify = Arc::new(Notify::new());
        let disk =
            ContentsDisk { contents, runtime: Handle::current(), events: notify.clone(), stopping: stop.clone() };
        let session = Arc::new(Session::new(&settings, disk)?);
        let early = listening(&session, &notify, &settings.listen_interfaces).await?;
        let addresses = public_addresses(seeder, session.listen_port());
        info!(?addresses, encrypted = settings.require_encryption, "the seeder listens");

        let waiting = Arc::new(Waiting::default());
        let events = Events {
            session: session.clone(),
            notify,
            waiting: waiting.clone(),
            torrents,
            save_interval: Duration::from_secs(seeder.save_interval.get()),
        };
        let events = tokio::spawn(events.run(early, stop.clone()));
        Ok(Self {
            session: Mutex::new(Some(session)),
            waiting,
            held: Mutex::default(),
            stop,
            events: Mutex::new(Some(events)),
            addresses,
        })
    }

    /// How peers reach this seeder.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many torrents are seeded.
    pub fn seeding(&self) -> u64 {
        lock(&self.held).len() as u64
    }

    /// Saves all resume data, closes every connection and returns when all is done.
    pub async fn stop(&self) {
        self.stop.cancel();
        let events = lock(&self.events).take();
        if let Some(events) = events {
            // It ends by itself once the resume data is saved.
            let _ = events.await;
        }
        let session = lock(&self.session).take();
        // Closing joins libtorrent's threads.
        let _ = spawn_blocking(move || drop(session)).await;
    }

    fn session(&self) -> Result<Arc<Session>, SeedError> {
        lock(&self.session).clone().ok_or(SeedError::Unavailable)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the session listens; returns the events that came meanwhile.
async fn listening(session: &Session, notify: &Notify, interfaces: &str) -> Result<Vec<Event>, StartError> {
    let mut seen = vec![];
    let failed = |why: &str| StartError::Listen { addresses: interfaces.into(), why: why.into() };
    loop {
        for event in session.take_events()? {
            match event.kind {
                EventKind::ListenFailed => return Err(failed(&event.message)),
                _ => seen.push(event),
            }
        }
        // Each address has a TCP and a uTP socket.
        let expected = 2 * interfaces.split(',').count();
        if seen.iter().filter(|event| event.kind == EventKind::Listening).count() >= expected {
            return Ok(seen);
        }
        if tokio::time::timeout(ANSWER, notify.notified()).await.is_err() {
            return Err(failed("libtorrent does not answer"));
        }
    }
}

/// The configured public addresses, or else the listen addresses, with the port that was taken.
fn public_addresses(seeder: &settings::Seeder, port: u16) -> Vec<SocketAddr> {
    let configured = if seeder.public_address.is_empty() { &seeder.listen } else { &seeder.public_address };
    let with_port = |address: &SocketAddr| match address.port() {
        0 => SocketAddr::new(address.ip(), port),
        _ => *address,
    };
    configured.iter().map(with_port).collect()
}

#[async_trait]
impl Seeder for SeedSession {
    fn has(&self, infohash: InfoHash) -> bool {
        lock(&self.held).contains(&infohash)
    }

    async fn add(
        &self,
        infohash: InfoHash,
        content: ContentHash,
        metainfo: &[u8],
        resume: &[u8],
    ) -> Result<(), SeedError> {
        let (sender, added) = oneshot::channel();
        let session = self.session()?;
        lock(&self.waiting).entry(infohash.to_string()).or_default().push(sender);
        session
            .add_torrent(metainfo, resume, &content.to_string())
            .map_err(|error| SeedError::Refused(error.to_string()))?;
        match tokio::time::timeout(ANSWER, added).await {
            Ok(Ok(result)) => result?,
            _ => return Err(SeedError::Unavailable),
        }
        lock(&self.held).insert(infohash);
        Ok(())
    }

    async fn remove(&self, infohash: InfoHash) -> Result<(), SeedError> {
        let (session, name) = (self.session()?, infohash.to_string());
        lock(&self.held).remove(&infohash);
        // Waits for the network thread.
        let removed = spawn_blocking(move || session.remove_torrent(&name)).await;
        removed.map_err(|_| SeedError::Unavailable)?.map_err(|error| SeedError::Refused(error.to_string()))?;
        Ok(())
    }
}

/// Listens to libtorrent.
struct Events {
    session: Arc<Session>,
    notify: Arc<Notify>,
    waiting: Arc<Waiting>,
    torrents: Arc<dyn Torrents>,
    save_interval: Duration,
}

impl Events {
    async fn run(self, early: Vec<Event>, stopping: CancellationToken) {
        for event in early {
            self.take(event).await;
        }
        let mut save = tokio::time::interval_at(tokio::time::Instant::now() + self.save_interval, self.save_interval);
        loop {
            tokio::select! {
                () = self.notify.notified() => { self.take_all().await; }
                _ = save.tick() => { self.ask_for_resume_data(); }
                () = stopping.cancelled() => break,
            }
        }
        let mut missing = self.ask_for_resume_data();
        let deadline = tokio::time::Instant::now() + ANSWER;
        while missing > 0 {
            missing = missing.saturating_sub(self.take_all().await);
            if missing > 0 && tokio::time::timeout_at(deadline, self.notify.notified()).await.is_err() {
                warn!(missing, "resume data was not saved in time; nothing but statistics is lost");
                break;
            }
        }
    }

    fn ask_for_resume_data(&self) -> u32 {
        self.session.save_resume_data().unwrap_or_else(|error| {
            error!(%error, "resume data cannot be saved");
            0
        })
    }

    /// Handles what has come; returns how many answers about resume data were among it.
    async fn take_all(&self) -> u32 {
        let events = self.session.take_events().unwrap_or_else(|error| {
            error!(%error, "libtorrent's events cannot be read");
            vec![]
        });
        let mut resume = 0;
        for event in events {
            resume += u32::from(matches!(event.kind, EventKind::ResumeData | EventKind::ResumeDataFailed));
            self.take(event).await;
        }
        resume
    }

    async fn take(&self, event: Event) {
        match event.kind {
            EventKind::Added | EventKind::AddedAlready => self.answer(&event.infohash, &Ok(())),
            EventKind::AddFailed => self.answer(&event.infohash, &Err(SeedError::Refused(event.message))),
            EventKind::ResumeData => {
                let Ok(infohash) = event.infohash.parse() else { return };
                if let Err(error) = self.torrents.save_resume(infohash, &event.data).await {
                    warn!(%infohash, %error, "resume data was not kept");
                }
            }
            EventKind::ResumeDataFailed if event.message.is_empty() => {}
            EventKind::ResumeDataFailed | EventKind::TorrentError | EventKind::ListenFailed => {
                error!(infohash = event.infohash, message = event.message, "libtorrent reports an error");
            }
            _ => debug!(message = event.message, "libtorrent"),
        }
    }

    fn answer(&self, infohash: &str, result: &Result<(), SeedError>) {
        let waiting = lock(&self.waiting).remove(infohash);
        for sender in waiting.into_iter().flatten() {
            let _ = sender.send(result.clone());
        }
    }
}
