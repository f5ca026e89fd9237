//! Hot torrents: they have so much traffic that all sessions serve them.

use std::sync::Arc;
use std::time::Duration;

use domain::InfoHash;
use ports::{SeedError, Torrents};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::events::UPKEEP;
use crate::lock::lock;
use crate::sessions::SeedSessions;
use crate::traffic::Hot;

/// How long after its last busy moment a torrent is hot.
const COOL_DOWN: Duration = Duration::from_secs(600);

/// How long a torrent that is not hot anymore stays in all sessions: trackers send peers to them until they notice.
const LINGER: Duration = Duration::from_secs(60);

/// The most hot torrents. The registration of the seeder names them.
const MAX_HOT: usize = 32;

impl SeedSessions {
    /// Adds hot torrents to all sessions, and removes them from all but one when they are not hot anymore, until `stop` is
    /// cancelled. `torrents` has their metainfo files.
    pub async fn spread_hot_torrents(self: Arc<Self>, torrents: Arc<dyn Torrents>, stop: CancellationToken) {
        if self.sessions.len() == 1 {
            return;
        }
        let mut interval = interval(UPKEEP);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            // A tick is the scheduled time, which may be long ago.
            let now = Instant::now();
            let busy = self.traffic.busy(now - last, self.max_connections);
            last = now;
            if stop.run_until_cancelled(self.spread(busy, &*torrents, now)).await.is_none() {
                break;
            }
        }
    }

    /// Takes note of the torrents that are `busy` now.
    async fn spread(&self, busy: Vec<InfoHash>, torrents: &dyn Torrents, now: Instant) {
        let mut hot = self.hot.lock().await;
        for infohash in busy {
            let was_published = hot.get(&infohash).is_some_and(Hot::is_published);
            if !was_published && hot.values().filter(|torrent| torrent.is_published()).count() >= MAX_HOT {
                continue;
            }
            // Until it is in all sessions. If it is in some only, it is removed from them later.
            let cold_since = (!was_published).then_some(now);
            hot.insert(infohash, Hot { busy_at: now, cold_since });
            if !was_published && self.add_to_all(infohash, torrents).await {
                hot.insert(infohash, Hot { busy_at: now, cold_since: None });
            }
        }
        for (infohash, torrent) in hot.iter_mut() {
            if torrent.is_published() && now - torrent.busy_at >= COOL_DOWN {
                info!(%infohash, "torrent is not hot anymore");
                torrent.cold_since = Some(now);
            }
        }
        self.publish(&hot);
        let is_over = |torrent: &Hot| torrent.cold_since.is_some_and(|since| now - since >= LINGER);
        let over: Vec<_> = hot.iter().filter(|(_, torrent)| is_over(torrent)).map(|(infohash, _)| *infohash).collect();
        for infohash in over {
            if self.remove_from_further(infohash).await {
                hot.remove(&infohash);
            }
        }
    }

    /// Removes a torrent that was or is hot from all sessions but its home session, with its peers.
    pub(crate) async fn remove_hot(&self, infohash: InfoHash) -> Result<(), SeedError> {
        let mut hot = self.hot.lock().await;
        let Some(torrent) = hot.get_mut(&infohash) else { return Ok(()) };
        torrent.cold_since.get_or_insert_with(Instant::now);
        self.publish(&hot);
        for session in self.further(infohash) {
            session.remove(infohash).await?;
        }
        hot.remove(&infohash);
        Ok(())
    }

    /// Adds a torrent to all sessions. Returns whether they have it.
    async fn add_to_all(&self, infohash: InfoHash, torrents: &dyn Torrents) -> bool {
        // A removal waits until this is done: it locks `hot`.
        let Some(content) = lock(&self.held).get(&infohash).copied() else { return false };
        let metainfo = match torrents.metainfo_file(infohash).await {
            Ok(Some(metainfo)) => metainfo,
            Ok(None) => return false,
            Err(error) => {
                warn!(%infohash, %error, "hot torrent not added to all sessions, trying again later");
                return false;
            }
        };
        for session in self.further(infohash) {
            if let Err(error) = session.add(infohash, content, &metainfo).await {
                warn!(%infohash, %error, "hot torrent not added to all sessions, trying again later");
                return false;
            }
        }
        info!(%infohash, sessions = self.sessions.len(), "torrent is hot, all sessions have it");
        true
    }

    /// Removes a torrent from all sessions but its home session, unless peers are connected to them. Returns whether it was
    /// removed.
    async fn remove_from_further(&self, infohash: InfoHash) -> bool {
        for session in self.further(infohash) {
            if session.is_used(infohash).await.unwrap_or(true) {
                return false;
            }
        }
        let mut removed = true;
        for session in self.further(infohash) {
            removed &= session.remove(infohash).await.is_ok();
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use domain::{ContentHash, FileName, Timestamp, Torrent, TorrentState};
    use embedded::{Database, DatabaseOptions, FolderContents, SpaceLimits, SqliteStatistics, SqliteTorrents};
    use metainfo::{Pieces, TorrentBuilder, TorrentFormat};
    use ports::{Seeder, home_session};
    use tempfile::TempDir;

    use super::*;
    use crate::reader::Reader;

    const CONTENT: ContentHash = ContentHash::new([7; 32]);

    struct TestEnv {
        sessions: SeedSessions,
        torrents: SqliteTorrents,
        infohash: InfoHash,
        folder: TempDir,
    }

    impl TestEnv {
        /// Three sessions, of which one has a torrent.
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let settings = settings::Settings::from_pairs([
                ("PROFILE", "development"),
                ("SEEDER__LISTEN", "127.0.0.1:0"),
                ("SEEDER__SESSIONS", "3"),
                // The peer of `having` must not be connected, which would keep the torrent.
                ("SEEDER__CONNECT_TO_PEERS", "false"),
            ]);
            let settings = settings.unwrap();
            let contents = FolderContents::open(folder.path().join("content"), SpaceLimits::default()).unwrap();
            let database = Database::open(&folder.path().join("db"), DatabaseOptions::default()).await.unwrap();
            let statistics = Arc::new(SqliteStatistics::new(database.clone()));
            let reader = Reader::local(Arc::new(contents));
            let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, statistics).await.unwrap();
            let builder =
                TorrentBuilder { name: "a".into(), private: true, source: None, created_by: None, creation_date: None };
            let metainfo = builder.build(Pieces::of(TorrentFormat::V1, 1 << 18, b"content")).unwrap();
            let torrent = Torrent {
                infohash: metainfo.infohash(),
                infohash_v2: None,
                content_hash: CONTENT,
                name: FileName::default(),
                size: 7,
                piece_length: 1 << 18,
                state: TorrentState::Adding,
                version: 0,
                created_at: Timestamp::from_millis(0),
            };
            let (infohash, metainfo) = (metainfo.infohash(), metainfo.into_bytes());
            let torrents = SqliteTorrents::open(database, folder.path().join("torrents")).unwrap();
            torrents.store(&torrent, &metainfo).await.unwrap();
            sessions.add(infohash, CONTENT, &metainfo).await.unwrap();
            Self { sessions, torrents, infohash, folder }
        }

        /// The torrent is busy or not, so long after the start. Returns whether peers are sent to all sessions.
        async fn check(&self, is_busy: bool, at: Instant) -> bool {
            let busy = if is_busy { vec![self.infohash] } else { vec![] };
            self.sessions.spread(busy, &self.torrents, at).await;
            self.sessions.endpoints().borrow().hot == [self.infohash]
        }

        /// Returns the numbers of the sessions that have the torrent.
        async fn having(&self) -> Vec<usize> {
            let peer = ([127, 0, 0, 1], 9).into();
            let mut having = vec![];
            for (number, session) in self.sessions.sessions.iter().enumerate() {
                if session.connect(self.infohash, peer).await.unwrap() {
                    having.push(number);
                }
            }
            having
        }
    }

    #[tokio::test]
    async fn a_torrent_that_cools_down_leaves_all_sessions_but_one_after_the_trackers_noticed() {
        let (env, start) = (TestEnv::new().await, Instant::now());
        assert!(!env.check(false, start).await);
        assert_eq!(env.having().await, [home_session(env.infohash, 3)]);
        assert!(env.check(true, start).await);
        assert_eq!(env.having().await, [0, 1, 2]);
        let busy_again = start + COOL_DOWN / 2;
        assert!(env.check(true, busy_again).await);
        assert!(env.check(false, start + COOL_DOWN).await);
        let cold = busy_again + COOL_DOWN;
        assert!(!env.check(false, cold).await);
        assert_eq!(env.having().await, [0, 1, 2], "trackers do not know yet");
        assert!(!env.check(false, cold + LINGER).await);
        assert_eq!(env.having().await, [home_session(env.infohash, 3)]);
        assert!(env.sessions.has(env.infohash));
        assert!(env.check(true, cold + LINGER).await, "it can be hot again");
        assert_eq!(env.having().await, [0, 1, 2]);
        env.sessions.stop().await;
    }

    #[tokio::test]
    async fn a_removed_torrent_leaves_all_sessions() {
        let (env, start) = (TestEnv::new().await, Instant::now());
        assert!(env.check(true, start).await);
        assert!(env.sessions.remove_if_unused(env.infohash).await.unwrap());
        assert_eq!(env.having().await, [0_usize; 0]);
        assert!(!env.check(true, start).await, "it is not added again");
        assert_eq!(env.having().await, [0_usize; 0]);
        env.sessions.stop().await;
    }

    #[tokio::test]
    async fn a_torrent_without_its_file_stays_in_its_home_session() {
        let (env, start) = (TestEnv::new().await, Instant::now());
        std::fs::remove_file(env.folder.path().join(format!("torrents/{}.torrent", env.infohash))).unwrap();
        assert!(!env.check(true, start).await);
        let home = home_session(env.infohash, 3);
        assert_eq!(env.having().await, [home]);
        env.sessions.stop().await;
    }
}
