//! The ports that a function does not use.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, FetchRequest, Fingerprint, InfoHash, Receivers, RequestId, Status, Timestamp, Torrent, TorrentState,
    Transition, UserId,
};
use ports::{
    Announce, Applied, Condition, ContentReference, Decision, DueNotification, IdenticalRequests, Limit, LiveTorrent,
    Peer, QuotaUsage, Removal, RunningSeeder, StagedUpload, StagingEntry, StoreError, SwarmCounts, Task, Transferred,
    UploadToken,
};

/// Takes the place of a port that a function does not use, so that its binary has no code for that store. Every call
/// fails.
#[derive(Debug)]
pub(crate) struct DeniedPort;

macro_rules! denied {
    ($port:ident: $($method:ident($($argument:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl ports::$port for DeniedPort {
            $(async fn $method(&self, $(_: $argument),*) -> Result<$answer, StoreError> {
                Err(StoreError::unavailable("this function", concat!("it does not take the port ", stringify!($port))))
            })*
        }
    };
}

denied! { Requests:
    create(&FetchRequest) -> ();
    apply(RequestId, Condition<'_>, &Transition, Timestamp) -> Applied;
    get(RequestId) -> Option<FetchRequest>;
    list(&UserId, Option<Status>, Option<RequestId>, u32) -> Vec<FetchRequest>;
    quota_usage(&UserId) -> QuotaUsage;
    wait_for_change(&FetchRequest, Duration) -> Option<FetchRequest>;
    due(Timestamp, u32) -> Vec<Task>;
    clamp_due_times(Timestamp, Timestamp, Timestamp, Duration) -> u64;
    list_expired(Timestamp, u32) -> Vec<RequestId>;
    purge_history(Timestamp, u32) -> u64;
    references(ContentHash) -> Vec<ContentReference>;
    ready_requests_of(ContentHash, u32) -> Vec<RequestId>;
}

denied! { Torrents:
    store(&Torrent, &[u8]) -> TorrentState;
    get(InfoHash) -> Option<Torrent>;
    metainfo(InfoHash) -> Option<(Vec<u8>, ContentHash)>;
    metainfo_file(InfoHash) -> Option<Vec<u8>>;
    of_content(ContentHash) -> Vec<Torrent>;
    live(Option<InfoHash>, u32) -> Vec<LiveTorrent>;
    list_unmodified(u8, Timestamp) -> Vec<InfoHash>;
    mark_seeding(InfoHash) -> bool;
    retire(InfoHash, u64, Timestamp) -> bool;
    purge(InfoHash) -> bool;
}

denied! { Statistics:
    add(InfoHash, Transferred) -> ();
    transferred(InfoHash) -> Transferred;
}

denied! { Seeders:
    register(&RunningSeeder, Timestamp, Duration) -> ();
    deregister(&str) -> ();
    running(Timestamp) -> Vec<RunningSeeder>;
    send(&str, Task, Timestamp, Duration) -> ();
    take_tasks(&str, u32) -> Vec<Task>;
}

denied! { Contents:
    stage(RequestId) -> Box<dyn StagedUpload>;
    resume(RequestId, &UploadToken) -> Option<Box<dyn StagedUpload>>;
    discard(&UploadToken) -> ();
    staging() -> Vec<StagingEntry>;
    read_at(ContentHash, u64, &mut [u8]) -> ();
    size(ContentHash) -> Option<u64>;
    touch(ContentHash, Timestamp) -> bool;
    remove(ContentHash, Timestamp) -> Removal;
    quarantine(ContentHash) -> ();
    list_unmodified(u8, Timestamp) -> Vec<ContentHash>;
    link(ContentHash, &str, &str) -> Option<String>;
}

denied! { Reservations:
    reserve(&str, &str, Timestamp, Timestamp) -> Option<String>;
    replace(&str, &str, &str, Timestamp) -> bool;
    value(&str, Timestamp) -> Option<String>;
    release(&str) -> ();
}

denied! { Swarm:
    announce(InfoHash, Announce, usize, Timestamp, Duration) -> (Vec<Peer>, SwarmCounts);
    counts(InfoHash, Timestamp) -> SwarmCounts;
}

denied! { TaskQueue:
    enqueue(Task, Duration) -> ();
}

denied! { Deduplication:
    find_identical(&Fingerprint) -> IdenticalRequests;
    add_waiter(RequestId, RequestId) -> bool;
}

denied! { NotificationQueue:
    due_notifications(Timestamp, u32) -> Vec<RequestId>;
    claim_notification(RequestId, Timestamp, Duration) -> Option<DueNotification>;
    finish_notification(&DueNotification, Option<(Timestamp, Receivers)>) -> ();
}

denied! { RateLimiter:
    acquire(&[Limit], Timestamp) -> Decision;
}

denied! { Check:
    check() -> ();
}
