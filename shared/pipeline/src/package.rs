//! The package step: from a stored content to a stored torrent.

use std::sync::Arc;
use std::time::Duration;

use domain::{Content, Failure, FailureCode, RequestId, Step, Timestamp, Torrent, TorrentState};
use metainfo::{Metainfo, PieceHasher, Pieces, Recipe, TorrentFormat, piece_length_for};
use ports::{Claim, Clock, Contents, Requests, StoreError, Torrents, Wakeup, Wakeups};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::info;

use crate::retry::{next_try, store_failure};
use crate::{LEASE, Outcome};

/// Makes the torrent of a request's content.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Package {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub wakeups: Arc<dyn Wakeups>,
    pub clock: Arc<dyn Clock>,
    /// BEP 27.
    pub private: bool,
    /// Bytes a piece, where it is not to follow the content's size.
    pub piece_length: Option<u32>,
    /// The program's name and version, for `created by`.
    pub created_by: String,
}

impl Package {
    /// Runs the step for this request.
    pub async fn run(&self, id: RequestId) -> Result<Outcome, StoreError> {
        let Some(claim) = self.requests.claim(id, Step::Package, self.clock.now(), LEASE).await? else {
            return Ok(Outcome::Nothing);
        };
        let result = match &claim.request.content {
            Some(content) => self.torrent(&claim, content).await,
            None => Err(StoreError::NotFound),
        };
        let now = self.clock.now();
        let mut row = claim.request.clone();
        let outcome = match result {
            Ok((torrent, TorrentState::Seeding)) => {
                row.seeded(torrent.infohash, torrent.infohash_v2, now);
                self.requests.save(&claim, &row).await.map(|()| Outcome::Done)
            }
            Ok((torrent, _)) => {
                row.packaged(torrent.infohash, torrent.infohash_v2, now, now + LEASE);
                match self.requests.save(&claim, &row).await {
                    Ok(()) => self.wakeups.wake(Wakeup::Seed(torrent.infohash), Duration::ZERO).await.map(|()| Outcome::Done),
                    Err(error) => Err(error),
                }
            }
            // The content is gone: fetch it again.
            Err(StoreError::NotFound) => {
                row.requeue(now, now);
                match self.requests.save(&claim, &row).await {
                    Ok(()) => self.wakeups.wake(Wakeup::Fetch(id), Duration::ZERO).await.map(|()| Outcome::Retried),
                    Err(error) => Err(error),
                }
            }
            Err(StoreError::ClaimLost) => Err(StoreError::ClaimLost),
            Err(error) => self.failed(&claim, store_failure(&error), now).await,
        };
        match outcome {
            Err(StoreError::ClaimLost) => Ok(Outcome::Lost),
            outcome => outcome,
        }
    }

    /// Makes and stores the torrent, and tells what the seeder has to do with it.
    async fn torrent(&self, claim: &Claim, content: &Content) -> Result<(Torrent, TorrentState), StoreError> {
        let pieces = self.hash(claim, content).await?;
        let (size, piece_length) = (pieces.size(), pieces.piece_length());
        let now = self.clock.now();
        let metainfo = self.metainfo(content, pieces, now)?;
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

    fn metainfo(&self, content: &Content, pieces: Pieces, now: Timestamp) -> Result<Metainfo, StoreError> {
        let recipe = Recipe {
            name: content.file_name.clone(),
            private: self.private,
            created_by: Some(self.created_by.clone()),
            creation_date: Some(now.as_millis() / 1000),
        };
        // Names are made safe and empty contents refused when they are fetched.
        recipe.build(pieces).map_err(|error| StoreError::unavailable("packaging", error))
    }

    /// Hashes the content in one pass; one thread reads while others hash.
    async fn hash(&self, claim: &Claim, content: &Content) -> Result<Pieces, StoreError> {
        let piece_length = self.piece_length.unwrap_or_else(|| piece_length_for(content.size));
        let format: TorrentFormat = claim.request.spec.format;
        let mut hashing: Hashing = Hashing::idle(PieceHasher::new(format, piece_length));
        let mut offset = 0;
        let mut renewed = self.clock.now();
        while offset < content.size {
            let mut buffer = hashing.spare_buffer();
            buffer.resize((content.size - offset).min(hashing.batch as u64) as usize, 0);
            self.contents.read_at(content.hash, offset, &mut buffer).await?;
            offset += buffer.len() as u64;
            hashing.next(buffer).await?;
            let now = self.clock.now();
            if now.since(renewed) >= LEASE / 3 {
                renewed = now;
                self.requests.heartbeat(claim, claim.request.progress, now, LEASE).await?;
            }
        }
        hashing.finish().await
    }

    async fn failed(&self, claim: &Claim, failure: Failure, now: Timestamp) -> Result<Outcome, StoreError> {
        debug_assert_eq!(failure.code, FailureCode::Internal);
        let mut row = claim.request.clone();
        let Some(at) = next_try(&row, &failure, None, 0, now) else {
            row.fail(failure, now);
            self.requests.save(claim, &row).await?;
            return Ok(Outcome::Failed);
        };
        row.retry(failure, now, at);
        self.requests.save(claim, &row).await?;
        self.wakeups.wake(Wakeup::Package(row.id), at.since(now)).await?;
        Ok(Outcome::Retried)
    }
}

/// A hasher at work on another thread, with two buffers that take turns.
struct Hashing {
    batch: usize,
    state: State,
    spare: Vec<u8>,
}

enum State {
    Idle(PieceHasher),
    Busy(JoinHandle<(PieceHasher, Vec<u8>)>),
}

impl Hashing {
    fn idle(hasher: PieceHasher) -> Self {
        Self { batch: hasher.batch(), state: State::Idle(hasher), spare: vec![] }
    }

    fn spare_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Waits for the bytes before these to be hashed, and has these hashed.
    async fn next(&mut self, bytes: Vec<u8>) -> Result<(), StoreError> {
        // A panicked hasher leaves the handle, which fails again should anyone ask.
        let mut hasher = match &mut self.state {
            State::Busy(handle) => {
                let (hasher, buffer) = handle.await.map_err(|error| StoreError::unavailable("hashing", error))?;
                self.spare = buffer;
                hasher
            }
            State::Idle(hasher) => std::mem::replace(hasher, PieceHasher::new(TorrentFormat::V1, 1 << 14)),
        };
        self.state = State::Busy(spawn_blocking(move || {
            hasher.update(&bytes);
            (hasher, bytes)
        }));
        Ok(())
    }

    async fn finish(self) -> Result<Pieces, StoreError> {
        let hasher = match self.state {
            State::Idle(hasher) => hasher,
            State::Busy(handle) => handle.await.map_err(|error| StoreError::unavailable("hashing", error))?.0,
        };
        spawn_blocking(|| hasher.finish()).await.map_err(|error| StoreError::unavailable("hashing", error))
    }
}
