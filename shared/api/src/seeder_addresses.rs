//! The addresses of the running seeders.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::Timestamp;
use ports::Seeders;
use tracing::warn;

/// How long addresses are used before the registry is read again.
const FRESH: Duration = Duration::from_secs(5);

/// The addresses of the running seeders, from the registry.
pub struct SeederAddresses {
    seeders: Arc<dyn Seeders>,
    /// The addresses that were read last, and when.
    last: Mutex<Option<(Timestamp, Vec<SocketAddr>)>>,
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

    /// Returns the addresses, at most some seconds old; older ones if the registry cannot be read.
    pub(crate) async fn get(&self, now: Timestamp) -> Vec<SocketAddr> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, addresses)) = &last
            && now >= *at
            && now.since(*at) < FRESH
        {
            return addresses.clone();
        }
        match self.seeders.running(now).await {
            Ok(running) => {
                let addresses: Vec<_> = running.into_iter().flat_map(|seeder| seeder.addresses).collect();
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, addresses.clone()));
                addresses
            }
            Err(error) => {
                warn!(%error, "seeders not read");
                last.map(|(_, addresses)| addresses).unwrap_or_default()
            }
        }
    }
}
