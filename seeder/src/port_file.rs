//! The file with the port that a VPN forwards (`SEEDER__PORT_FILE`), as gluetun writes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::listen::parse_port;
use crate::session::SeedSession;

/// The interval at which the file is read.
const INTERVAL: Duration = Duration::from_secs(2);

/// The pause before a port that could not be used is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Follows the file until `stop` is cancelled: the session listens on the port in it. While the file has none, for
/// example because the VPN is down, the session keeps its port.
pub async fn follow(session: Arc<SeedSession>, file: PathBuf, stop: CancellationToken) {
    let mut interval = interval(INTERVAL);
    let mut last: Option<(String, Option<Instant>)> = None;
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        let text = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        if let Some((before, retry_at)) = &last
            && *before == text
            && retry_at.is_none_or(|at| Instant::now() < at)
        {
            continue;
        }
        let Some(port) = parse_port(&text) else {
            warn!(file = %file.display(), "no port in the file, the listen port stays (SEEDER__PORT_FILE)");
            last = Some((text, None));
            continue;
        };
        let failed = session.set_listen_port(port).await.is_err();
        // A port that is in use now may be free later.
        last = Some((text, failed.then(|| Instant::now() + RETRY)));
    }
}
