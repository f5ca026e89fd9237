//! Package, seed, release, sweep, orphan and scrub steps on the embedded backend (SQLite, a folder) and a libtorrent
//! session, with a manual clock.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::{
    ContentHash, FetchRequest, InfoHash, Method, RequestId, Status, Step, Timestamp, TorrentState, Transition,
};
use embedded::TaskReceiver;
use ports::contract::{NOW, content, request};
use ports::{Clock, ManualClock, Seeder, Stores, Task};
use proxytorrent_pipeline::{
    CollectOrphans, GRACE, LEASE, Outcome, Package, Release, Restored, Scrub, Seed, Sweep, Swept,
};
use seeder::SeedSession;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common;

struct TestEnv {
    stores: Stores,
    clock: Arc<ManualClock>,
    session: Arc<SeedSession>,
    tasks: TaskReceiver,
    package: Package,
    seed: Seed,
    release: Release,
    sweep: Sweep,
    collect_orphans: CollectOrphans,
    scrub: Scrub,
    folder: TempDir,
}

impl TestEnv {
    async fn new() -> Self {
        Self::at(NOW).await
    }

    async fn at(now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(now));
        let (stores, tasks) = common::stores(folder.path(), clock.clone()).await;
        let (settings, session) = (common::settings(), common::session(&stores).await);
        Self {
            package: Package::new(&stores, &settings),
            seed: Seed::new(&stores, session.clone(), None),
            release: Release::new(&stores),
            sweep: Sweep::new(&stores, 100),
            collect_orphans: CollectOrphans::new(&stores, 1),
            scrub: Scrub { rate: None, ..Scrub::new(&stores, &settings.storage) },
            stores,
            clock,
            session,
            tasks,
            folder,
        }
    }

    fn torrent_file(&self, infohash: InfoHash) -> PathBuf {
        self.folder.path().join(format!("torrents/{infohash}.torrent"))
    }

    /// Returns the path at which the content with this hash is stored.
    fn content_file(&self, content: ContentHash) -> PathBuf {
        let name = content.to_string();
        self.folder.path().join(format!("content/{}/{}/{name}", &name[..2], &name[2..4]))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Creates a request in packaging. Its content, five bytes of `byte`, is stored under the made-up hash `[byte;
    /// 32]`.
    async fn fetched(&self, url: &str, byte: u8) -> RequestId {
        self.fetched_as(url, byte, ContentHash::new([byte; 32])).await
    }

    /// As [`TestEnv::fetched`], with the real SHA-256, so that a scrub finds the content intact.
    async fn fetched_truly(&self, url: &str, byte: u8) -> RequestId {
        self.fetched_as(url, byte, ContentHash::new(Sha256::digest([byte; 5]).into())).await
    }

    async fn fetched_as(&self, url: &str, byte: u8, hash: ContentHash) -> RequestId {
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
    async fn ready(&self, url: &str, byte: u8) -> FetchRequest {
        let id = self.fetched(url, byte).await;
        self.made_ready(id).await
    }

    async fn made_ready(&self, id: RequestId) -> FetchRequest {
        assert_eq!(self.package.run(id).await.unwrap(), Outcome::Done);
        let infohash = self.row(id).await.infohash.unwrap();
        self.seed.run(infohash, Some(id)).await.unwrap();
        let row = self.row(id).await;
        assert_eq!(row.status, Status::Ready);
        row
    }

    /// As [`TestEnv::ready`], and then deletes the torrent's file and removes the torrent from the session.
    async fn ready_without_file(&mut self) -> (FetchRequest, InfoHash) {
        let row = self.ready("http://example.org/", 1).await;
        let infohash = row.infohash.unwrap();
        self.session.remove(infohash).await.unwrap();
        std::fs::remove_file(self.torrent_file(infohash)).unwrap();
        self.woken();
        (row, infohash)
    }

    async fn row(&self, id: RequestId) -> FetchRequest {
        self.stores.requests.get(id).await.unwrap().unwrap()
    }

    /// Collects orphans in all 256 parts, one per minute, starting two hours after the last change. Returns how many
    /// were found.
    async fn collect_orphans(&self) -> u64 {
        self.clock.advance(Duration::from_secs(2 * 3600));
        let mut found = 0;
        for _ in 0..256 {
            self.clock.advance(Duration::from_secs(60));
            found += self.collect_orphans.run().await.unwrap();
        }
        found
    }

    /// Returns the tasks that were enqueued without a delay that is still running.
    fn woken(&mut self) -> Vec<Task> {
        std::iter::from_fn(|| self.tasks.try_recv().ok().map(|delivery| delivery.task)).collect()
    }
}

#[tokio::test]
async fn an_expired_request_releases_its_torrent_and_content() {
    let mut env = TestEnv::new().await;
    let row = env.ready("http://example.org/", 1).await;
    let (infohash, hash) = (row.infohash.unwrap(), row.content.as_ref().unwrap().hash);
    assert_eq!(env.session.seeding(), 1);
    env.clock.advance(row.keep_for.saturating_sub(Duration::from_millis(1)));
    assert_eq!(env.sweep.run().await.unwrap(), Swept::default());
    env.woken();

    env.clock.advance(Duration::from_millis(1));
    assert_eq!(env.sweep.run().await.unwrap().expired, 1);
    assert_eq!(env.row(row.id).await.status, Status::Expired);
    assert!(env.woken().contains(&Task::Release(row.id)));
    assert_eq!(env.release.run(row.id).await.unwrap(), Outcome::Done);
    assert_eq!(env.woken(), [Task::Unseed(infohash)]);
    assert_eq!(env.stores.contents.size(hash).await.unwrap(), None);
    env.seed.unseed(infohash).await.unwrap();
    assert_eq!(env.stores.torrents.get(infohash).await.unwrap(), None);
    assert_eq!(env.stores.torrents.metainfo(infohash).await.unwrap(), None);
    assert_eq!(env.release.run(row.id).await.unwrap(), Outcome::Nothing, "it is released once");
}

#[tokio::test]
async fn an_ended_request_is_deleted_after_its_history() {
    let env = TestEnv::new().await;
    let row = env.ready("http://example.org/", 1).await;
    env.clock.advance(row.keep_for + row.history * 2);
    env.sweep.run().await.unwrap();
    let swept = env.sweep.run().await.unwrap();
    assert_eq!(
        (env.row(row.id).await.status, swept.forgotten),
        (Status::Expired, 0),
        "the history starts at the end of the request"
    );
    assert_eq!(env.release.run(row.id).await.unwrap(), Outcome::Done);
    env.clock.advance(row.history.saturating_sub(Duration::from_millis(1)));
    assert_eq!(env.sweep.run().await.unwrap(), Swept::default());
    env.clock.advance(Duration::from_millis(1));
    assert_eq!(env.sweep.run().await.unwrap().forgotten, 1);
    assert_eq!(env.stores.requests.get(row.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_recently_touched_content_is_kept_for_the_grace_period() {
    let env = TestEnv::new().await;
    let row = env.ready("http://example.org/", 1).await;
    let hash = row.content.as_ref().unwrap().hash;
    env.stores.requests.cancel(row.id, &row.owner, env.now()).await.unwrap();
    assert_eq!(env.release.run(row.id).await.unwrap(), Outcome::Retried);
    assert!(env.stores.contents.size(hash).await.unwrap().is_some());
    env.clock.advance(GRACE + Duration::from_secs(1));
    assert_eq!(env.release.run(row.id).await.unwrap(), Outcome::Done);
    assert_eq!(env.stores.contents.size(hash).await.unwrap(), None);
}

#[tokio::test]
async fn torrent_and_content_of_a_live_request_are_kept() {
    let mut env = TestEnv::new().await;
    let one = env.ready("http://example.org/1", 1).await;
    let two = env.ready("http://example.org/2", 1).await;
    assert_eq!(one.infohash, two.infohash, "equal content and name");
    env.clock.advance(GRACE * 2);
    env.woken();
    env.stores.requests.cancel(one.id, &one.owner, env.now()).await.unwrap();
    assert_eq!(env.release.run(one.id).await.unwrap(), Outcome::Done);
    assert_eq!(env.woken(), []);
    assert!(env.stores.contents.size(two.content.as_ref().unwrap().hash).await.unwrap().is_some());

    // A request without a torrent yet refers to all torrents of its content.
    let third = env.fetched("http://example.org/3", 1).await;
    env.clock.advance(GRACE * 2);
    env.stores.requests.cancel(two.id, &two.owner, env.now()).await.unwrap();
    assert_eq!(env.release.run(two.id).await.unwrap(), Outcome::Done);
    assert_eq!(env.woken(), []);
    assert_eq!(env.package.run(third).await.unwrap(), Outcome::Done);
    assert_eq!(env.row(third).await.status, Status::Ready, "the torrent is still seeded");
}

#[tokio::test]
async fn a_missing_content_is_fetched_again() {
    let mut env = TestEnv::new().await;
    let id = env.fetched("http://example.org/", 1).await;
    env.stores.contents.remove(ContentHash::new([1; 32]), NOW + LEASE).await.unwrap();
    assert_eq!(env.package.run(id).await.unwrap(), Outcome::Retried);
    let row = env.row(id).await;
    assert_eq!((row.status, row.content, row.retry_count), (Status::Queued, None, 0));
    assert_eq!(env.woken(), [Task::Fetch(id)]);
}

#[tokio::test]
async fn a_torrent_with_a_missing_file_is_packaged_again() {
    let mut env = TestEnv::new().await;
    let id = env.fetched("http://example.org/", 1).await;
    env.package.run(id).await.unwrap();
    let infohash = env.row(id).await.infohash.unwrap();
    std::fs::remove_file(env.folder.path().join(format!("torrents/{infohash}.torrent"))).unwrap();
    env.woken();
    env.seed.run(infohash, Some(id)).await.unwrap();
    assert_eq!(env.woken(), [Task::Package(id)]);
    env.package.run(id).await.unwrap();
    env.seed.run(infohash, Some(id)).await.unwrap();
    assert_eq!(env.row(id).await.status, Status::Ready);
}

#[tokio::test]
async fn a_ready_request_is_packaged_again_if_its_torrent_file_is_gone() {
    let mut env = TestEnv::new().await;
    let row = env.ready("http://example.org/", 1).await;
    let alike = env.fetched("http://example.org/alike", 1).await;
    let (infohash, alike) = (row.infohash.unwrap(), env.made_ready(alike).await);
    assert_eq!(alike.infohash, Some(infohash));
    env.session.remove(infohash).await.unwrap();
    std::fs::remove_file(env.torrent_file(infohash)).unwrap();
    env.woken();
    // One request is enough to store the file again, however often the seeder looks before.
    for _ in 0..3 {
        assert_eq!(env.seed.restore().await.unwrap(), Restored { failed: 1, ..Restored::default() });
    }
    let woken = env.woken();
    let [Task::Package(id)] = woken[..] else { panic!("{woken:?}") };
    let other = if id == row.id { alike.id } else { row.id };
    assert_eq!(env.row(id).await.status, Status::Packaging);
    assert_eq!(env.row(other).await.status, Status::Ready);
    env.package.run(id).await.unwrap();
    assert_eq!((env.row(id).await.status, env.row(id).await.infohash), (Status::Ready, Some(infohash)));
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 1, ..Restored::default() });
    assert!(env.session.has(infohash));
}

#[tokio::test]
async fn a_content_that_is_gone_with_its_torrent_file_is_reported() {
    let mut env = TestEnv::new().await;
    let (row, _) = env.ready_without_file().await;
    std::fs::remove_file(env.content_file(ContentHash::new([1; 32]))).unwrap();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { failed: 1, ..Restored::default() });
    let reported = tokio::time::timeout(Duration::from_secs(10), env.stores.contents.unreadable()).await.unwrap();
    assert_eq!(reported, ContentHash::new([1; 32]));
    env.scrub.verify(reported, None).await.unwrap();
    // The same bytes must be fetched again, since the torrent is of these.
    let lost = env.row(row.id).await;
    assert_eq!((lost.status, lost.spec.sha256), (Status::Queued, Some(reported)));
    assert!(env.woken().contains(&Task::Fetch(row.id)));
}

#[tokio::test]
async fn torrents_are_not_packaged_again_when_most_files_are_missing() {
    let mut env = TestEnv::new().await;
    let mut files = vec![];
    for byte in 1..=12 {
        let row = env.ready(&format!("http://example.org/{byte}"), byte).await;
        env.session.remove(row.infohash.unwrap()).await.unwrap();
        files.push(env.torrent_file(row.infohash.unwrap()));
    }
    for file in &files {
        std::fs::rename(file, file.with_extension("kept")).unwrap();
    }
    env.woken();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { failed: 12, ..Restored::default() });
    assert_eq!(env.woken(), []);
    for file in &files[1..] {
        std::fs::rename(file.with_extension("kept"), file).unwrap();
    }
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 11, failed: 1, removed: 0 });
    assert!(matches!(env.woken()[..], [Task::Package(_)]));
}

#[tokio::test]
async fn a_torrent_without_a_file_and_requests_is_deleted() {
    let mut env = TestEnv::new().await;
    let (row, infohash) = env.ready_without_file().await;
    env.stores.requests.cancel(row.id, &row.owner, env.now()).await.unwrap();
    env.woken();
    assert_eq!(env.seed.restore().await.unwrap(), Restored::default());
    assert_eq!(env.woken(), [Task::Unseed(infohash)]);
    env.seed.unseed(infohash).await.unwrap();
    assert_eq!(env.stores.torrents.get(infohash).await.unwrap(), None);
}

#[tokio::test]
async fn a_torrent_that_the_seeder_refuses_fails_its_requests() {
    let env = TestEnv::new().await;
    let id = env.fetched("http://example.org/", 1).await;
    env.package.run(id).await.unwrap();
    let infohash = env.row(id).await.infohash.unwrap();
    std::fs::write(env.folder.path().join(format!("torrents/{infohash}.torrent")), "no torrent").unwrap();
    env.seed.run(infohash, Some(id)).await.unwrap();
    let row = env.row(id).await;
    assert_eq!(row.status, Status::Failed);
    assert_eq!(row.failure.unwrap().code, domain::FailureCode::SeedingFailed);
}

#[tokio::test]
async fn a_request_cancelled_during_packaging_stays_cancelled() {
    let env = TestEnv::new().await;
    let id = env.fetched("http://example.org/", 1).await;
    let claim = env.stores.requests.claim(id, Step::Package, env.now(), LEASE).await.unwrap().unwrap();
    env.stores.requests.cancel(id, &claim.request.owner, env.now()).await.unwrap();
    assert_eq!(env.package.run(id).await.unwrap(), Outcome::Nothing);
    assert_eq!(env.row(id).await.status, Status::Cancelled);
}

#[tokio::test]
async fn orphans_are_collected() {
    let mut env = TestEnv::new().await;
    // An orphaned content: a fetch was killed between the commit and the save.
    let left = ContentHash::new([7; 32]);
    let mut staged = env.stores.contents.stage(RequestId::new()).await.unwrap();
    staged.write(vec![7; 5].into()).await.unwrap();
    staged.commit(left, env.now()).await.unwrap();
    let needed = env.ready("http://example.org/", 1).await;
    // Orphaned torrents: one by a cancel while the torrent was stored, one by a lost task.
    let ended = [env.ready("http://example.org/2", 2).await, env.ready("http://example.org/3", 3).await];
    for row in &ended {
        env.stores.requests.cancel(row.id, &row.owner, env.now()).await.unwrap();
    }
    let [live, retired] = ended.map(|row| row.infohash.unwrap());
    assert!(env.stores.torrents.retire(retired, 1, env.now()).await.unwrap());
    for infohash in [live, retired, needed.infohash.unwrap()] {
        let file = File::options().append(true).open(env.torrent_file(infohash)).unwrap();
        file.set_modified(env.now().into()).unwrap();
    }
    env.woken();

    assert_eq!(env.collect_orphans().await, 5, "three contents, two torrents");
    let woken = env.woken();
    assert!(woken.len() == 2 && [live, retired].iter().all(|hash| woken.contains(&Task::Unseed(*hash))), "{woken:?}");
    assert_eq!(env.stores.contents.size(left).await.unwrap(), None);
    for infohash in [live, retired] {
        env.seed.unseed(infohash).await.unwrap();
        assert!(!env.torrent_file(infohash).exists());
    }
    assert!(env.stores.contents.size(needed.content.unwrap().hash).await.unwrap().is_some());
    assert_eq!(env.stores.torrents.get(needed.infohash.unwrap()).await.unwrap().unwrap().state, TorrentState::Seeding);
    assert_eq!(env.collect_orphans().await, 0);
}

#[tokio::test]
async fn staged_uploads_are_kept_while_their_request_is_fetched() {
    // The folder uses the real time for file modification times.
    let env = TestEnv::at(std::time::SystemTime::now().into()).await;
    let stage = async |id| {
        let mut staged = env.stores.contents.stage(id).await.unwrap();
        staged.write(vec![1; 1 << 20].into()).await.unwrap();
        staged
    };
    let row = FetchRequest { due_at: Some(env.now()), ..request("alice", "http://example.org/1") };
    env.stores.requests.create(&row).await.unwrap();
    let (mine, aside) = (stage(row.id).await, stage(row.id).await);
    let suspended = aside.suspend().await.unwrap();
    // Staged uploads of a request that is past its fetch, and of a request that does not exist.
    for id in [env.fetched("http://example.org/2", 2).await, RequestId::new()] {
        std::mem::forget(stage(id).await);
        stage(id).await.suspend().await.unwrap();
    }
    assert_eq!(env.stores.contents.staging().await.unwrap().len(), 6);
    assert_eq!(env.collect_orphans.tidy().await.unwrap(), 4);
    assert_eq!(env.stores.contents.staging().await.unwrap().len(), 2);

    // At a start no process is receiving, so staged uploads that are not suspended are removed.
    std::mem::forget(mine);
    assert_eq!(env.collect_orphans.clear_staging().await.unwrap(), 1);
    drop(env.stores.contents.resume(row.id, &suspended).await.unwrap().expect("it was suspended"));
    stage(row.id).await.suspend().await.unwrap();
    env.clock.advance(Duration::from_secs(13 * 3600));
    assert_eq!(env.collect_orphans.tidy().await.unwrap(), 1, "suspended staged uploads are kept for a limited time");
}

/// As on AWS, where the collection runs every ten minutes.
#[tokio::test]
async fn every_part_is_collected_with_a_longer_interval() {
    let mut env = TestEnv::new().await;
    let even_and_odd = [ContentHash::new([6; 32]), ContentHash::new([7; 32])];
    for hash in even_and_odd {
        let mut staged = env.stores.contents.stage(RequestId::new()).await.unwrap();
        staged.write(vec![7; 5].into()).await.unwrap();
        staged.commit(hash, env.now()).await.unwrap();
    }
    env.clock.advance(Duration::from_secs(2 * 3600));
    env.collect_orphans.interval = 10;
    let mut found = 0;
    for _ in 0..2560 {
        env.clock.advance(Duration::from_secs(60));
        found += env.collect_orphans.run().await.unwrap();
    }
    assert_eq!(found, 2);
    for hash in even_and_odd {
        assert!(!env.content_file(hash).exists());
    }
}

#[tokio::test]
async fn files_without_a_record_are_deleted() {
    let mut env = TestEnv::new().await;
    let infohash = InfoHash::new([9; 20]);
    std::fs::write(env.torrent_file(infohash), "left").unwrap();
    File::open(env.torrent_file(infohash)).unwrap().set_modified(env.now().into()).unwrap();
    assert_eq!(env.collect_orphans().await, 1);
    assert_eq!(env.woken(), [Task::Unseed(infohash)]);
    env.seed.unseed(infohash).await.unwrap();
    assert!(!env.torrent_file(infohash).exists());
}

#[tokio::test]
async fn all_torrents_are_seeded_again_after_a_restart() {
    let env = TestEnv::new().await;
    for byte in 1..=3 {
        env.ready(&format!("http://example.org/{byte}"), byte).await;
    }
    env.session.stop().await;
    let seed = Seed::new(&env.stores, common::session(&env.stores).await, None);
    assert!(seed.progress.pending().is_some());
    assert_eq!(seed.restore().await.unwrap(), Restored { added: 3, ..Restored::default() });
    assert_eq!(seed.progress.pending(), None);
    assert_eq!(seed.restore().await.unwrap(), Restored::default());
}

#[tokio::test]
async fn a_session_is_made_equal_to_the_table_again() {
    let env = TestEnv::new().await;
    let lost = env.ready("http://example.org/1", 1).await;
    let retired = env.ready("http://example.org/2", 2).await;
    let (lost, retired) = (lost.infohash.unwrap(), retired.infohash.unwrap());
    // Another seeder has taken the task to remove a torrent, and this one has lost one.
    let version = env.stores.torrents.get(retired).await.unwrap().unwrap().version;
    assert!(env.stores.torrents.retire(retired, version, env.now()).await.unwrap());
    env.session.remove(lost).await.unwrap();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 1, ..Restored::default() });
    assert!(env.session.has(lost) && !env.session.has(retired));
}

#[tokio::test]
async fn a_torrent_that_cannot_be_read_does_not_stop_the_others() {
    let env = TestEnv::new().await;
    let rows = [env.ready("http://example.org/1", 1).await, env.ready("http://example.org/2", 2).await];
    let infohashes = rows.map(|row| row.infohash.unwrap());
    for infohash in infohashes {
        env.session.remove(infohash).await.unwrap();
    }
    // A folder in the place of the file is an I/O error.
    let file = env.torrent_file(infohashes[0]);
    let kept = file.with_extension("kept");
    std::fs::rename(&file, &kept).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 1, failed: 1, removed: 0 });
    assert!(!env.session.has(infohashes[0]) && env.session.has(infohashes[1]));
    assert_eq!(env.seed.progress.pending(), Some((1, 2)));
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&kept, &file).unwrap();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 1, ..Restored::default() });
    assert!(env.session.has(infohashes[0]));
}

#[tokio::test]
async fn a_damaged_content_is_quarantined_and_its_requests_fetch_it_again() {
    let mut env = TestEnv::new().await;
    let ids = [env.fetched_truly("http://h/1", 1).await, env.fetched_truly("http://h/2", 1).await];
    let [first, second] = [env.made_ready(ids[0]).await, env.made_ready(ids[1]).await];
    let (hash, infohash) = (first.content.as_ref().unwrap().hash, first.infohash.unwrap());
    assert_eq!(second.infohash, Some(infohash));
    env.scrub.verify(hash, None).await.unwrap();
    assert_eq!(
        (env.row(ids[0]).await.status, env.scrub.findings.damaged()),
        (Status::Ready, 0),
        "the content is intact"
    );
    env.woken();

    let path = env.content_file(hash);
    std::fs::write(&path, [1, 1, 9, 1, 1]).unwrap();
    env.scrub.verify(hash, None).await.unwrap();
    assert_eq!(env.scrub.findings.damaged(), 1);
    assert!(!path.exists());
    let damaged = env.folder.path().join(format!("content/damaged/{hash}"));
    assert_eq!(std::fs::read(&damaged).unwrap(), [1, 1, 9, 1, 1]);
    let woken = env.woken();
    for id in ids {
        let row = env.row(id).await;
        assert_eq!((row.status, row.spec.sha256), (Status::Queued, Some(hash)));
        assert!(woken.contains(&Task::Fetch(id)));
    }
    assert!(woken.contains(&Task::Unseed(infohash)));
    env.seed.unseed(infohash).await.unwrap();
    assert_eq!(env.session.seeding(), 0);

    env.fetched_truly("http://h/3", 1).await;
    assert!(path.exists() && !damaged.exists(), "an intact copy replaces the quarantined one");
}

#[tokio::test]
async fn a_missing_content_is_detected_when_it_is_read() {
    let env = TestEnv::new().await;
    let id = env.fetched_truly("http://h/", 1).await;
    let hash = env.made_ready(id).await.content.unwrap().hash;
    std::fs::remove_file(env.content_file(hash)).unwrap();
    assert_eq!(env.stores.contents.size(hash).await.unwrap(), None);
    tokio::select! {
        () = env.scrub.run() => unreachable!("it never returns"),
        row = async {
            loop {
                let row = env.row(id).await;
                if row.status != Status::Ready {
                    break row;
                }
                tokio::task::yield_now().await;
            }
        } => assert_eq!(row.status, Status::Queued),
    }
}

#[tokio::test]
async fn contents_are_not_fetched_again_when_most_are_missing() {
    let env = TestEnv::new().await;
    let mut ids = vec![];
    for byte in 1..=12 {
        let id = env.fetched_truly(&format!("http://h/{byte}"), byte).await;
        let hash = env.made_ready(id).await.content.unwrap().hash;
        std::fs::remove_file(env.content_file(hash)).unwrap();
        ids.push(id);
    }
    let run = tokio::time::timeout(Duration::from_secs(1), env.scrub.run()).await;
    assert!(run.is_err() && env.scrub.findings.is_mostly_missing());
    for id in ids {
        assert_eq!(env.row(id).await.status, Status::Ready);
    }
}
