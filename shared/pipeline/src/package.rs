//! The package step: makes the torrent of a stored content.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::{
    Content, Failure, FailureCode, FetchRequest, RequestId, Status, Step, Timestamp, Torrent, TorrentState, Transition,
    UserId,
};
use hmac::{Hmac, KeyInit, Mac};
use metainfo::{Metainfo, Pieces, TorrentBuilder, piece_length_for};
use ports::{Claim, Clock, Contents, Requests, Share, StoreError, Stores, Task, TaskQueue, Torrents};
use settings::{ExposeSecret, Settings};
use sha2::Sha256;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tracing::info;

use crate::retry::{internal_failure, next_try, store_failure};
use crate::{LEASE, Outcome, StepError, lease};

/// The package step.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Package {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
    /// BEP 27.
    pub private: bool,
    /// Bytes per piece; `None`: it depends on the size of the content.
    pub piece_length: Option<u32>,
    /// The name and version of the program for `created by`, beside the creation date; `None`: the torrent has neither.
    pub created_by: Option<String>,
    /// Makes the infohashes of private torrents unpredictable; `None`: they follow from content and name.
    pub salt: Option<Salt>,
}

/// A secret from which the `source` field in the info dictionary of private torrents is derived. Without it the infohash
/// follows from the content and its name, and anybody who has both can ask the seeder whether it seeds them.
#[derive(Clone)]
pub struct Salt {
    key: Hmac<Sha256>,
    /// Whether each owner has a separate salt. Then equal contents of two owners are two torrents.
    per_owner: bool,
}

impl Salt {
    /// The salt of this secret.
    pub fn new(secret: &[u8], per_owner: bool) -> Self {
        Self { key: Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"), per_owner }
    }

    /// The salt of `TORRENT__SALT`, if it is set.
    pub fn from_settings(torrent: &settings::Torrent) -> Option<Self> {
        let per_owner = torrent.salt_scope == settings::SaltScope::Owner;
        torrent.salt.as_ref().map(|secret| Self::new(secret.expose_secret().as_bytes(), per_owner))
    }

    /// The `source` of an owner: 32 hexadecimal digits.
    fn source(&self, owner: &UserId) -> String {
        let mut mac = self.key.clone();
        mac.update(b"torrent source\n");
        if self.per_owner {
            mac.update(owner.as_str().as_bytes());
        }
        hex::encode(&mac.finalize().into_bytes()[..16])
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salt").field("per_owner", &self.per_owner).finish_non_exhaustive()
    }
}

impl Package {
    /// The step on these ports.
    pub fn new(stores: &Stores, settings: &Settings) -> Self {
        let (server, torrent) = (&settings.server, &settings.torrent);
        Self {
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            private: torrent.private_tracker,
            piece_length: torrent.piece_size.map(settings::PieceLength::get),
            created_by: torrent.names_program().then(|| format!("{}/{}", server.app_name, server.app_version)),
            salt: Salt::from_settings(torrent),
        }
    }

    /// Runs the step for this request.
    pub async fn run(&self, id: RequestId) -> Result<Outcome, StepError> {
        let Some(claim) = self.requests.claim(id, Step::Package, self.clock.now(), LEASE).await? else {
            return Ok(Outcome::Nothing);
        };
        let result = match &claim.request.content {
            Some(content) => self.torrent(&claim, content).await,
            None => Err(StoreError::not_found("the request", "content").into()),
        };
        let now = self.clock.now();
        let (outcome, transition, task) = match result {
            Ok((torrent, TorrentState::Seeding)) => {
                (Outcome::Done, Transition::packaged_and_seeded(torrent.infohash, torrent.infohash_v2), None)
            }
            Ok((torrent, _)) => {
                let packaged = Transition::packaged(torrent.infohash, torrent.infohash_v2, now + LEASE);
                (Outcome::Done, packaged, Some((Task::Seed(torrent.infohash, Some(id)), Duration::ZERO)))
            }
            Err(error) if error.is_claim_lost() => return Ok(Outcome::Lost),
            // The content is gone: fetch it again.
            Err(StepError::Store(StoreError::NotFound { .. })) => {
                (Outcome::Retried, Transition::requeue(now), Some((Task::Fetch(id), Duration::ZERO)))
            }
            Err(error) => Self::failed(&claim.request, error, now),
        };
        let row = match self.requests.save(&claim, &transition, now).await {
            Err(StoreError::ClaimLost(_)) => return Ok(Outcome::Lost),
            saved => saved?.0,
        };
        if row.status == Status::Ready {
            crate::metrics::ready();
        }
        if let Some((task, delay)) = task {
            self.tasks.enqueue_for(Share::from(&row), task, delay).await?;
        } else if !row.receivers.is_empty() {
            self.tasks.enqueue_for(Share::from(&row), Task::Notify(id), Duration::ZERO).await?;
        }
        Ok(outcome)
    }

    /// Decides whether a request that could not be packaged is retried.
    fn failed(row: &FetchRequest, error: StepError, now: Timestamp) -> (Outcome, Transition, Option<(Task, Duration)>) {
        let failure = match error {
            // Unlike a fetch, another try costs only hashing.
            StepError::Store(StoreError::Full { .. }) => {
                Failure::new(FailureCode::Internal, "no space left to store the torrent")
            }
            StepError::Store(error) => store_failure(&error),
            error => internal_failure(&error),
        };
        let next = next_try(row, &failure, None, 0, now);
        crate::metrics::failed("package", failure.code, next.is_some());
        match next {
            Some(at) => {
                let task = (Task::Package(row.id), at.since(now));
                (Outcome::Retried, Transition::retry_package(failure, at), Some(task))
            }
            None => (Outcome::Failed, Transition::fail(row, failure, None, now), None),
        }
    }

    /// Makes and stores the torrent. Returns it with its state, which says whether the seeder must add it.
    async fn torrent(&self, claim: &Claim, content: &Content) -> Result<(Torrent, TorrentState), StepError> {
        let pieces = self.hash(claim, content).await?;
        let (size, piece_length) = (pieces.size(), pieces.piece_length());
        let now = self.clock.now();
        let metainfo = self.metainfo(&claim.request, content, pieces, now)?;
        let torrent = Torrent {
            infohash: metainfo.infohash(),
            infohash_v2: metainfo.infohash_v2(),
            content_hash: content.hash,
            name: content.file_name.clone(),
            size,
            piece_length,
            state: TorrentState::Adding,
            version: 1,
            created_at: now,
        };
        let state = self.torrents.store(&torrent, metainfo.as_bytes()).await?;
        info!(request.id = %claim.request.id, infohash = %torrent.infohash, "packaged");
        Ok((torrent, state))
    }

    fn metainfo(
        &self,
        row: &FetchRequest,
        content: &Content,
        pieces: Pieces,
        now: Timestamp,
    ) -> Result<Metainfo, StepError> {
        let recipe = TorrentBuilder {
            name: content.file_name.to_string(),
            private: self.private,
            source: self.salt.as_ref().filter(|_| self.private).map(|salt| salt.source(&row.owner)),
            created_by: self.created_by.clone(),
            creation_date: self.created_by.as_ref().map(|_| now.as_millis() / 1000),
        };
        // The fetch makes names safe and refuses empty contents.
        Ok(recipe.build(pieces)?)
    }

    /// Hashes the content on all cores while the lease is extended.
    async fn hash(&self, claim: &Claim, content: &Content) -> Result<Pieces, StepError> {
        let piece_length = self.piece_length.unwrap_or_else(|| piece_length_for(content.size));
        let (id, format) = (claim.request.id, claim.request.spec.format);
        let (size, hash) = (content.size, content.hash);
        let (contents, runtime) = (self.contents.clone(), Handle::current());
        let lost = Arc::new(AtomicBool::new(false));
        let given_up = lost.clone();
        let mut hashing = spawn_blocking(move || {
            Pieces::hash(format, piece_length, size, |offset, buffer| {
                if given_up.load(Ordering::Relaxed) {
                    return Err(StoreError::ClaimLost(id));
                }
                runtime.block_on(contents.read_at(hash, offset, buffer))
            })
        });
        let kept =
            lease::keep(&*self.requests, &*self.clock, claim, lease::BYTES_INTERVAL, || claim.request.progress.into());
        tokio::select! {
            biased;
            pieces = &mut hashing => Ok(pieces??),
            () = kept => {
                lost.store(true, Ordering::Relaxed);
                Err(StoreError::ClaimLost(id).into())
            }
        }
    }
}
