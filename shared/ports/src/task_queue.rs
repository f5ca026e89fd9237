//! The task queue. A task is a hint that a row is due: a lost one costs a minute, a duplicate nothing.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use domain::{FetchRequest, InfoHash, RequestId, UserId};
use serde::{Deserialize, Serialize};

use crate::{Check, StoreError};

/// A task for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Task {
    /// Fetch the content of a request.
    Fetch(RequestId),
    /// Make the torrent of a request.
    Package(RequestId),
    /// Add a torrent to the seeder, and make the request ready that waits for it, if there is one.
    Seed(InfoHash, Option<RequestId>),
    /// Release the content and torrent of an ended request.
    Release(RequestId),
    /// Remove a retired torrent from the seeder.
    Unseed(InfoHash),
    /// Deliver the webhook of a request.
    Notify(RequestId),
    /// Connect the seeder to a peer that downloads a torrent. A lost one only costs time.
    Connect(InfoHash, SocketAddr),
}

impl Task {
    /// The name of the step that handles the task, as in logs and metrics.
    pub const fn step(self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch",
            Self::Package(_) => "package",
            Self::Seed(..) => "seed",
            Self::Release(_) => "release",
            Self::Unseed(_) => "unseed",
            Self::Notify(_) => "notify",
            Self::Connect(..) => "connect",
        }
    }
}

/// The owner and the host of a task: owners get equal shares of the workers.
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

/// Sends tasks to the workers.
#[async_trait]
pub trait TaskQueue: Check {
    /// Sends a task, which is delivered after `delay`.
    async fn enqueue(&self, task: Task, delay: Duration) -> Result<(), StoreError>;

    /// As [`TaskQueue::enqueue`], by a caller that knows the share. A backend that serves owners fairly need not look it up
    /// then.
    async fn enqueue_for(&self, _share: Share, task: Task, delay: Duration) -> Result<(), StoreError> {
        self.enqueue(task, delay).await
    }
}
