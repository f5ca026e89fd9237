//! Contract tests of [`Statistics`](crate::Statistics), beside the torrents that they belong to.

use super::NOW;
use super::torrents::torrent;
use crate::{Statistics, Torrents, Transferred};

/// Runs the suite against the backend that the function `$make` returns: the torrents and their statistics.
#[macro_export]
macro_rules! statistics_contract {
    ($make:path) => {
        $crate::contract_tests!(
            statistics,
            $make,
            statistics_add_up,
            a_second_request_keeps_the_statistics,
            statistics_end_with_their_torrent,
        );
    };
}

fn transferred(uploaded_bytes: u64, completed: u64) -> Transferred {
    Transferred { uploaded_bytes, completed }
}

/// An unknown torrent has none.
pub async fn statistics_add_up<T: Torrents, S: Statistics>((torrents, statistics): &(T, S)) {
    let (one, two) = (torrent(1), torrent(2));
    assert_eq!(statistics.transferred(one.infohash).await.unwrap(), transferred(0, 0));
    for torrent in [&one, &two] {
        torrents.store(torrent, b"metainfo").await.unwrap();
    }
    assert_eq!(statistics.transferred(one.infohash).await.unwrap(), transferred(0, 0));
    statistics.add(one.infohash, transferred(5_000_000_000, 0)).await.unwrap();
    statistics.add(one.infohash, transferred(7, 2)).await.unwrap();
    assert_eq!(statistics.transferred(one.infohash).await.unwrap(), transferred(5_000_000_007, 2));
    assert_eq!(statistics.transferred(two.infohash).await.unwrap(), transferred(0, 0));
}

/// So does a state change.
pub async fn a_second_request_keeps_the_statistics<T: Torrents, S: Statistics>((torrents, statistics): &(T, S)) {
    let torrent = torrent(1);
    torrents.store(&torrent, b"metainfo").await.unwrap();
    statistics.add(torrent.infohash, transferred(1, 1)).await.unwrap();
    torrents.mark_seeding(torrent.infohash).await.unwrap();
    torrents.store(&torrent, b"metainfo").await.unwrap();
    assert_eq!(statistics.transferred(torrent.infohash).await.unwrap(), transferred(1, 1));
}

/// Late ones do not bring it back.
pub async fn statistics_end_with_their_torrent<T: Torrents, S: Statistics>((torrents, statistics): &(T, S)) {
    let torrent = torrent(1);
    torrents.store(&torrent, b"metainfo").await.unwrap();
    statistics.add(torrent.infohash, transferred(1, 1)).await.unwrap();
    torrents.retire(torrent.infohash, 1, NOW).await.unwrap();
    torrents.purge(torrent.infohash).await.unwrap();
    statistics.add(torrent.infohash, transferred(1, 1)).await.unwrap();
    assert_eq!(statistics.transferred(torrent.infohash).await.unwrap(), transferred(0, 0));
    assert!(torrents.get(torrent.infohash).await.unwrap().is_none());
}
