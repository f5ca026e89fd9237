//! Disk of the libtorrent session: answers its block reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use domain::ContentHash;
use libtorrent_sys::{Disk, Pieces, ReadJob};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::reader::{ReadError, Reader};

/// The timeout of a block read. A read that never ends would block the shutdown.
const DEADLINE: Duration = Duration::from_secs(60);

/// The number of tries per read. libtorrent disconnects the peer after a hundred failed reads in a row.
const TRIES: u32 = 3;

const EIO: i32 = 5;
const ENOENT: i32 = 2;

/// The disk that serves libtorrent's reads.
pub(crate) struct ContentsDisk {
    pub reader: Arc<Reader>,
    pub runtime: Handle,
    pub events: Arc<Notify>,
    /// Cancelled when the session stops: pending reads then fail.
    pub stopping: CancellationToken,
}

impl Disk for ContentsDisk {
    fn announce(&self, key: &str, offset: u64, pieces: &Pieces) {
        if let Ok(content) = key.parse() {
            let _runtime = self.runtime.enter();
            self.reader.read_ahead(content, offset, pieces);
        }
    }

    fn read(&self, key: &str, offset: u64, pieces: &Pieces, mut job: ReadJob) {
        let Ok(content) = key.parse::<ContentHash>() else {
            job.fail(ENOENT);
            return;
        };
        let (reader, pieces, stopping) = (self.reader.clone(), pieces.clone(), self.stopping.clone());
        let mut read: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let result = tokio::select! {
                biased;
                result = tokio::time::timeout(DEADLINE, read(&reader, content, offset, &pieces, job.buffer())) => {
                    result.unwrap_or(Err(EIO))
                }
                () = stopping.cancelled() => Err(EIO),
            };
            match result {
                Ok(()) => job.complete(),
                Err(errno) => job.fail(errno),
            }
        });
        // A block in a cache is ready at the first poll, so it needs no spawned task.
        let _runtime = self.runtime.enter();
        if read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.runtime.spawn(read);
        }
    }

    fn notify(&self) {
        self.events.notify_one();
    }
}

async fn read(
    reader: &Reader,
    content: ContentHash,
    offset: u64,
    pieces: &Pieces,
    buffer: &mut [u8],
) -> Result<(), i32> {
    for attempt in 1..=TRIES {
        match reader.read(content, offset, pieces, buffer).await {
            Ok(()) => return Ok(()),
            Err(ReadError::NotFound) => return Err(ENOENT),
            Err(ReadError::Damaged) => return Err(EIO),
            Err(error) if attempt == TRIES => {
                warn!(content.hash = %content, offset, %error, "block read failed");
            }
            // Back-off in case the store is overloaded, well within the deadline.
            Err(_) => tokio::time::sleep(Duration::from_millis(100) * attempt).await,
        }
    }
    Err(EIO)
}
