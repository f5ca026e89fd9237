//! SIGTERM and SIGINT as a token that everything watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Listens for the signals that ask the process to stop.
pub(super) struct Signals(CancellationToken);

impl Signals {
    /// Begins to listen. The first signal cancels the token; a second ends the process at once.
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
                    // Whatever is lost is found by the next start.
                    std::process::exit(130);
                }
            }
        });
        Ok(Self(token))
    }

    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}
