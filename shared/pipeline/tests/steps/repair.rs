//! Contents and torrent files that are damaged or gone: the scrub, and what the seeder finds.

use std::time::Duration;

use domain::{ContentHash, Status};
use ports::contract::NOW;
use ports::{Seeder, Task};
use proxytorrent_pipeline::{LEASE, Outcome, Restored};

use crate::env::TestEnv;

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
    env.sessions.remove(infohash).await.unwrap();
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
    assert!(env.sessions.has(infohash));
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
        env.sessions.remove(row.infohash.unwrap()).await.unwrap();
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
async fn a_torrent_that_cannot_be_read_does_not_stop_the_others() {
    let env = TestEnv::new().await;
    let rows = [env.ready("http://example.org/1", 1).await, env.ready("http://example.org/2", 2).await];
    let infohashes = rows.map(|row| row.infohash.unwrap());
    for infohash in infohashes {
        env.sessions.remove(infohash).await.unwrap();
    }
    // A folder in the place of the file is an I/O error.
    let file = env.torrent_file(infohashes[0]);
    let kept = file.with_extension("kept");
    std::fs::rename(&file, &kept).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 1, failed: 1, removed: 0 });
    assert!(!env.sessions.has(infohashes[0]) && env.sessions.has(infohashes[1]));
    assert_eq!(env.seed.progress.pending(), Some((1, 2)));
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&kept, &file).unwrap();
    assert_eq!(env.seed.restore().await.unwrap(), Restored { added: 1, ..Restored::default() });
    assert!(env.sessions.has(infohashes[0]));
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
    assert_eq!(env.sessions.seeding(), 0);

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
