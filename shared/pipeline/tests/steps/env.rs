//! The steps of a request on the embedded backend, with requests in the states that tests begin with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::{ContentHash, FetchRequest, InfoHash, Method, RequestId, Status, Step, Timestamp, Transition};
use embedded::TaskReceiver;
use ports::contract::{NOW, content, request};
use ports::{Clock, ManualClock, Seeder, Stores, Task};
use proxytorrent_pipeline::{CollectOrphans, LEASE, Outcome, Package, Release, Scrub, Seed, Sweep};
use seeder::SeedSessions;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common;

/// The steps, and what they work on.
pub struct TestEnv {
    pub stores: Stores,
    pub clock: Arc<ManualClock>,
    pub sessions: Arc<SeedSessions>,
    pub tasks: TaskReceiver,
    pub package: Package,
    pub seed: Seed,
    pub release: Release,
    pub sweep: Sweep,
    pub collect_orphans: CollectOrphans,
    pub scrub: Scrub,
    pub folder: TempDir,
}

impl TestEnv {
    pub async fn new() -> Self {
        Self::at(NOW).await
    }

    pub async fn at(now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(now));
        let (stores, tasks) = common::stores(folder.path(), clock.clone()).await;
        let (settings, sessions) = (common::settings(), common::session(&stores).await);
        Self {
            package: Package::new(&stores, &settings),
            seed: Seed::new(&stores, sessions.clone(), None),
            release: Release::new(&stores),
            sweep: Sweep::new(&stores, 100),
            collect_orphans: CollectOrphans::new(&stores, 1),
            scrub: Scrub { rate: None, ..Scrub::new(&stores, &settings.storage) },
            stores,
            clock,
            sessions,
            tasks,
            folder,
        }
    }

    pub fn torrent_file(&self, infohash: InfoHash) -> PathBuf {
        self.folder.path().join(format!("torrents/{infohash}.torrent"))
    }

    /// Returns the path at which the content with this hash is stored.
    pub fn content_file(&self, content: ContentHash) -> PathBuf {
        let name = content.to_string();
        self.folder.path().join(format!("content/{}/{}/{name}", &name[..2], &name[2..4]))
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Creates a request in packaging. Its content, five bytes of `byte`, is stored under the made-up hash `[byte;
    /// 32]`.
    pub async fn fetched(&self, url: &str, byte: u8) -> RequestId {
        self.fetched_as(url, byte, ContentHash::new([byte; 32])).await
    }

    /// As [`TestEnv::fetched`], with the real SHA-256, so that a scrub finds the content intact.
    pub async fn fetched_truly(&self, url: &str, byte: u8) -> RequestId {
        self.fetched_as(url, byte, ContentHash::new(Sha256::digest([byte; 5]).into())).await
    }

    pub async fn fetched_as(&self, url: &str, byte: u8, hash: ContentHash) -> RequestId {
        let mut staged = self.stores.contents.stage(RequestId::new()).await.unwrap();
        staged.write(vec![byte; 5].into()).await.unwrap();
        staged.commit(hash, self.now()).await.unwrap();
        let mut row = FetchRequest { due_at: Some(self.now()), created_at: self.now(), ..request("alice", url) };
        (row.spec.method, row.spec.sha256) = (Method::Get, None);
        self.stores.requests.create(&row).await.unwrap();
        let claim = self.stores.requests.claim(row.id, Step::Fetch, self.now(), LEASE).await.unwrap().unwrap();
        let fetched = Transition::fetched(content(hash, self.now()), self.now());
        self.stores.requests.save(&claim, &fetched, self.now()).await.unwrap();
        row.id
    }

    /// Creates a request and brings it to ready.
    pub async fn ready(&self, url: &str, byte: u8) -> FetchRequest {
        let id = self.fetched(url, byte).await;
        self.made_ready(id).await
    }

    pub async fn made_ready(&self, id: RequestId) -> FetchRequest {
        assert_eq!(self.package.run(id).await.unwrap(), Outcome::Done);
        let infohash = self.row(id).await.infohash.unwrap();
        self.seed.run(infohash, Some(id)).await.unwrap();
        let row = self.row(id).await;
        assert_eq!(row.status, Status::Ready);
        row
    }

    /// As [`TestEnv::ready`], and then deletes the torrent's file and removes the torrent from the session.
    pub async fn ready_without_file(&mut self) -> (FetchRequest, InfoHash) {
        let row = self.ready("http://example.org/", 1).await;
        let infohash = row.infohash.unwrap();
        self.sessions.remove(infohash).await.unwrap();
        std::fs::remove_file(self.torrent_file(infohash)).unwrap();
        self.woken();
        (row, infohash)
    }

    pub async fn row(&self, id: RequestId) -> FetchRequest {
        self.stores.requests.get(id).await.unwrap().unwrap()
    }

    /// Collects orphans in all 256 parts, one per minute, starting two hours after the last change. Returns how many
    /// were found.
    pub async fn collect_orphans(&self) -> u64 {
        self.clock.advance(Duration::from_secs(2 * 3600));
        let mut found = 0;
        for _ in 0..256 {
            self.clock.advance(Duration::from_secs(60));
            found += self.collect_orphans.run().await.unwrap();
        }
        found
    }

    /// Returns the tasks that were enqueued without a delay that is still running.
    pub fn woken(&mut self) -> Vec<Task> {
        std::iter::from_fn(|| self.tasks.try_recv().ok().map(|delivery| delivery.task)).collect()
    }
}
