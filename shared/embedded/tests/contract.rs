//! The contract tests of all ports on the embedded backend, and tests of this backend only.

use proxytorrent_embedded::{
    Database, DatabaseOptions, FolderContents, FolderLock, MemoryRateLimiter, MemorySeeders, MemorySwarm, OpenError,
    SpaceLimits, SqliteGuards, SqliteRequests, SqliteStatistics, SqliteTorrents,
};
use tempfile::TempDir;

async fn database() -> (Database, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Database::open(&folder.path().join("test.db"), DatabaseOptions::default()).await.unwrap(), folder)
}

async fn requests() -> (SqliteRequests, TempDir) {
    let (database, folder) = database().await;
    (SqliteRequests::open(database).await.unwrap(), folder)
}

async fn torrents() -> (SqliteTorrents, TempDir) {
    let (database, folder) = database().await;
    let torrents = SqliteTorrents::open(database, folder.path().join("torrents"));
    (torrents.unwrap(), folder)
}

async fn statistics() -> ((SqliteTorrents, SqliteStatistics), TempDir) {
    let (database, folder) = database().await;
    let torrents = SqliteTorrents::open(database.clone(), folder.path().join("torrents"));
    ((torrents.unwrap(), SqliteStatistics::new(database)), folder)
}

#[expect(clippy::unused_async, reason = "the contract macros await this function")]
async fn contents() -> (FolderContents, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (FolderContents::open(folder.path().join("content"), SpaceLimits::default()).unwrap(), folder)
}

async fn guards() -> (SqliteGuards, TempDir) {
    let (database, folder) = database().await;
    (SqliteGuards::new(database, MemoryRateLimiter::default()), folder)
}

#[expect(clippy::unused_async, reason = "the contract macros await this function")]
async fn seeders() -> (MemorySeeders, ()) {
    (MemorySeeders::default(), ())
}

#[expect(clippy::unused_async, reason = "the contract macros await this function")]
async fn swarm() -> (MemorySwarm, ()) {
    (MemorySwarm::default(), ())
}

ports::requests_contract!(requests);
ports::notifications_contract!(requests);
ports::transitions_contract!(requests);
ports::torrents_contract!(torrents);
ports::statistics_contract!(statistics);
ports::contents_contract!(contents);
ports::guards_contract!(guards);
ports::swarm_contract!(swarm);
ports::seeders_contract!(seeders);

mod a_shared_folder {
    use domain::{ContentHash, RequestId, Timestamp};
    use ports::contract::NOW;
    use ports::{Contents, Removal};
    use sha2::{Digest, Sha256};

    use super::*;

    #[expect(clippy::unused_async, reason = "the contract macros await this function")]
    async fn contents() -> (FolderContents, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (open(&folder), folder)
    }

    fn open(folder: &TempDir) -> FolderContents {
        FolderContents::open_shared(folder.path().join("content"), SpaceLimits::default()).unwrap()
    }

    async fn store(contents: &FolderContents, bytes: Vec<u8>, now: Timestamp) -> ContentHash {
        let hash = ContentHash::new(Sha256::digest(&bytes).into());
        let mut staged = contents.stage(RequestId::new()).await.unwrap();
        staged.write(bytes.into()).await.unwrap();
        staged.commit(hash, now).await.unwrap();
        hash
    }

    ports::contents_contract!(contents);

    #[tokio::test]
    async fn a_file_that_another_process_replaced_is_read_again() {
        let (one, folder) = contents().await;
        let other = open(&folder);
        let hash = store(&one, vec![7; 100], NOW).await;
        let name = hash.to_string();
        let file = folder.path().join("content").join(&name[..2]).join(&name[2..4]).join(&name);
        std::fs::write(&file, [0; 100]).unwrap();
        let mut read = [1; 100];
        other.read_at(hash, 0, &mut read).await.unwrap();
        assert_eq!(read, [0; 100], "the damaged file is open");

        one.quarantine(hash).await.unwrap();
        store(&one, vec![7; 100], NOW).await;
        // Longer than an open file is used.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        other.read_at(hash, 0, &mut read).await.unwrap();
        assert_eq!(read, [7; 100]);
    }

    /// A content that was touched after the time that a removal has seen is kept, whichever process touches it.
    #[tokio::test]
    async fn touches_and_removals_of_two_processes_do_not_mix() {
        let (one, folder) = contents().await;
        let other = open(&folder);
        for round in 0..200_i64 {
            let hash = store(&one, round.to_be_bytes().repeat(10), NOW).await;
            let later = NOW + std::time::Duration::from_secs(1);
            let (touched, removed) = tokio::join!(one.touch(hash, later), other.remove(hash, later));
            let is_there = one.size(hash).await.unwrap().is_some();
            assert_eq!((touched.unwrap(), removed.unwrap() == Removal::TouchedSince), (is_there, is_there));
        }
    }

    #[tokio::test]
    async fn one_of_several_processes_creates_the_owner() {
        let (one, folder) = contents().await;
        assert_eq!((one.owner().unwrap(), one.has_contents().unwrap()), (None, false));
        assert_eq!(one.set_owner("a").unwrap(), "a");
        assert_eq!(open(&folder).set_owner("b").unwrap(), "a");
        store(&one, vec![7; 100], NOW).await;
        assert_eq!((one.owner().unwrap().as_deref(), one.has_contents().unwrap()), (Some("a"), true));
    }
}

mod this_backend {
    use std::os::unix::fs::PermissionsExt;

    use domain::{FailureCode, FetchRequest, Receiver, Status, Step};
    use ports::contract::{LEASE, NOW, request};
    use ports::{Contents, NotificationQueue, Requests};
    use sha2::{Digest, Sha256};
    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    #[tokio::test]
    async fn leases_of_a_dead_process_are_released_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let row = request("alice", "https://example.org/");
        let database = Database::open(&path, DatabaseOptions::default()).await.unwrap();
        let requests = SqliteRequests::open(database.clone()).await.unwrap();
        requests.create(&row).await.unwrap();
        requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().unwrap();
        drop(requests);
        database.close().await;

        let database = Database::open(&path, DatabaseOptions::default()).await.unwrap();
        let requests = SqliteRequests::open(database).await.unwrap();
        assert!(requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn partly_written_files_of_a_dead_process_are_deleted() {
        let (database, folder) = database().await;
        let torrents = folder.path().join("torrents");
        let open = || SqliteTorrents::open(database.clone(), torrents.clone()).unwrap();
        open();
        std::fs::write(torrents.join("write.abc.tmp"), "half").unwrap();
        std::fs::write(torrents.join("whole.torrent"), "whole").unwrap();
        open();
        let names: Vec<_> = std::fs::read_dir(&torrents).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["whole.torrent"]);
    }

    #[tokio::test]
    async fn stored_data_is_readable_only_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let _lock = FolderLock::take(&data).unwrap();
        let path = data.join("test.db");
        let _database = Database::open(&path, DatabaseOptions::default()).await.unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&path)), (0o700, 0o600));
    }

    #[tokio::test]
    async fn an_unreadable_row_is_quarantined_and_hides_no_other_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let database = Database::open(&path, DatabaseOptions::default()).await.unwrap();
        let requests = SqliteRequests::open(database.clone()).await.unwrap();
        let columns = ["url", "method", "status", "headers", "keep_for", "created_at", "content_hash", "waiting"];
        let mut bad = vec![];
        for _ in columns {
            let row = request("alice", "https://example.org/");
            requests.create(&row).await.unwrap();
            bad.push(row.id);
        }
        let good = request("alice", "https://example.org/");
        requests.create(&good).await.unwrap();
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        for (column, id) in columns.iter().zip(&bad) {
            let sql = format!("UPDATE requests SET {column} = 'nonsense' WHERE id = '{id}'");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }

        let listed = requests.list(&good.owner, None, None, 100).await.unwrap();
        assert_eq!(listed.len(), columns.len() + 1);
        let due = requests.due(NOW + LEASE, 100).await.unwrap();
        assert!(due.contains(&ports::Task::Fetch(good.id)));
        for id in &bad {
            assert!(requests.claim(*id, Step::Fetch, NOW, LEASE).await.unwrap().is_none());
            let row = requests.get(*id).await.unwrap().unwrap();
            assert_eq!(row.status, Status::Failed, "{row:?}");
            assert_eq!(row.failure.unwrap().code, FailureCode::Internal);
        }
        let due = requests.due(NOW + LEASE * 2, 100).await.unwrap();
        assert_eq!(due, [ports::Task::Fetch(good.id)], "a quarantined row is not found again");
        assert!(requests.claim(good.id, Step::Fetch, NOW, LEASE).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn rows_are_not_delayed_when_the_clock_is_set_back() {
        let (requests, _folder) = requests().await;
        let hour = std::time::Duration::from_secs(3600);
        // Rows that were created and claimed while the clock was hours ahead.
        let queued = FetchRequest { due_at: Some(NOW + hour * 5), ..request("alice", "https://example.org/1") };
        let claimed = request("alice", "https://example.org/2");
        let soon = FetchRequest { due_at: Some(NOW + hour / 4), ..request("alice", "https://example.org/3") };
        for row in [&queued, &claimed, &soon] {
            requests.create(row).await.unwrap();
        }
        requests.claim(claimed.id, Step::Fetch, NOW + hour * 5, LEASE).await.unwrap().unwrap();
        assert_eq!(requests.clamp_due_times(NOW, NOW + hour, NOW + hour * 15, LEASE).await.unwrap(), 2);
        assert!(requests.claim(queued.id, Step::Fetch, NOW, LEASE).await.unwrap().is_some());
        assert!(
            requests.claim(claimed.id, Step::Fetch, NOW, LEASE).await.unwrap().is_none(),
            "its lease has not expired"
        );
        assert!(requests.claim(claimed.id, Step::Fetch, NOW + LEASE, LEASE).await.unwrap().is_some());
        assert!(requests.claim(soon.id, Step::Fetch, NOW, LEASE).await.unwrap().is_none());
        assert_eq!(requests.clamp_due_times(NOW, NOW + hour, NOW + hour * 15, LEASE).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn notifications_are_not_delayed_when_the_clock_is_set_back() {
        let (requests, _folder) = requests().await;
        let hour = std::time::Duration::from_secs(3600);
        let mut row = request("alice", "https://example.org/");
        row.receivers = [Receiver::Webhook].into_iter().collect();
        requests.create(&row).await.unwrap();
        let claim = requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().unwrap();
        let failure = domain::Failure::new(FailureCode::TooLarge, "x");
        let failed = domain::Transition::fail(&claim.request, failure, None, NOW + hour * 20);
        requests.save(&claim, &failed, NOW + hour * 20).await.unwrap();
        assert_eq!(requests.due_notifications(NOW, 10).await.unwrap(), []);
        requests.clamp_due_times(NOW, NOW + hour, NOW + hour * 15, LEASE).await.unwrap();
        assert_eq!(requests.due_notifications(NOW, 10).await.unwrap(), [row.id]);
    }

    #[tokio::test]
    async fn a_replaced_damaged_content_counts_with_its_new_size() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("content");
        let limits = SpaceLimits { min_free: Some(0), max_bytes: Some(10_000) };
        let hash = domain::ContentHash::new(Sha256::digest([7; 6_000]).into());
        let store = async |contents: &FolderContents| {
            let mut staged = contents.stage(domain::RequestId::new()).await.unwrap();
            staged.write(vec![7; 6_000].into()).await.unwrap();
            staged.commit(hash, NOW).await.unwrap()
        };
        assert!(store(&FolderContents::open(root.clone(), limits).unwrap()).await);
        let name = hash.to_string();
        let file = root.join(&name[..2]).join(&name[2..4]).join(&name);
        std::fs::File::options().write(true).open(&file).unwrap().set_len(100).unwrap();

        let contents = FolderContents::open(root, limits).unwrap();
        assert!(!store(&contents).await, "the content is not new");
        assert_eq!(std::fs::read(&file).unwrap(), [7; 6_000]);
        contents.check_room(4_000).unwrap();
        assert!(contents.check_room(4_001).unwrap_err().is_full());
    }

    #[tokio::test]
    async fn an_unreadable_row_has_no_notification() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let database = Database::open(&path, DatabaseOptions::default()).await.unwrap();
        let requests = SqliteRequests::open(database).await.unwrap();
        let mut row = request("alice", "https://example.org/");
        row.receivers = [Receiver::Webhook].into_iter().collect();
        requests.create(&row).await.unwrap();
        let claim = requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().unwrap();
        let failure = domain::Failure::new(FailureCode::TooLarge, "x");
        let failed = domain::Transition::fail(&claim.request, failure, None, NOW);
        requests.save(&claim, &failed, NOW).await.unwrap();
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        sqlx::query("UPDATE requests SET headers = 'nonsense'").execute(&mut connection).await.unwrap();
        assert_eq!(requests.due_notifications(NOW, 10).await.unwrap(), [row.id]);
        assert_eq!(requests.claim_notification(row.id, NOW, LEASE).await.unwrap(), None);
        assert_eq!(requests.due_notifications(NOW + LEASE * 2, 10).await.unwrap(), []);
    }

    #[test]
    fn a_folder_is_used_by_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        assert!(matches!(FolderLock::take(folder.path()), Err(OpenError::InUse(_))));
        drop(lock);
        FolderLock::take(folder.path()).unwrap();
    }
}
