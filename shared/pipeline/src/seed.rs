//! The seed step: adds torrents to the seeder and removes retired ones.

mod restore;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::{Failure, FailureCode, InfoHash, RequestId, Status, TorrentState, Transition};
use futures::StreamExt;
use ports::{
    Clock, Condition, Contents, FleetMember, Requests, SeedError, Seeder, Share, Stores, Task, TaskQueue, Torrents,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tracing::{error, info, warn};

pub use self::restore::{RestoreProgress, Restored};
use crate::StepError;

/// The most torrents that are added at once.
const AT_ONCE: usize = 64;

/// The interval at which the tasks are taken that other seeders send, how many at once, and how long they wait.
const TAKE: Duration = Duration::from_secs(1);
const TAKEN_AT_ONCE: u32 = 100;
const KEEP_TASKS: Duration = Duration::from_secs(600);

/// The seed step: makes the seeder's session equal to the table of torrents, or to its part of it in a fleet.
///
/// Calls for one torrent run one after another. So the last one finds the table as it is, whatever the order of the tasks.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Seed {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub seeder: Arc<dyn Seeder>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
    /// The seeder's place in a fleet; `None` if it is the only one.
    pub member: Option<FleetMember>,
    /// The progress of [`Seed::restore`].
    pub progress: Arc<RestoreProgress>,
    /// Locked during a call for a torrent, by its infohash.
    locks: Arc<[Mutex<()>; 256]>,
}

impl Seed {
    /// The step on these ports, for a seeder in a fleet or the only one.
    pub fn new(stores: &Stores, seeder: Arc<dyn Seeder>, member: Option<FleetMember>) -> Self {
        Self {
            seeder,
            member,
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            progress: Arc::default(),
            locks: Arc::new(std::array::from_fn(|_| Mutex::default())),
        }
    }

    /// Returns what health says of the seeder: the torrents that are being restored, and its place in the fleet.
    pub fn health(&self) -> Value {
        let mut health = self.progress.health();
        if let Some(member) = &self.member {
            let fleet = member.fleet.borrow().clone();
            let me = fleet.seeders().iter().find(|seeder| *seeder.id == *member.id);
            let is_complete = me.is_some_and(|seeder| seeder.is_complete);
            health["fleet"] = json!({ "id": *member.id, "seeders": fleet.seeders().len(), "is_complete": is_complete });
        }
        health
    }

    /// Handles a task for the seeder, and ignores others.
    async fn handle(&self, task: Task) -> Result<(), StepError> {
        match task {
            Task::Seed(infohash, request) => self.run(infohash, request).await,
            Task::Unseed(infohash) => self.unseed(infohash).await,
            Task::Connect(infohash, peer) => self.connect(infohash, peer).await,
            Task::Fetch(_) | Task::Package(_) | Task::Release(_) | Task::Notify(_) => Ok(()),
        }
    }

    /// Handles a task that any seeder of the fleet may receive: sends it to the holders of the torrent, and handles it here if
    /// this seeder is one. A task to remove a torrent goes to all seeders: former holders may still have it.
    pub async fn dispatch(&self, task: Task) -> Result<(), StepError> {
        let (Task::Seed(infohash, _) | Task::Unseed(infohash) | Task::Connect(infohash, _)) = task else {
            return Ok(());
        };
        let Some(member) = &self.member else { return self.handle(task).await };
        let fleet = member.fleet.borrow().clone();
        let holders = fleet.holders(infohash);
        let to = match task {
            Task::Unseed(_) => fleet.seeders().iter().collect(),
            // A peer needs one connection.
            Task::Connect(..) if self.seeder.has(infohash) => return self.handle(task).await,
            Task::Connect(..) => {
                let complete = holders.iter().find(|seeder| seeder.is_complete);
                complete.or(holders.first()).copied().into_iter().collect()
            }
            _ => holders,
        };
        let (mine, others): (Vec<_>, Vec<_>) = to.into_iter().partition(|seeder| *seeder.id == *member.id);
        let mut result = if mine.is_empty() { Ok(()) } else { self.handle(task).await };
        for seeder in others {
            if let Err(error) = member.seeders.send(&seeder.id, task, self.clock.now(), KEEP_TASKS).await {
                result = Err(error.into());
            }
        }
        result
    }

    /// Handles the tasks that other seeders of the fleet [dispatch](Seed::dispatch). Runs until it is dropped.
    pub async fn handle_dispatched(&self) {
        loop {
            let taken = self.take_dispatched().await.unwrap_or_else(|error| {
                warn!(%error, "tasks of other seeders not taken, trying again");
                0
            });
            if taken < TAKEN_AT_ONCE as usize {
                // The interval of the look-ups.
                tokio::time::sleep(TAKE).await;
            }
        }
    }

    /// Handles the tasks that other seeders have dispatched by now, or the first of them. Returns how many.
    pub async fn take_dispatched(&self) -> Result<usize, StepError> {
        let Some(member) = &self.member else { return Ok(0) };
        let tasks = member.seeders.take_tasks(&member.id, TAKEN_AT_ONCE).await?;
        let count = tasks.len();
        let handled = tasks.into_iter().map(|task| async move {
            let handled = match task {
                // The seeder that received the task deletes the torrent.
                Task::Unseed(infohash) => self.remove_retired(infohash).await,
                task => self.handle(task).await,
            };
            if let Err(error) = handled {
                // The sweep sends a task for a request again, and the next comparison finds a torrent.
                warn!(?task, %error, "task of another seeder failed");
            }
        });
        futures::stream::iter(handled).buffer_unordered(AT_ONCE).collect::<()>().await;
        Ok(count)
    }

    async fn lock(&self, infohash: InfoHash) -> MutexGuard<'_, ()> {
        // By the last byte: neighbours in the order of infohashes do not share a lock.
        self.locks[usize::from(infohash.as_bytes()[19])].lock().await
    }

    /// Seeds a torrent, and makes `request` ready, which waits for it.
    pub async fn run(&self, infohash: InfoHash, request: Option<RequestId>) -> Result<(), StepError> {
        let _lock = self.lock(infohash).await;
        let now = self.clock.now();
        let transition = match self.seed(infohash).await {
            Ok(true) => Transition::seeded(),
            Ok(false) => Transition::repackage(now),
            Err(StepError::Seeder(SeedError::Refused(why))) => {
                error!(%infohash, why, "torrent refused by the seeder");
                let failure = Failure::new(FailureCode::SeedingFailed, "the seeder refused the torrent");
                Transition::seeding_failed(failure, now)
            }
            Err(error) => return Err(error),
        };
        let Some(id) = request else { return Ok(()) };
        let applied = self.requests.apply(id, Condition::HasTorrent(infohash), &transition, now).await?;
        let Some(row) = applied.done() else { return Ok(()) };
        match (row.status, &row.failure) {
            (Status::Packaging, _) => return Ok(self.tasks.enqueue(Task::Package(id), Duration::ZERO).await?),
            (Status::Failed, Some(failure)) => crate::metrics::failed("seed", failure.code, false),
            _ => crate::metrics::ready(),
        }
        info!(request.id = %id, %infohash, status = %row.status, "seeding ended");
        if !row.receivers.is_empty() {
            self.tasks.enqueue_for(Share::from(&row), Task::Notify(id), Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Adds a torrent to the session. Returns whether it could; if not, it must be packaged again.
    async fn seed(&self, infohash: InfoHash) -> Result<bool, StepError> {
        if !self.seeder.has(infohash) {
            let Some((metainfo, content)) = self.torrents.metainfo(infohash).await? else { return Ok(false) };
            self.seeder.add(infohash, content, &metainfo).await?;
        }
        if self.torrents.mark_seeding(infohash).await? {
            return Ok(true);
        }
        // Retired, or not recorded yet.
        self.seeder.remove(infohash).await?;
        Ok(false)
    }

    /// Removes a retired torrent from the session and deletes it.
    pub async fn unseed(&self, infohash: InfoHash) -> Result<(), StepError> {
        let _lock = self.lock(infohash).await;
        let torrent = self.torrents.get(infohash).await?;
        // A deleted record may have left files behind.
        if torrent.is_none_or(|torrent| torrent.state == TorrentState::Retired) {
            self.seeder.remove(infohash).await?;
            self.torrents.purge(infohash).await?;
        }
        Ok(())
    }

    /// Connects the seeder to a peer that downloads a torrent.
    pub async fn connect(&self, infohash: InfoHash, peer: SocketAddr) -> Result<(), StepError> {
        Ok(self.seeder.connect(infohash, peer).await?)
    }

    /// Removes a torrent from the session if it is retired or deleted.
    async fn remove_retired(&self, infohash: InfoHash) -> Result<(), StepError> {
        let _lock = self.lock(infohash).await;
        let torrent = self.torrents.get(infohash).await?;
        if torrent.is_none_or(|torrent| torrent.state == TorrentState::Retired) {
            self.seeder.remove(infohash).await?;
        }
        Ok(())
    }
}
