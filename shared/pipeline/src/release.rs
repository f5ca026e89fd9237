//! The release step: removes the torrent and the content of an ended request, if no other request needs them.

use std::sync::Arc;
use std::time::Duration;

use domain::{ContentHash, RequestId, Step, Torrent, TorrentState, Transition};
use ports::{Clock, ContentReference, Contents, Removal, Requests, StoreError, Stores, Task, TaskQueue, Torrents};
use tracing::info;

use crate::{GRACE, LEASE, Outcome, StepError, fetch};

/// The release step.
///
/// Nothing that another request refers to, or is about to refer to, is removed. A torrent is retired only if its version
/// has not changed since it was read, and if every request that has it must be visible by now
/// ([`Requests::max_staleness`]). A content is removed only if it has not been touched for [`GRACE`].
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Release {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
}

impl Release {
    /// The step on these ports.
    pub fn new(stores: &Stores) -> Self {
        Self {
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
        }
    }

    /// Runs the step for this request.
    pub async fn run(&self, id: RequestId) -> Result<Outcome, StepError> {
        let Some(claim) = self.requests.claim(id, Step::Release, self.clock.now(), LEASE).await? else {
            return Ok(Outcome::Nothing);
        };
        // A request that was cancelled may have waiters.
        fetch::wake(&*self.requests, &*self.tasks, &claim.waiting, self.clock.now()).await?;
        if let Some(suspended) = claim.request.checkpoint.as_deref().and_then(fetch::suspended_upload) {
            self.contents.discard(&suspended).await?;
        }
        let released = match &claim.request.content {
            None => true,
            Some(content) => self.release(content.hash).await?,
        };
        let now = self.clock.now();
        let again = (!released).then(|| now + GRACE);
        match self.requests.save(&claim, &Transition::release(again), now).await {
            Err(StoreError::ClaimLost(_)) => return Ok(Outcome::Lost),
            result => drop(result?),
        }
        if again.is_some() {
            self.tasks.enqueue(Task::Release(id), GRACE).await?;
            return Ok(Outcome::Retried);
        }
        Ok(Outcome::Done)
    }

    /// Removes a content and its torrents where no request needs them. Returns whether nothing is left to try again.
    async fn release(&self, content: ContentHash) -> Result<bool, StepError> {
        // The torrents first, with their versions: a later request increments the version.
        let torrents = self.torrents.of_content(content).await?;
        let references = self.requests.references(content).await?;
        let seen = self.clock.now() - self.requests.max_staleness();
        let mut released = true;
        for torrent in torrents.iter().filter(|torrent| !is_referenced(torrent, &references)) {
            let retired = torrent.state == TorrentState::Retired
                || self.torrents.retire(torrent.infohash, torrent.version, seen).await?;
            if retired {
                info!(infohash = %torrent.infohash, "torrent retired");
                self.tasks.enqueue(Task::Unseed(torrent.infohash), Duration::ZERO).await?;
            }
            released &= retired;
        }
        if !released || !references.is_empty() {
            return Ok(released);
        }
        let removal = self.contents.remove(content, self.clock.now() - GRACE).await?;
        if removal == Removal::Gone {
            info!(content.hash = %content, "content removed");
        }
        Ok(removal == Removal::Gone)
    }
}

/// Whether a live request has this torrent, or may be about to refer to it.
pub(crate) fn is_referenced(torrent: &Torrent, references: &[ContentReference]) -> bool {
    references.iter().any(|reference| match reference {
        ContentReference::Packaging => true,
        ContentReference::Torrent(infohash) => *infohash == torrent.infohash,
    })
}
