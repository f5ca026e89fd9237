//! Wake-ups: hints that a row is due. Losing one costs a minute, a second one nothing.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use domain::{FetchRequest, InfoHash, RequestId, UserId};

use crate::StoreError;

/// What is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// A request is to be fetched.
    Fetch(RequestId),
    /// A request's torrent is to be made.
    Package(RequestId),
    /// A torrent is to be seeded, and the request settled that waits for it, if one is named.
    Seed(InfoHash, Option<RequestId>),
    /// An ended request is to let go of what it held.
    Release(RequestId),
    /// A torrent has been retired.
    Unseed(InfoHash),
    /// The end of a request is to be told.
    Notify(RequestId),
    /// A peer downloads a torrent: the seeder connects to it. Losing this costs nothing but time.
    Connect(InfoHash, SocketAddr),
}

/// For whom work is done, and against which host: owners get equal shares of the workers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Share {
    /// The owner of the request.
    pub owner: UserId,
    /// The host of its URL.
    pub host: String,
}

impl From<&FetchRequest> for Share {
    fn from(row: &FetchRequest) -> Self {
        Self { owner: row.owner.clone(), host: row.spec.url.host_str().unwrap_or_default().to_owned() }
    }
}

/// Sends wake-ups to the workers.
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Sends it, to arrive after `delay`.
    async fn enqueue(&self, task: Task, delay: Duration) -> Result<(), StoreError>;

    /// As [`TaskQueue::wake`], by a caller who knows whose share of the workers it takes. A backend that serves owners
    /// fairly then need not look it up.
    async fn enqueue_for(&self, _share: Share, task: Task, delay: Duration) -> Result<(), StoreError> {
        self.enqueue(task, delay).await
    }

    /// Whether the channel or queue takes messages.
    async fn check(&self) -> Result<(), StoreError>;
}
