//! The ports that a function does not take.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, FetchRequest, Fingerprint, InfoHash, RequestId, Status, Step, Timestamp, Torrent, TorrentState, UserId,
};
use ports::{
    Announce, Claim, Holder, Limit, Load, Peer, Removal, Settlement, Staged, Staging, StoreError, SwarmCounts, Taken,
    Twins, Wakeup,
};

/// Stands where a function takes no port, so that its binary has no code for that store. Whoever calls it all the same
/// is told.
#[derive(Debug)]
pub(crate) struct Absent;

macro_rules! absent {
    ($port:ident: $($method:ident($($argument:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl ports::$port for Absent {
            $(async fn $method(&self, $(_: $argument),*) -> Result<$answer, StoreError> {
                Err(StoreError::unavailable("this function", concat!("it does not take the port ", stringify!($port))))
            })*
        }
    };
}

absent! { Requests:
    create(&FetchRequest) -> ();
    get(RequestId) -> Option<FetchRequest>;
    list(&UserId, Option<Status>, Option<RequestId>, u32) -> Vec<FetchRequest>;
    load(&UserId) -> Load;
    changed(&FetchRequest, Duration) -> Option<FetchRequest>;
    claim(RequestId, Step, Timestamp, Duration) -> Option<Claim>;
    heartbeat(&Claim, u8, Timestamp, Duration) -> ();
    save(&Claim, &FetchRequest) -> Vec<RequestId>;
    cancel(RequestId, &UserId, Timestamp) -> Option<FetchRequest>;
    keep(RequestId, &UserId, Duration, Timestamp) -> Option<FetchRequest>;
    due(Timestamp, u32) -> Vec<Wakeup>;
    hasten(Timestamp, Timestamp, Timestamp, Duration) -> u64;
    outlived(Timestamp, u32) -> Vec<RequestId>;
    forget(Timestamp, u32) -> u64;
    twins(&Fingerprint) -> Twins;
    wait_behind(RequestId, RequestId) -> bool;
    wake(&[RequestId], Timestamp) -> Vec<RequestId>;
    settle(RequestId, InfoHash, Settlement, Timestamp) -> Option<FetchRequest>;
    holders(ContentHash) -> Vec<Holder>;
    ready_with(ContentHash, u32) -> Vec<RequestId>;
    replace(&FetchRequest, &FetchRequest) -> bool;
    notifications(Timestamp, u32) -> Vec<RequestId>;
    claim_notification(RequestId, Timestamp, Duration) -> Option<(FetchRequest, u32)>;
    notified(RequestId, Option<Timestamp>) -> ();
    check() -> ();
}

absent! { Torrents:
    store(&Torrent, &[u8]) -> TorrentState;
    get(InfoHash) -> Option<Torrent>;
    metainfo(InfoHash) -> Option<(Vec<u8>, ContentHash)>;
    of_content(ContentHash) -> Vec<Torrent>;
    live(Option<InfoHash>, u32) -> Vec<Torrent>;
    idle(u8, Timestamp) -> Vec<InfoHash>;
    mark_seeding(InfoHash) -> bool;
    retire(InfoHash, u64, Timestamp) -> bool;
    purge(InfoHash) -> bool;
    save_resume(InfoHash, &[u8]) -> ();
    resume(InfoHash) -> Option<Vec<u8>>;
}

absent! { Contents:
    stage(RequestId) -> Box<dyn Staged>;
    resume(RequestId, &str) -> Option<Box<dyn Staged>>;
    discard(&str) -> ();
    staging() -> Vec<Staging>;
    read_at(ContentHash, u64, &mut [u8]) -> ();
    size(ContentHash) -> Option<u64>;
    touch(ContentHash, Timestamp) -> bool;
    remove(ContentHash, Timestamp) -> Removal;
    quarantine(ContentHash) -> ();
    idle(u8, Timestamp) -> Vec<ContentHash>;
    link(ContentHash, &str, &str) -> Option<String>;
    check() -> ();
}

absent! { Guards:
    take(&[Limit], Timestamp) -> Taken;
    reserve(&str, &str, Timestamp, Timestamp) -> Option<String>;
    replace(&str, &str, &str, Timestamp) -> bool;
    value(&str, Timestamp) -> Option<String>;
    release(&str) -> ();
}

absent! { Swarm:
    announce(InfoHash, Announce, usize, Timestamp, Duration) -> (Vec<Peer>, SwarmCounts);
    counts(InfoHash, Timestamp) -> SwarmCounts;
}

absent! { Wakeups:
    wake(Wakeup, Duration) -> ();
    check() -> ();
}
