//! Progress of a transfer.

use domain::Received;
use std::sync::atomic::{AtomicU64, Ordering};

/// The progress of a fetch, shared with readers.
#[derive(Debug, Default)]
pub struct TransferProgress {
    pub(crate) received: AtomicU64,
    pub(crate) expected: AtomicU64,
}

impl TransferProgress {
    /// Returns the progress in percent, 0 to 100. It is 0 while the size is unknown.
    pub fn percent(&self) -> u8 {
        let (received, expected) = (self.received.load(Ordering::Relaxed), self.expected.load(Ordering::Relaxed));
        if expected == 0 { 0 } else { (u128::from(received) * 100 / u128::from(expected)).min(100) as u8 }
    }

    /// Returns the bytes received so far, and in all if the origin has declared them; `None` before the first byte.
    pub fn received(&self) -> Option<Received> {
        let (bytes, total) = (self.received.load(Ordering::Relaxed), self.expected.load(Ordering::Relaxed));
        (bytes > 0).then_some(Received { bytes, total: Some(total).filter(|total| *total >= bytes) })
    }
}
