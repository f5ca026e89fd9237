//! SHA-256 of a stream, computed on another thread while the stream continues.

use bytes::Bytes;
use domain::ContentHash;
use sha2::{Digest, Sha256};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// The number of bytes per batch for the other thread. A smaller rest is hashed on the calling thread.
const BATCH: usize = 256 * 1024;

/// The SHA-256 hasher of a stream, in order. At most two batches are in memory.
pub(crate) struct StreamHasher {
    state: State,
    pending: Vec<Bytes>,
    pending_bytes: usize,
}

impl From<Sha256> for StreamHasher {
    fn from(hasher: Sha256) -> Self {
        Self { state: State::Idle(hasher), pending: vec![], pending_bytes: 0 }
    }
}

enum State {
    Idle(Sha256),
    Busy(JoinHandle<Sha256>),
}

impl StreamHasher {
    pub fn new() -> Self {
        Self::from(Sha256::new())
    }

    /// Adds the next bytes.
    pub async fn update(&mut self, bytes: Bytes) -> Result<(), JoinError> {
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        if self.pending_bytes >= BATCH {
            let mut hasher = self.hasher().await?;
            let batch = std::mem::take(&mut self.pending);
            self.pending_bytes = 0;
            self.state = State::Busy(spawn_blocking(move || {
                for bytes in &batch {
                    hasher.update(bytes);
                }
                hasher
            }));
        }
        Ok(())
    }

    /// Returns the hash of all added bytes.
    pub async fn finish(self) -> Result<ContentHash, JoinError> {
        Ok(ContentHash::new(self.stop().await?.finalize().into()))
    }

    /// Returns the hasher after all added bytes.
    pub async fn stop(mut self) -> Result<Sha256, JoinError> {
        let mut hasher = self.hasher().await?;
        for bytes in &self.pending {
            hasher.update(bytes);
        }
        Ok(hasher)
    }

    async fn hasher(&mut self) -> Result<Sha256, JoinError> {
        match std::mem::replace(&mut self.state, State::Idle(Sha256::new())) {
            State::Idle(hasher) => Ok(hasher),
            State::Busy(handle) => handle.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_hashes_as_a_whole() {
        for size in [0, 1, BATCH - 1, BATCH, 3 * BATCH + 5] {
            let content: Bytes = (0..size).map(|i| (i / 7).to_le_bytes()[0]).collect::<Vec<_>>().into();
            let mut hasher = StreamHasher::new();
            for start in (0..size).step_by(10_000) {
                hasher.update(content.slice(start..size.min(start + 10_000))).await.unwrap();
            }
            assert_eq!(hasher.finish().await.unwrap().as_bytes()[..], Sha256::digest(&content)[..], "{size}");
        }
    }
}
