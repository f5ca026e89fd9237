//! SIGTERM and SIGINT as a cancellation token.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A listener for SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals(CancellationToken);

impl Signals {
    /// Starts to listen. The first signal cancels the token; a second one ends the process at once, with
    /// exit code 130.
    pub fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = CancellationToken::new();
        let cancel = token.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if first {
                    cancel.cancel();
                } else {
                    // The next start restores unfinished work.
                    std::process::exit(130);
                }
            }
        });
        Ok(Self(token))
    }

    /// Returns the token that the first signal cancels.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}
