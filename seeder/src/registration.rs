//! The registration of a running seeder.

use std::sync::Arc;
use std::time::Duration;

use ports::{Clock, RunningSeeder, Seeders, StoreError};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::session::SeedSession;

/// The interval of registrations.
const INTERVAL: Duration = Duration::from_secs(15);

/// How long a registration is valid.
const KEEP: Duration = Duration::from_secs(60);

/// The timeout for the deregistration when the process stops.
const DEREGISTER: Duration = Duration::from_secs(5);

/// Keeps a seeder in the registry, with its current addresses.
pub struct Registration {
    id: String,
    session: Arc<SeedSession>,
    seeders: Arc<dyn Seeders>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Registration {
    /// A registration under a random id.
    pub fn new(session: Arc<SeedSession>, seeders: Arc<dyn Seeders>, clock: Arc<dyn Clock>) -> Self {
        Self { id: format!("{:032x}", rand::random::<u128>()), session, seeders, clock }
    }

    /// Registers the seeder once.
    pub async fn register(&self) -> Result<(), StoreError> {
        let addresses = self.session.addresses().borrow().clone();
        let seeder = RunningSeeder { id: self.id.clone(), addresses, torrents: self.session.seeding() };
        self.seeders.register(&seeder, self.clock.now(), KEEP).await
    }

    /// Registers the seeder at an interval and when its addresses change, until `stop` is cancelled. Then deregisters it.
    pub async fn keep(self, stop: CancellationToken) {
        info!(seeder.id = self.id, "seeder registered");
        let (mut interval, mut addresses) = (interval(INTERVAL), self.session.addresses());
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                Ok(()) = addresses.changed() => {}
                () = stop.cancelled() => break,
            }
            if let Some(Err(error)) = stop.run_until_cancelled(self.register()).await {
                warn!(%error, "seeder not registered, trying again");
            }
        }
        match timeout(DEREGISTER, self.seeders.deregister(&self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "seeder not deregistered, its registration expires"),
            Err(_) => warn!("seeder not deregistered in time, its registration expires"),
        }
    }
}
