//! The metrics of a session.

use metrics::gauge;

use crate::session::SeedSession;

/// Sets the gauges of this session to its current state.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
pub fn record(session: &SeedSession) {
    let statistics = session.statistics();
    gauge!("proxytorrent_torrents_seeding").set(session.seeding() as f64);
    gauge!("proxytorrent_peers").set(statistics.peers as f64);
}
