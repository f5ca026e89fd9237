//! The notify step on the embedded backend, with a manual clock.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{ContentHash, FetchRequest, InfoHash, Receiver, RequestId, Step, Transition};
use fetcher::Fetcher;
use ports::contract::{LEASE, NOW, content, request};
use ports::{Condition, ManualClock, StoreError, Stores};
use proxytorrent_pipeline::{Notify, Outcome, TorrentFiles};
use settings::Settings;
use tempfile::TempDir;

use crate::common;

const INFOHASH: InfoHash = InfoHash::new([2; 20]);

/// Makes the same file for every request.
struct OneFile;

#[async_trait]
impl TorrentFiles for OneFile {
    async fn torrent_file(&self, _: &FetchRequest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(Some(b"a torrent file".to_vec()))
    }
}

struct TestEnv {
    stores: Stores,
    clock: Arc<ManualClock>,
    folder: TempDir,
}

impl TestEnv {
    async fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(NOW)));
        let (stores, _tasks) = common::stores(folder.path(), clock.clone()).await;
        Self { stores, clock, folder }
    }

    /// Returns the step with this watched folder, if there is one.
    fn notify(&self, folder: Option<&str>) -> Notify {
        let folder = folder.map(|name| self.folder.path().join(name).to_str().unwrap().to_owned());
        let settings = [("PROFILE", "development".to_owned())].into_iter();
        let settings = settings.chain(folder.map(|path| ("DOWNLOAD_CLIENT__FOLDER", path)));
        let settings = Settings::from_pairs(settings).unwrap();
        let fetcher = Fetcher::new(&settings.fetcher, &settings.proxy, None).unwrap();
        Notify::new(&self.stores, &fetcher, &settings, None, Some(Arc::new(OneFile))).unwrap()
    }

    /// Creates a ready request whose receiver is a watched folder.
    async fn ready(&self) -> RequestId {
        let mut row = request("alice", "http://h/");
        row.receivers = [Receiver::Folder].into_iter().collect();
        let requests = &self.stores.requests;
        requests.create(&row).await.unwrap();
        let claim = requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().unwrap();
        requests.save(&claim, &Transition::fetched(content(ContentHash::new([1; 32]), NOW), NOW), NOW).await.unwrap();
        let claim = requests.claim(row.id, Step::Package, NOW, LEASE).await.unwrap().unwrap();
        requests.save(&claim, &Transition::packaged(INFOHASH, None, NOW + LEASE), NOW).await.unwrap();
        let seeded = requests.apply(row.id, Condition::HasTorrent(INFOHASH), &Transition::seeded(), NOW).await;
        seeded.unwrap().done().expect("the row").id
    }

    async fn due(&self, after: Duration) -> Vec<RequestId> {
        self.stores.requests.due_notifications(NOW + after, 10).await.unwrap()
    }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[tokio::test]
async fn a_notification_for_a_receiver_that_is_no_longer_configured_ends() {
    let env = TestEnv::new().await;
    let id = env.ready().await;
    assert_eq!(env.due(Duration::ZERO).await, [id]);
    assert_eq!(env.notify(None).run(id).await.unwrap(), Outcome::Done);
    assert_eq!(env.due(YEAR).await, []);
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_until_it_is_given_up() {
    let env = TestEnv::new().await;
    let (id, notify) = (env.ready().await, env.notify(Some("watched")));
    // As if the disk of the folder were gone.
    fs::remove_dir(env.folder.path().join("watched")).unwrap();
    for _ in 0..7 {
        assert_eq!(notify.run(id).await.unwrap(), Outcome::Retried);
        assert_eq!(notify.run(id).await.unwrap(), Outcome::Nothing, "the next try is not due yet");
        env.clock.advance(Duration::from_secs(15 * 3600));
    }
    assert_eq!(notify.run(id).await.unwrap(), Outcome::Done);
    assert_eq!(env.due(YEAR).await, []);
}

#[tokio::test]
async fn a_request_that_is_cancelled_is_not_handed_over() {
    let env = TestEnv::new().await;
    let (id, notify) = (env.ready().await, env.notify(Some("watched")));
    let cancelled = env.stores.requests.apply(id, Condition::Always, &Transition::cancel(NOW), NOW).await;
    cancelled.unwrap().done().expect("the row");
    assert_eq!(notify.run(id).await.unwrap(), Outcome::Done);
    assert_eq!(fs::read_dir(env.folder.path().join("watched")).unwrap().count(), 0);

    let id = env.ready().await;
    notify.run(id).await.unwrap();
    let file = fs::read(env.folder.path().join(format!("watched/{INFOHASH}.torrent")));
    assert_eq!(file.unwrap(), b"a torrent file");
}
