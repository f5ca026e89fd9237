//! The file with the port that a VPN forwards (`SEEDER__PORT_FILE`), as gluetun writes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::listen::parse_port;
use crate::session::SeedSession;

/// The interval at which the file is read.
const INTERVAL: Duration = Duration::from_secs(2);

/// Follows the file until `stop` is cancelled: the session listens on the port in it. While the file has none, for
/// example because the VPN is down, the session keeps its port.
pub async fn follow(session: Arc<SeedSession>, file: PathBuf, stop: CancellationToken) {
    let mut interval = interval(INTERVAL);
    let mut last = None;
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        let text = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        if last.as_ref() == Some(&text) {
            continue;
        }
        let Some(port) = parse_port(&text) else {
            warn!(file = %file.display(), "no port in the file, the listen port stays (SEEDER__PORT_FILE)");
            last = Some(text);
            continue;
        };
        // A port that is in use now may be free at the next try.
        if session.set_listen_port(port).await.is_ok() {
            last = Some(text);
        }
    }
}
