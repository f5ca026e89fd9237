//! The gauges of this process, which are set when the metrics are read.

use std::path::PathBuf;
use std::sync::Arc;

use embedded::FolderContents;
use fetcher::Fetcher;
use metrics::gauge;
use rustix::fs::statvfs;
use seeder::SeedSessions;

use super::workers::Queues;

/// The parts of the process that gauges are read from.
pub(super) struct Sources {
    pub sessions: Arc<SeedSessions>,
    pub queues: Queues,
    pub fetcher: Fetcher,
    pub contents: FolderContents,
    /// The folder of the contents.
    pub folder: PathBuf,
}

impl Sources {
    /// Sets the gauges.
    pub fn read(&self) {
        seeder::record(&self.sessions);
        for (step, queue) in self.queues.by_step() {
            gauge!("proxytorrent_tasks_waiting", "step" => step).set(queue.waiting() as f64);
            gauge!("proxytorrent_tasks_oldest_age_seconds", "step" => step).set(queue.oldest().as_secs_f64());
        }
        let proxies = self.fetcher.proxy_states();
        gauge!("proxytorrent_proxies", "state" => "available").set(proxies.available as f64);
        gauge!("proxytorrent_proxies", "state" => "cooling_down").set(proxies.cooling_down as f64);
        gauge!("proxytorrent_storage_used_bytes").set(self.contents.used_bytes() as f64);
        if let Ok(disk) = statvfs(&self.folder) {
            gauge!("proxytorrent_storage_free_bytes").set(disk.f_bavail.saturating_mul(disk.f_frsize) as f64);
        }
    }
}
