//! The registration of a running seeder, and its view of the fleet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ports::{Clock, Fleet, FleetMember, RunningSeeder, Seeders, StoreError};
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::session::SeedSession;

/// The interval of registrations, and of reading those of the others.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a registration is valid. A seeder that is silent for longer is replaced, also if the store did not respond for
/// this time.
const KEEP: Duration = Duration::from_secs(20);

/// The timeout for the deregistration when the process stops.
const DEREGISTER: Duration = Duration::from_secs(5);

/// Keeps a seeder in the registry, with its current addresses, and follows what the others register.
pub struct Registration {
    id: Arc<str>,
    weight: u32,
    replicas: u32,
    is_complete: AtomicBool,
    session: Arc<SeedSession>,
    seeders: Arc<dyn Seeders>,
    clock: Arc<dyn Clock>,
    fleet: watch::Sender<Arc<Fleet>>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Registration {
    /// Registers the seeder under a random id.
    pub async fn start(
        session: Arc<SeedSession>,
        seeders: Arc<dyn Seeders>,
        clock: Arc<dyn Clock>,
        settings: &settings::Seeder,
    ) -> Result<Self, StoreError> {
        let registration = Self {
            id: format!("{:032x}", rand::random::<u128>()).into(),
            weight: settings.weight.get_u32(),
            replicas: settings.replicas.get_u32(),
            is_complete: AtomicBool::new(false),
            session,
            seeders,
            clock,
            fleet: watch::Sender::default(),
        };
        registration.register().await?;
        info!(seeder.id = &*registration.id, "seeder registered");
        Ok(registration)
    }

    /// Returns this seeder as a member of the fleet.
    pub fn member(&self) -> FleetMember {
        FleetMember { id: self.id.clone(), fleet: self.fleet.subscribe(), seeders: self.seeders.clone() }
    }

    /// Registers the seeder at an interval and when its addresses change, until `stop` is cancelled. Then deregisters it.
    /// `is_complete` returns whether the seeder has added its share.
    pub async fn keep(self, stop: CancellationToken, is_complete: impl Fn() -> bool + Send) {
        let (mut interval, mut addresses) = (interval(INTERVAL), self.session.addresses());
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                Ok(()) = addresses.changed() => {}
                () = stop.cancelled() => break,
            }
            // Once complete, it stays so: later it lacks only what is being moved to it.
            self.is_complete.fetch_or(is_complete(), Ordering::Relaxed);
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

    /// Registers the seeder once, and reads what the others registered.
    async fn register(&self) -> Result<(), StoreError> {
        let me = RunningSeeder {
            id: self.id.to_string(),
            addresses: self.session.addresses().borrow().clone(),
            torrents: self.session.seeding(),
            weight: self.weight,
            replicas: self.replicas,
            is_complete: self.is_complete.load(Ordering::Relaxed),
        };
        let now = self.clock.now();
        self.seeders.register(&me, now, KEEP).await?;
        let mut seeders = self.seeders.running(now).await?;
        // The store may be behind.
        seeders.retain(|seeder| seeder.id != me.id);
        seeders.push(me);
        seeders.sort_by(|one, two| one.id.cmp(&two.id));
        let (count, fleet) = (seeders.len(), Arc::new(Fleet::new(seeders)));
        let has_changed = self.fleet.send_if_modified(|known| {
            let has_changed = !known.assigns_as(&fleet);
            if has_changed {
                *known = fleet;
            }
            has_changed
        });
        if has_changed {
            info!(seeder.id = &*self.id, seeders = count, "fleet changed");
        }
        Ok(())
    }
}
