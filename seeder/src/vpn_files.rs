//! The files in which a VPN client writes the forwarded port (`SEEDER__PORT_FILE`) and the public IP address
//! (`SEEDER__PUBLIC_IP_FILE`), as gluetun does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::listen::{parse_ip, parse_port};
use crate::sessions::SeedSessions;

/// The interval at which a file is read.
const INTERVAL: Duration = Duration::from_secs(2);

/// The pause before a port that could not be used is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Follows the files that the settings name, on tasks of their own, until `stop` is cancelled.
pub fn follow_vpn_files(sessions: &Arc<SeedSessions>, settings: &settings::Seeder, stop: &CancellationToken) {
    if let Some(file) = settings.port_file.clone() {
        tokio::spawn(follow_port_file(sessions.clone(), file, stop.clone()));
    }
    if let Some(file) = settings.public_ip_file.clone() {
        tokio::spawn(follow_public_ip_file(sessions.clone(), file, stop.clone()));
    }
}

/// Follows the file with the port until `stop` is cancelled: the session listens on the port in it. While the file has
/// none, for example because the VPN is down, the session keeps its port.
async fn follow_port_file(sessions: Arc<SeedSessions>, file: PathBuf, stop: CancellationToken) {
    let mut file = WatchedFile::new(file);
    while let Some(text) = stop.run_until_cancelled(file.changed()).await {
        match parse_port(&text) {
            Some(port) if sessions.set_listen_port(port).await.is_ok() => {}
            // A port that is in use now may be free later.
            Some(_) => file.retry(),
            None => warn!(file = %file.path.display(), "no port in the file, the port stays (SEEDER__PORT_FILE)"),
        }
    }
}

/// Follows the file with the public IP address until `stop` is cancelled: peers are sent to it. While the file has none,
/// the last one stays.
async fn follow_public_ip_file(sessions: Arc<SeedSessions>, file: PathBuf, stop: CancellationToken) {
    let mut file = WatchedFile::new(file);
    while let Some(text) = stop.run_until_cancelled(file.changed()).await {
        match parse_ip(&text) {
            Some(ip) => sessions.set_public_ip(ip).await,
            None => {
                warn!(file = %file.path.display(), "no address in the file, the last one stays (SEEDER__PUBLIC_IP_FILE)");
            }
        }
    }
}

/// A small text file that is read at an interval.
struct WatchedFile {
    path: PathBuf,
    interval: Interval,
    last: Option<String>,
    retry_at: Option<Instant>,
}

impl WatchedFile {
    fn new(path: PathBuf) -> Self {
        Self { path, interval: interval(INTERVAL), last: None, retry_at: None }
    }

    /// Waits until the file has another text, or the time of the retry. Returns the text; it is empty if there is no file.
    async fn changed(&mut self) -> String {
        loop {
            self.interval.tick().await;
            let text = tokio::fs::read_to_string(&self.path).await.unwrap_or_default();
            if self.last.as_ref() != Some(&text) || self.retry_at.is_some_and(|at| Instant::now() >= at) {
                self.retry_at = None;
                self.last = Some(text.clone());
                return text;
            }
        }
    }

    /// Has the text handled again, later.
    fn retry(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY);
    }
}
