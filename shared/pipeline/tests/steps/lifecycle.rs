//! A request from packaging to its end: package, seed, release, sweep and collection of orphans.

use std::fs::File;
use std::time::Duration;

use domain::{ContentHash, FetchRequest, InfoHash, RequestId, Status, Step, TorrentState};
use ports::contract::request;
use ports::{Seeder, Task};
use proxytorrent_pipeline::{GRACE, LEASE, Outcome, Restored, Seed, Swept};

use crate::common;
use crate::env::TestEnv;

#[tokio::test]
async fn an_expired_request_releases_its_torrent_and_content() {
    let mut env = TestEnv::new().await;
    let row = env.ready("http://example.org/", 1).await;
    let (infohash, hash) = (row.infohash.unwrap(), row.content.as_ref().unwrap().hash);
    assert_eq!(env.sessions.seeding(), 1);
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
    env.sessions.stop().await;
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
    env.sessions.remove(lost).await.unwrap();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 1, ..Restored::default() });
    assert!(env.sessions.has(lost) && !env.sessions.has(retired));
}
