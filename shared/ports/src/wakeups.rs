//! Wake-ups: hints that a row is due. Losing one costs a minute, a second one nothing.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use domain::{InfoHash, RequestId};

use crate::StoreError;

/// What is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wakeup {
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

/// Sends wake-ups to whoever does the work.
#[async_trait]
pub trait Wakeups: Send + Sync {
    /// Sends it, to arrive after `delay`.
    async fn wake(&self, wakeup: Wakeup, delay: Duration) -> Result<(), StoreError>;

    /// Whether the channel or queue takes messages.
    async fn check(&self) -> Result<(), StoreError>;
}
