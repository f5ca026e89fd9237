//! The libtorrent sessions of a process: adds and removes torrents.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::{ContentHash, InfoHash};
use futures::future::join_all;
use libtorrent_sys::Statistics;
use ports::{Endpoints, SeedError, Seeder, Torrents, home_session};
use tokio::sync::watch;
use tracing::{debug, info};

use crate::listen::ListenError;
use crate::lock::lock;
use crate::reader::Reader;
use crate::session::{SeedSession, Shared, StartError, part_of};
use crate::traffic::{Hot, Traffic};
use crate::verified::TorrentReader;

/// The running libtorrent sessions, which share the torrents by infohash.
///
/// A session does its work on one thread, and has ports of its own. Hot torrents are in all sessions.
#[derive(Debug)]
pub struct SeedSessions {
    pub(crate) sessions: Vec<SeedSession>,
    reader: Arc<Reader>,
    /// The torrents that were added and not removed, with their contents.
    pub(crate) held: Mutex<HashMap<InfoHash, ContentHash>>,
    /// The torrents whose contents webseeds have read, whether a session has them or not.
    read: Arc<Mutex<HashMap<InfoHash, ContentHash>>>,
    /// The torrents that all sessions have. Locked while one is added to all, or removed.
    pub(crate) hot: tokio::sync::Mutex<HashMap<InfoHash, Hot>>,
    pub(crate) traffic: Arc<Traffic>,
    endpoints: Arc<watch::Sender<Endpoints>>,
    /// The most connections of one session.
    pub(crate) max_connections: u64,
    connect_to_peers: bool,
}

impl SeedSessions {
    /// Starts sessions that listen for peers, read from `reader` and save in `statistics` how much they upload.
    pub async fn start(
        seeder: &settings::Seeder,
        torrent: &settings::Torrent,
        reader: Reader,
        statistics: Arc<dyn ports::Statistics>,
    ) -> Result<Self, StartError> {
        let count = seeder.sessions.get_usize();
        let empty = Endpoints { sessions: vec![vec![]; count], hot: vec![] };
        let traffic = Arc::<Traffic>::default();
        let shared = Shared {
            count,
            reader: Arc::new(reader),
            statistics,
            traffic: (count > 1).then(|| traffic.clone()),
            endpoints: Arc::new(watch::Sender::new(empty)),
        };
        let mut sessions = vec![];
        for number in 0..count {
            let seeder = of_session(number, seeder);
            sessions.push(SeedSession::start(number, &seeder, torrent, &shared).await?);
        }
        info!(sessions = count, "seeder started");
        Ok(Self {
            sessions,
            reader: shared.reader,
            held: Mutex::default(),
            read: Arc::default(),
            hot: tokio::sync::Mutex::default(),
            traffic,
            endpoints: shared.endpoints,
            max_connections: u64::from(part_of(torrent.max_connections.get_i32(), count).unsigned_abs()),
            connect_to_peers: seeder.connect_to_peers,
        })
    }

    /// Returns where peers reach the sessions, and changes of it.
    pub fn endpoints(&self) -> watch::Receiver<Endpoints> {
        self.endpoints.subscribe()
    }

    /// Listens on another port, which all public addresses get, too. Torrents and connected TCP peers stay. Fails if there is
    /// more than one session.
    pub async fn set_listen_port(&self, port: u16) -> Result<(), ListenError> {
        match self.sessions.as_slice() {
            [session] => session.set_listen_port(port).await,
            _ => Err(ListenError { port, why: "each session (SEEDER__SESSIONS) has a port of its own".into() }),
        }
    }

    /// Changes the IP address at which peers reach this seeder.
    pub async fn set_public_ip(&self, ip: IpAddr) {
        for session in &self.sessions {
            session.listen.set_public_ip(ip).await;
        }
    }

    /// Returns a reader of the torrents in this store, which shares the cache of the sessions.
    pub fn torrent_reader(&self, torrents: Arc<dyn Torrents>) -> TorrentReader {
        TorrentReader::new(self.reader.clone(), torrents, self.read.clone())
    }

    /// Returns the number of seeded torrents.
    pub fn seeding(&self) -> u64 {
        lock(&self.held).len() as u64
    }

    /// Returns the statistics of all sessions together, at most a few seconds old.
    pub fn statistics(&self) -> Statistics {
        self.sessions.iter().map(SeedSession::statistics).fold(Statistics::default(), |all, one| Statistics {
            uploaded_bytes: all.uploaded_bytes + one.uploaded_bytes,
            peers: all.peers + one.peers,
        })
    }

    /// Whether every session has an open listen socket, or peers are reached through a proxy.
    pub async fn is_listening(&self) -> bool {
        join_all(self.sessions.iter().map(SeedSession::is_listening)).await.into_iter().all(|is_listening| is_listening)
    }

    /// Saves the statistics and closes every connection. Returns whether libtorrent ended in time. If it did not,
    /// its threads still run, and the process must end with [`exit_immediately`](libtorrent_sys::exit_immediately).
    pub async fn stop(&self) -> bool {
        join_all(self.sessions.iter().map(SeedSession::stop)).await.into_iter().all(|in_time| in_time)
    }

    /// Publishes which torrents all sessions have.
    pub(crate) fn publish(&self, hot: &HashMap<InfoHash, Hot>) {
        let published = hot.iter().filter(|(_, torrent)| torrent.is_published());
        let mut published: Vec<_> = published.map(|(infohash, _)| *infohash).collect();
        published.sort_unstable();
        self.endpoints.send_if_modified(|endpoints| {
            let has_changed = endpoints.hot != published;
            endpoints.hot = published;
            has_changed
        });
    }

    /// Returns the sessions that only have a torrent while it is hot.
    pub(crate) fn further(&self, infohash: InfoHash) -> impl Iterator<Item = &SeedSession> {
        let home = home_session(infohash, self.sessions.len());
        self.sessions.iter().enumerate().filter(move |(number, _)| *number != home).map(|(_, session)| session)
    }

    fn home(&self, infohash: InfoHash) -> &SeedSession {
        &self.sessions[home_session(infohash, self.sessions.len())]
    }
}

/// Returns the settings of the session with this number: each one has the next ports.
fn of_session(number: usize, seeder: &settings::Seeder) -> settings::Seeder {
    let mut of_session = seeder.clone();
    of_session.listen = seeder.of_session(&seeder.listen, number);
    of_session.public_address = seeder.of_session(&seeder.public_address, number);
    of_session
}

#[async_trait]
impl Seeder for SeedSessions {
    fn has(&self, infohash: InfoHash) -> bool {
        lock(&self.held).contains_key(&infohash)
    }

    fn all(&self) -> Vec<InfoHash> {
        lock(&self.held).keys().copied().collect()
    }

    async fn add(&self, infohash: InfoHash, content: ContentHash, metainfo: &[u8]) -> Result<(), SeedError> {
        self.home(infohash).add(infohash, content, metainfo).await?;
        lock(&self.held).insert(infohash, content);
        Ok(())
    }

    async fn remove(&self, infohash: InfoHash) -> Result<(), SeedError> {
        let (content, read) = (lock(&self.held).remove(&infohash), lock(&self.read).remove(&infohash));
        self.remove_hot(infohash).await?;
        let removed = self.home(infohash).remove(infohash).await;
        if let Some(content) = content.or(read).filter(|content| self.reader.has_read(*content))
            && !lock(&self.held).values().any(|held| *held == content)
        {
            self.reader.forget(content);
        }
        removed
    }

    async fn remove_if_unused(&self, infohash: InfoHash) -> Result<bool, SeedError> {
        let is_hot = self.hot.lock().await.contains_key(&infohash);
        let further = self.further(infohash).filter(|_| is_hot);
        for session in further.chain([self.home(infohash)]) {
            if session.is_used(infohash).await? {
                return Ok(false);
            }
        }
        self.remove(infohash).await?;
        Ok(true)
    }

    async fn connect(&self, infohash: InfoHash, peer: SocketAddr) -> Result<(), SeedError> {
        if !self.connect_to_peers || !self.has(infohash) {
            return Ok(());
        }
        // The session that the tracker names to this peer.
        let session = self.endpoints.borrow().session(infohash, Some(peer));
        if self.sessions[session].connect(infohash, peer).await? {
            debug!(%infohash, %peer, "peer connection started");
        }
        Ok(())
    }
}
