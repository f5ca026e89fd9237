//! The addresses of the running seeders.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::Timestamp;
use ports::{Seeders, SwarmCounts};
use tracing::warn;

/// How long addresses are used before the registry is read again.
const FRESH: Duration = Duration::from_secs(5);

/// The seeders that are running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    /// All addresses of all seeders.
    pub addresses: Vec<SocketAddr>,
    seeders: u32,
}

impl Running {
    /// Returns these counts of announced peers with the seeders added, which do not announce.
    pub fn added_to(&self, counts: SwarmCounts) -> SwarmCounts {
        SwarmCounts { seeds: counts.seeds + self.seeders, ..counts }
    }
}

/// The addresses of the running seeders, from the registry.
pub struct SeederAddresses {
    seeders: Arc<dyn Seeders>,
    /// The seeders that were read last, and when.
    last: Mutex<Option<(Timestamp, Running)>>,
}

impl std::fmt::Debug for SeederAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeederAddresses").finish_non_exhaustive()
    }
}

impl SeederAddresses {
    /// The addresses in this registry.
    pub fn new(seeders: Arc<dyn Seeders>) -> Self {
        Self { seeders, last: Mutex::default() }
    }

    /// Returns the seeders, at most some seconds old; older ones if the registry cannot be read.
    pub(crate) async fn get(&self, now: Timestamp) -> Running {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, running)) = &last
            && now >= *at
            && now.since(*at) < FRESH
        {
            return running.clone();
        }
        match self.seeders.running(now).await {
            Ok(running) => {
                let seeders = u32::try_from(running.len()).unwrap_or(u32::MAX);
                let addresses = running.into_iter().flat_map(|seeder| seeder.addresses).collect();
                let running = Running { addresses, seeders };
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, running.clone()));
                running
            }
            Err(error) => {
                warn!(%error, "seeders not read");
                last.map(|(_, running)| running).unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_running_seeder_is_a_seed() {
        let counts = SwarmCounts { seeds: 3, leechers: 5 };
        let running = Running { addresses: vec![], seeders: 2 };
        assert_eq!(running.added_to(counts), SwarmCounts { seeds: 5, leechers: 5 });
        assert_eq!(Running::default().added_to(counts), counts);
    }
}
