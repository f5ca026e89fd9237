//! The registration of a running seeder, and its view of the fleet.

use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use ports::{Clock, Fleet, FleetMember, RunningSeeder, Seeders, StoreError};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::sessions::SeedSessions;

/// The interval of registrations, and of reading those of the others; also the timeout of each.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a registration is valid. A seeder that is silent for longer is replaced.
const KEEP: Duration = Duration::from_secs(30);

/// The timeout for the deregistration when the process stops.
const DEREGISTER: Duration = Duration::from_secs(5);

/// Keeps a seeder in the registry, with its current endpoints, and follows what the others register.
pub struct Registration {
    id: Arc<str>,
    weight: u32,
    replicas: u32,
    sessions: Arc<SeedSessions>,
    seeders: Arc<dyn Seeders>,
    clock: Arc<dyn Clock>,
    fleet: watch::Sender<Arc<Fleet>>,
    /// When the last registration succeeded.
    registered_at: Option<Timestamp>,
    /// Until when the absence of others is not believed.
    recovering_until: Option<Timestamp>,
    /// The seeder is complete after more passes than these.
    incomplete_passes: u64,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Registration {
    /// Registers the seeder under a random id.
    pub async fn start(
        sessions: Arc<SeedSessions>,
        seeders: Arc<dyn Seeders>,
        clock: Arc<dyn Clock>,
        settings: &settings::Seeder,
    ) -> Result<Self, StoreError> {
        let mut registration = Self {
            id: format!("{:032x}", rand::random::<u128>()).into(),
            weight: settings.weight.get_u32(),
            replicas: settings.replicas.get_u32(),
            sessions,
            seeders,
            clock,
            fleet: watch::Sender::default(),
            registered_at: None,
            recovering_until: None,
            incomplete_passes: 0,
        };
        registration.register(0).await?;
        info!(seeder.id = &*registration.id, "seeder registered");
        Ok(registration)
    }

    /// Returns this seeder as a member of the fleet.
    pub fn member(&self) -> FleetMember {
        FleetMember { id: self.id.clone(), fleet: self.fleet.subscribe(), seeders: self.seeders.clone() }
    }

    /// Registers the seeder at an interval and when its endpoints change, until `stop` is cancelled. Then deregisters it.
    /// `passes` returns how often the seeder has added all torrents that are assigned to it.
    pub async fn keep(mut self, stop: CancellationToken, passes: impl Fn() -> u64 + Send) {
        let (mut interval, mut endpoints) = (interval(INTERVAL), self.sessions.endpoints());
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                Ok(()) = endpoints.changed() => {}
                () = stop.cancelled() => break,
            }
            if let Some(Err(error)) = stop.run_until_cancelled(self.register(passes())).await {
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
    async fn register(&mut self, passes: u64) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.registered_at.is_some_and(|at| now.since(at) >= KEEP) {
            // The others have replaced it, and may be back before it sees them. What it has may be out of date: it is complete
            // after the pass that may be running now and the next one.
            warn!(seeder.id = &*self.id, "registration had expired");
            self.incomplete_passes = passes + 1;
            self.recovering_until = Some(now + KEEP);
        }
        let me = RunningSeeder {
            id: self.id.to_string(),
            endpoints: self.sessions.endpoints().borrow().clone(),
            torrents: self.sessions.seeding(),
            weight: self.weight,
            replicas: self.replicas,
            is_complete: passes > self.incomplete_passes,
        };
        in_time(self.seeders.register(&me, now, KEEP)).await?;
        self.registered_at = Some(now);
        let mut seeders = in_time(self.seeders.running(now)).await?;
        // The store may be behind.
        seeders.retain(|seeder| seeder.id != me.id);
        seeders.push(me);
        if self.recovering_until.is_some_and(|until| now < until) {
            let known = self.fleet.borrow().clone();
            let absent = known.seeders().iter().filter(|known| seeders.iter().all(|seeder| seeder.id != known.id));
            let absent: Vec<_> = absent.cloned().collect();
            seeders.extend(absent);
        }
        seeders.sort_by(|one, two| one.id.cmp(&two.id));
        let (count, fleet) = (seeders.len(), Arc::new(Fleet::new(seeders)));
        let has_changed = self.fleet.send_if_modified(|known| {
            let has_changed = !known.shares_as(&fleet);
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

/// Waits for a call of the registry until the next one is due.
async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(INTERVAL, call)
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable("the registry", "no response in time")))
}

#[cfg(test)]
mod tests {
    use embedded::{Database, DatabaseOptions, FolderContents, MemorySeeders, SpaceLimits, SqliteStatistics};
    use ports::{Endpoints, ManualClock};

    use super::*;
    use crate::reader::Reader;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn other(is_complete: bool) -> RunningSeeder {
        RunningSeeder {
            id: "other".into(),
            endpoints: Endpoints::default(),
            torrents: 0,
            weight: 1,
            replicas: 1,
            is_complete,
        }
    }

    /// It may lack what was added meanwhile, and a registry that was unreachable for all forgets all.
    #[tokio::test]
    async fn a_seeder_whose_registration_expired_is_incomplete_and_waits_for_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings::Settings::from_pairs([
            ("PROFILE", "development"),
            ("SEEDER__LISTEN", "127.0.0.1:0"),
            ("SEEDER__REPLICAS", "1"),
        ]);
        let settings = settings.unwrap();
        let contents = FolderContents::open(folder.path().join("content"), SpaceLimits::default()).unwrap();
        let database = Database::open(&folder.path().join("db"), DatabaseOptions::default()).await.unwrap();
        let (reader, statistics) = (Reader::local(Arc::new(contents)), Arc::new(SqliteStatistics::new(database)));
        let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, statistics).await.unwrap();
        let sessions = Arc::new(sessions);
        let (seeders, clock) = (Arc::new(MemorySeeders::default()), Arc::new(ManualClock::at(NOW)));
        seeders.register(&other(true), NOW, KEEP).await.unwrap();
        let registration =
            Registration::start(sessions.clone(), seeders.clone(), clock.clone(), &settings.seeder).await;
        let mut registration = registration.unwrap();
        let mut fleet = registration.member().fleet;
        let seen = |fleet: &watch::Receiver<Arc<Fleet>>| {
            let fleet = fleet.borrow().clone();
            let mine = fleet.seeders().iter().find(|seeder| seeder.id != "other").unwrap();
            (fleet.seeders().len(), mine.is_complete)
        };
        assert_eq!(seen(&fleet), (2, false));
        registration.register(1).await.unwrap();
        assert_eq!(seen(&fleet), (2, true));

        fleet.mark_unchanged();
        clock.advance(KEEP);
        registration.register(1).await.unwrap();
        assert!(fleet.has_changed().unwrap(), "a pass must run");
        assert_eq!(seen(&fleet), (2, false), "the other one is still expected");
        let running = seeders.running(clock.now()).await.unwrap();
        assert_eq!((running.len(), running[0].is_complete), (1, false));
        // One pass may have started before.
        registration.register(2).await.unwrap();
        assert_eq!(seen(&fleet), (2, false));
        registration.register(3).await.unwrap();
        assert_eq!(seen(&fleet), (2, true));
        clock.advance(KEEP / 2);
        registration.register(3).await.unwrap();
        clock.advance(KEEP / 2);
        registration.register(3).await.unwrap();
        assert_eq!(seen(&fleet), (1, true), "the other one is gone");
        sessions.stop().await;
    }
}
