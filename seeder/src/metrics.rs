//! The metrics of the sessions.

use metrics::gauge;

use crate::sessions::SeedSessions;

/// Sets the gauges of these sessions to their current state.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
pub fn record(sessions: &SeedSessions) {
    let statistics = sessions.statistics();
    gauge!("proxytorrent_torrents_seeding").set(sessions.seeding() as f64);
    gauge!("proxytorrent_peers").set(statistics.peers as f64);
}
