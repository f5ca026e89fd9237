//! The running seeders, as the API knows them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::Timestamp;
use ports::{Fleet, Seeders};
use tracing::warn;

/// How long a fleet is used before the registry is read again.
const FRESH: Duration = Duration::from_secs(5);

/// The fleet of running seeders, from the registry.
pub struct RunningFleet {
    seeders: Arc<dyn Seeders>,
    /// The fleet that was read last, and when.
    last: Mutex<Option<(Timestamp, Arc<Fleet>)>>,
}

impl std::fmt::Debug for RunningFleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningFleet").finish_non_exhaustive()
    }
}

impl RunningFleet {
    /// The fleet in this registry.
    pub fn new(seeders: Arc<dyn Seeders>) -> Self {
        Self { seeders, last: Mutex::default() }
    }

    /// Returns the fleet, at most some seconds old; an older one if the registry cannot be read.
    pub(crate) async fn get(&self, now: Timestamp) -> Arc<Fleet> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, fleet)) = &last
            && now >= *at
            && now.since(*at) < FRESH
        {
            return fleet.clone();
        }
        match self.seeders.running(now).await {
            Ok(running) => {
                let fleet = Arc::new(Fleet::new(running));
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, fleet.clone()));
                fleet
            }
            Err(error) => {
                warn!(%error, "seeders not read");
                last.map(|(_, fleet)| fleet).unwrap_or_default()
            }
        }
    }
}
