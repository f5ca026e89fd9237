//! Contract tests of [`Torrents`](crate::Torrents).

use std::time::{Duration, SystemTime};

use domain::{ContentHash, InfoHash, InfoHashV2, Timestamp, Torrent, TorrentState};
use futures::future::join_all;

use super::NOW;
use crate::Torrents;

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! torrents_contract {
    ($make:path) => {
        $crate::contract_tests!(
            torrents,
            $make,
            a_torrent_reads_back_as_it_was_stored,
            a_hybrid_torrent_reads_back_as_it_was_stored,
            each_request_increments_the_version,
            a_torrent_with_a_new_request_is_not_retired,
            a_retired_torrent_is_live_again_when_it_is_stored_again,
            only_a_retired_torrent_is_purged,
            live_torrents_are_paged_in_order,
            unmodified_torrents_are_listed_by_hash_prefix,
        );
    };
}

pub(super) fn torrent(byte: u8) -> Torrent {
    Torrent {
        infohash: InfoHash::new([byte; 20]),
        infohash_v2: byte.is_multiple_of(2).then(|| InfoHashV2::new([byte; 32])),
        content_hash: ContentHash::new([byte / 2; 32]),
        name: domain::FileName::sanitize("ü.txt").unwrap(),
        size: 1 << 40,
        piece_length: 1 << 24,
        state: TorrentState::Adding,
        version: 1,
        created_at: NOW,
    }
}

/// All fields and the torrent file.
pub async fn a_torrent_reads_back_as_it_was_stored<T: Torrents>(store: &T) {
    assert_eq!(store.get(torrent(2).infohash).await.unwrap(), None);
    assert_eq!(store.metainfo(torrent(2).infohash).await.unwrap(), None);
    for byte in [2, 3] {
        let torrent = torrent(byte);
        assert_eq!(store.store(&torrent, b"metainfo").await.unwrap(), TorrentState::Adding);
        assert_eq!(store.get(torrent.infohash).await.unwrap(), Some(torrent.clone()));
        assert!(store.metainfo_file(torrent.infohash).await.unwrap().is_some());
        let metainfo = store.metainfo(torrent.infohash).await.unwrap();
        assert_eq!(metainfo, Some((b"metainfo".to_vec(), torrent.content_hash)));
    }
    assert_eq!(store.of_content(torrent(2).content_hash).await.unwrap().len(), 2);
    assert_eq!(store.of_content(ContentHash::new([99; 32])).await.unwrap(), []);
}

/// With both infohashes (BEP 52).
pub async fn a_hybrid_torrent_reads_back_as_it_was_stored<T: Torrents>(store: &T) {
    let hybrid = Torrent { infohash_v2: Some(InfoHashV2::new([200; 32])), ..torrent(2) };
    store.store(&hybrid, b"metainfo").await.unwrap();
    assert_eq!(store.get(hybrid.infohash).await.unwrap(), Some(hybrid));
}

/// Also when they are concurrent.
pub async fn each_request_increments_the_version<T: Torrents>(store: &T) {
    let torrent = torrent(1);
    store.store(&torrent, b"metainfo").await.unwrap();
    for _ in 0..2 {
        assert!(store.mark_seeding(torrent.infohash).await.unwrap());
    }
    let states = join_all((0..20).map(|_| store.store(&torrent, b"metainfo"))).await;
    assert!(states.into_iter().all(|state| state.unwrap() == TorrentState::Seeding));
    assert_eq!(store.get(torrent.infohash).await.unwrap().unwrap().version, 21);
}

/// Both the version and the creation time are checked: an index that the caller read may be out of date.
pub async fn a_torrent_with_a_new_request_is_not_retired<T: Torrents>(store: &T) {
    let early = torrent(1);
    store.store(&Torrent { created_at: NOW - Duration::from_secs(60), ..early.clone() }, b"metainfo").await.unwrap();
    let torrent = early;
    store.store(&torrent, b"metainfo").await.unwrap();
    assert!(!store.retire(torrent.infohash, 1, NOW).await.unwrap());
    assert!(!store.retire(torrent.infohash, 2, NOW - Duration::from_millis(1)).await.unwrap());
    assert!(store.retire(torrent.infohash, 2, NOW).await.unwrap());
    assert!(!store.retire(torrent.infohash, 2, NOW).await.unwrap(), "it is retired once");
    assert!(!store.mark_seeding(torrent.infohash).await.unwrap());
    assert!(!store.mark_seeding(InfoHash::new([9; 20])).await.unwrap(), "the torrent does not exist");
    assert_eq!(store.get(torrent.infohash).await.unwrap().unwrap().state, TorrentState::Retired);
}

/// It must be added to the seeder again.
pub async fn a_retired_torrent_is_live_again_when_it_is_stored_again<T: Torrents>(store: &T) {
    let torrent = torrent(1);
    store.store(&torrent, b"metainfo").await.unwrap();
    store.mark_seeding(torrent.infohash).await.unwrap();
    assert!(store.retire(torrent.infohash, 1, NOW).await.unwrap());
    assert_eq!(store.store(&torrent, b"metainfo").await.unwrap(), TorrentState::Adding);
    assert!(!store.retire(torrent.infohash, 1, NOW).await.unwrap(), "the version has changed");
    assert!(!store.purge(torrent.infohash).await.unwrap());
    assert!(store.metainfo(torrent.infohash).await.unwrap().is_some());
}

/// Purging also deletes the torrent file.
pub async fn only_a_retired_torrent_is_purged<T: Torrents>(store: &T) {
    let torrent = torrent(1);
    store.store(&torrent, b"metainfo").await.unwrap();
    assert!(!store.purge(torrent.infohash).await.unwrap());
    store.retire(torrent.infohash, 1, NOW).await.unwrap();
    assert!(store.purge(torrent.infohash).await.unwrap());
    assert_eq!(store.get(torrent.infohash).await.unwrap(), None);
    assert_eq!(store.metainfo(torrent.infohash).await.unwrap(), None);
    assert!(store.purge(torrent.infohash).await.unwrap(), "purging a missing torrent succeeds");
}

/// No torrent is missing and none is returned twice.
pub async fn live_torrents_are_paged_in_order<T: Torrents>(store: &T) {
    for byte in 1..=5 {
        store.store(&torrent(byte), b"metainfo").await.unwrap();
    }
    store.retire(torrent(3).infohash, 1, NOW).await.unwrap();
    let (mut seen, mut after) = (vec![], None);
    loop {
        let page = store.live(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.infohash);
        seen.extend(page.into_iter().map(|t| t.infohash));
    }
    assert_eq!(seen, [1, 2, 4, 5].map(|byte| torrent(byte).infohash));
}

/// By the first byte of the infohash, and by the time at which the file was stored.
pub async fn unmodified_torrents_are_listed_by_hash_prefix<T: Torrents>(store: &T) {
    for byte in [1, 2] {
        store.store(&torrent(byte), b"metainfo").await.unwrap();
    }
    let real: Timestamp = SystemTime::now().into();
    let (hour, one) = (Duration::from_secs(3600), torrent(1).infohash);
    assert_eq!(store.list_unmodified(1, real + hour).await.unwrap(), [one]);
    assert_eq!(store.list_unmodified(1, real - hour).await.unwrap(), []);
    assert_eq!(store.list_unmodified(3, real + hour).await.unwrap(), []);
    store.retire(one, 1, NOW).await.unwrap();
    assert_eq!(store.list_unmodified(1, real + hour).await.unwrap(), [one]);
    store.purge(one).await.unwrap();
    assert_eq!(store.list_unmodified(1, real + hour).await.unwrap(), []);
}
