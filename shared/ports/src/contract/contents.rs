//! Contract tests of [`Contents`](crate::Contents).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::{ContentHash, RequestId, Timestamp};
use futures::future::join_all;
use sha2::{Digest, Sha256};

use super::NOW;
use crate::{Contents, Removal, StoreError, UploadToken};

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! contents_contract {
    ($make:path) => {
        $crate::contract_tests!(
            contents,
            $make,
            contents_of_every_size_read_back,
            equal_contents_are_stored_once,
            contents_with_a_common_hash_prefix_are_separate,
            reading_past_the_end_or_a_missing_content_fails,
            a_dropped_staged_upload_leaves_nothing,
            a_restarted_staged_upload_is_empty,
            a_suspended_staged_upload_can_be_resumed,
            a_resumed_staged_upload_that_is_dropped_or_discarded_leaves_nothing,
            an_unknown_token_cannot_be_resumed,
            staged_uploads_of_a_killed_process_are_listed_and_can_be_discarded,
            a_recently_touched_content_is_not_removed,
            a_removed_content_is_gone,
            a_quarantined_content_is_gone,
            unmodified_contents_are_listed_by_hash_prefix,
        );
    };
}

fn bytes(size: usize, seed: u8) -> Bytes {
    (0..size).map(|i| (i * 31 + i / 253).to_le_bytes()[0] ^ seed).collect::<Vec<_>>().into()
}

fn hash(bytes: &[u8]) -> ContentHash {
    ContentHash::new(Sha256::digest(bytes).into())
}

async fn put<C: Contents>(store: &C, bytes: &Bytes, hash: ContentHash) -> bool {
    let mut staged = store.stage(RequestId::new()).await.unwrap();
    for start in (0..bytes.len()).step_by(300_000) {
        staged.write(bytes.slice(start..bytes.len().min(start + 300_000))).await.unwrap();
    }
    staged.commit(hash, NOW).await.unwrap()
}

async fn read<C: Contents>(store: &C, hash: ContentHash, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
    let mut buffer = vec![0; length];
    store.read_at(hash, offset, &mut buffer).await.map(|()| buffer)
}

/// From one byte to more than a backend buffers in memory, read whole and in part.
pub async fn contents_of_every_size_read_back<C: Contents>(store: &C) {
    for size in [1, 16_384, 1 << 20, (17 << 20) + 1] {
        let bytes = bytes(size, 1);
        let hash = hash(&bytes);
        assert_eq!(store.size(hash).await.unwrap(), None);
        assert!(put(store, &bytes, hash).await);
        assert_eq!(store.size(hash).await.unwrap(), Some(size as u64));
        assert_eq!(read(store, hash, 0, size).await.unwrap(), bytes);
        let middle = size / 2;
        let length = (size - middle).min(5_000);
        assert_eq!(read(store, hash, middle as u64, length).await.unwrap(), bytes[middle..middle + length]);
    }
}

/// Bytes written before a restart are not part of the content, whether they were buffered in memory or stored.
pub async fn a_restarted_staged_upload_is_empty<C: Contents>(store: &C) {
    for before in [1_000, 17 << 20] {
        let (old, new) = (bytes(before, 8), bytes(before / 2, 9));
        let mut staged = store.stage(RequestId::new()).await.unwrap();
        staged.write(old).await.unwrap();
        staged.restart().await.unwrap();
        staged.write(new.clone()).await.unwrap();
        assert!(staged.commit(hash(&new), NOW).await.unwrap());
        assert_eq!(store.size(hash(&new)).await.unwrap(), Some(new.len() as u64));
        assert_eq!(read(store, hash(&new), 0, new.len()).await.unwrap(), new);
    }
}

/// Any number of times, with bytes buffered in memory or stored, and from the same point again after a crash.
pub async fn a_suspended_staged_upload_can_be_resumed<C: Contents>(store: &C) {
    for (seed, first, second, third) in [(10, 1_000, 0, 5), (11, 17 << 20, 2 << 20, 20 << 20), (12, 16 << 20, 1, 0)] {
        let (id, bytes) = (RequestId::new(), bytes(first + second + third, seed));
        let mut staged = store.stage(id).await.unwrap();
        staged.write(bytes.slice(..first)).await.unwrap();
        let suspended = staged.suspend().await.unwrap();

        let mut killed = store.resume(id, &suspended).await.unwrap().expect("the staged upload");
        killed.write(bytes.slice(first..)).await.unwrap();
        // A killed process runs no destructors.
        std::mem::forget(killed);

        let mut staged = store.resume(id, &suspended).await.unwrap().expect("the staged upload after a crash");
        staged.write(bytes.slice(first..first + second)).await.unwrap();
        let suspended = staged.suspend().await.unwrap();

        let mut staged =
            store.resume(id, &suspended).await.unwrap().expect("the staged upload after a second suspension");
        staged.write(bytes.slice(first + second..)).await.unwrap();
        assert!(staged.commit(hash(&bytes), NOW).await.unwrap());
        assert_eq!(store.size(hash(&bytes)).await.unwrap(), Some(bytes.len() as u64));
        assert_eq!(read(store, hash(&bytes), 0, bytes.len()).await.unwrap(), bytes);
    }
}

/// Neither a content nor a staged upload.
pub async fn a_resumed_staged_upload_that_is_dropped_or_discarded_leaves_nothing<C: Contents>(store: &C) {
    for size in [10, 17 << 20] {
        for dropped in [true, false] {
            let id = RequestId::new();
            let mut staged = store.stage(id).await.unwrap();
            staged.write(bytes(size, 4)).await.unwrap();
            let suspended = staged.suspend().await.unwrap();
            if dropped {
                drop(store.resume(id, &suspended).await.unwrap().expect("the staged upload"));
            } else {
                store.discard(&suspended).await.unwrap();
                store.discard(&suspended).await.unwrap();
            }
            assert_nothing_staged(store).await;
            assert!(store.resume(id, &suspended).await.unwrap().is_none());
        }
    }
}

/// Asserts that no staged upload is left. Retries, because a drop may remove it in a background task.
async fn assert_nothing_staged<C: Contents>(store: &C) {
    let mut staged = vec![];
    for _ in 0..500 {
        staged = store.staging().await.unwrap();
        if staged.is_empty() {
            return;
        }
        // The polling interval.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{staged:?}");
}

/// With the request that each belongs to, whether suspended or not.
pub async fn staged_uploads_of_a_killed_process_are_listed_and_can_be_discarded<C: Contents>(store: &C) {
    let (aside, killed) = (RequestId::new(), RequestId::new());
    let mut staged = store.stage(aside).await.unwrap();
    staged.write(bytes(17 << 20, 13)).await.unwrap();
    staged.suspend().await.unwrap();
    let mut staged = store.stage(killed).await.unwrap();
    staged.write(bytes(17 << 20, 14)).await.unwrap();
    // A killed process runs no destructors.
    std::mem::forget(staged);

    let found = store.staging().await.unwrap();
    for id in [aside, killed] {
        assert!(found.iter().any(|staging| staging.request == Some(id)), "{found:?}");
    }
    let (now, hour) = (Timestamp::from(SystemTime::now()), Duration::from_secs(3600));
    for staging in found {
        assert!(staging.since > now - hour && staging.since < now + hour, "{staging:?}");
        assert!(staging.may_be_suspended || staging.request == Some(killed), "{staging:?}");
        store.discard(&staging.token).await.unwrap();
    }
    assert_nothing_staged(store).await;
}

/// Also not a forged token.
pub async fn an_unknown_token_cannot_be_resumed<C: Contents>(store: &C) {
    for text in ["", "{}", "../content", "null", "{\"file\": \"../x\", \"length\": 1}"] {
        let token = UploadToken::new(text);
        assert!(store.resume(RequestId::new(), &token).await.unwrap().is_none(), "{text}");
        store.discard(&token).await.unwrap();
    }
}

/// Also when they are committed concurrently.
pub async fn equal_contents_are_stored_once<C: Contents>(store: &C) {
    let bytes = bytes(2_000_000, 2);
    let new = join_all((0..8).map(|_| put(store, &bytes, hash(&bytes)))).await;
    assert_eq!(new.into_iter().filter(|new| *new).count(), 1);
    assert_eq!(read(store, hash(&bytes), 0, bytes.len()).await.unwrap(), bytes);
}

/// The key is the whole hash, not a prefix of it.
pub async fn contents_with_a_common_hash_prefix_are_separate<C: Contents>(store: &C) {
    let mut names = [[7; 32]; 3];
    names[1][31] = 8;
    names[2][3] = 8;
    for (i, name) in (0..).zip(names) {
        assert!(put(store, &bytes(100, i), ContentHash::new(name)).await);
    }
    for (i, name) in (0..).zip(names) {
        assert_eq!(read(store, ContentHash::new(name), 0, 100).await.unwrap(), bytes(100, i));
    }
}

/// It never returns fewer bytes or wrong bytes.
pub async fn reading_past_the_end_or_a_missing_content_fails<C: Contents>(store: &C) {
    let bytes = bytes(100, 3);
    put(store, &bytes, hash(&bytes)).await;
    assert!(read(store, hash(&bytes), 50, 51).await.is_err());
    assert!(read(store, hash(&bytes), 1000, 1).await.is_err());
    assert!(matches!(read(store, ContentHash::new([1; 32]), 0, 1).await, Err(StoreError::NotFound { .. })));
}

/// Neither a content nor a staged upload.
pub async fn a_dropped_staged_upload_leaves_nothing<C: Contents>(store: &C) {
    for size in [10, 5 << 20] {
        let bytes = bytes(size, 4);
        let mut staged = store.stage(RequestId::new()).await.unwrap();
        staged.write(bytes.clone()).await.unwrap();
        drop(staged);
        assert_eq!(store.size(hash(&bytes)).await.unwrap(), None);
    }
    assert_nothing_staged(store).await;
}

/// Touched by a commit, by another commit of the same content, or by `touch`.
pub async fn a_recently_touched_content_is_not_removed<C: Contents>(store: &C) {
    let bytes = bytes(100, 5);
    let hash = hash(&bytes);
    let second = Duration::from_secs(1);
    put(store, &bytes, hash).await;
    assert_eq!(store.remove(hash, NOW).await.unwrap(), Removal::TouchedSince);
    assert!(store.touch(hash, NOW + second).await.unwrap());
    assert_eq!(store.remove(hash, NOW + second).await.unwrap(), Removal::TouchedSince);

    let mut staged = store.stage(RequestId::new()).await.unwrap();
    staged.write(bytes.clone()).await.unwrap();
    assert!(!staged.commit(hash, NOW + second * 2).await.unwrap());
    assert_eq!(store.remove(hash, NOW + second * 2).await.unwrap(), Removal::TouchedSince);
    assert_eq!(store.remove(hash, NOW + second * 3).await.unwrap(), Removal::Gone);
}

/// Also for callers that have read it before, so caches must not serve it.
pub async fn a_removed_content_is_gone<C: Contents>(store: &C) {
    let bytes = bytes(100, 6);
    let hash = hash(&bytes);
    put(store, &bytes, hash).await;
    read(store, hash, 0, 100).await.unwrap();
    let later = NOW + Duration::from_secs(1);
    assert_eq!(store.remove(hash, later).await.unwrap(), Removal::Gone);
    assert_eq!(store.remove(hash, later).await.unwrap(), Removal::Gone, "removing it again succeeds");
    assert!(!store.touch(hash, later).await.unwrap());
    assert_eq!(store.size(hash).await.unwrap(), None);
    assert!(matches!(read(store, hash, 0, 1).await, Err(StoreError::NotFound { .. })));
    assert!(put(store, &bytes, hash).await, "it can be stored again");
    assert_eq!(read(store, hash, 0, 100).await.unwrap(), bytes);
}

/// Regardless of when it was touched. It can be stored again.
pub async fn a_quarantined_content_is_gone<C: Contents>(store: &C) {
    let bytes = bytes(100, 7);
    let hash = hash(&bytes);
    store.quarantine(hash).await.unwrap();
    put(store, &bytes, hash).await;
    read(store, hash, 0, 100).await.unwrap();
    store.quarantine(hash).await.unwrap();
    assert_eq!(store.size(hash).await.unwrap(), None);
    assert!(!store.touch(hash, NOW).await.unwrap());
    assert!(matches!(read(store, hash, 0, 1).await, Err(StoreError::NotFound { .. })));
    assert!(put(store, &bytes, hash).await);
    assert_eq!(read(store, hash, 0, 100).await.unwrap(), bytes);
}

/// By the first byte of the hash, and by the time at which they were stored.
pub async fn unmodified_contents_are_listed_by_hash_prefix<C: Contents>(store: &C) {
    let bytes = bytes(1_000, 12);
    let hash = hash(&bytes);
    let part = hash.as_bytes()[0];
    // Backends that record the modification time themselves use the real time.
    let (real, hour) = (Timestamp::from(SystemTime::now()), Duration::from_secs(3600));
    let (early, late) = (real.min(NOW) - hour, real.max(NOW) + hour);
    assert_eq!(store.list_unmodified(part, late).await.unwrap(), []);
    put(store, &bytes, hash).await;
    assert_eq!(store.list_unmodified(part, late).await.unwrap(), [hash]);
    assert_eq!(store.list_unmodified(part, early).await.unwrap(), []);
    assert_eq!(store.list_unmodified(part.wrapping_add(1), late).await.unwrap(), []);
    store.remove(hash, late).await.unwrap();
    assert_eq!(store.list_unmodified(part, late).await.unwrap(), []);
}
