//! The seed step: adds torrents to the seeder and removes retired ones.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::{ContentHash, Failure, FailureCode, FetchRequest, InfoHash, RequestId, Status, TorrentState, Transition};
use futures::StreamExt;
use ports::{
    Clock, Condition, ContentReference, Contents, FleetMember, Place, Requests, SeedError, Seeder, Share, StoreError,
    Stores, Task, TaskQueue, Torrents,
};
use tokio::sync::{Mutex, MutexGuard};
use tracing::{error, info, warn};

use crate::StepError;
use crate::release::is_referenced;

/// The most torrents in one page, and the most that are added at once, when the session is restored.
const PAGE: u32 = 2_000;
const AT_ONCE: usize = 64;

/// The interval at which the session is compared with the table of torrents.
const RECONCILE: Duration = Duration::from_secs(300);

/// How long after a change of the fleet the session is compared once more: other seeders may see the change later, and send
/// tasks to the former holders until then.
const SETTLED: Duration = Duration::from_secs(15);

/// So many torrent files may be missing, even if these are most.
const FEW: u64 = 10;

/// The pause while torrents fail, doubled after each try up to [`RECONCILE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);

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

/// The result of [`Seed::restore`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Torrents that were added.
    pub added: u64,
    /// Torrents that could not be added because of an error that may pass.
    pub failed: u64,
    /// Torrents that were removed because other seeders have them.
    pub removed: u64,
}

/// A torrent that a comparison looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Added,
    /// The session has it already, or refuses it.
    NotNeeded,
    /// Its file is gone.
    Lost,
}

/// How many torrents a start has added to the session again.
#[derive(Debug, Default)]
pub struct RestoreProgress {
    done: AtomicU64,
    all: AtomicU64,
    ended: AtomicBool,
    passes: AtomicU64,
}

impl RestoreProgress {
    /// Returns how many torrents are done, and of how many; `None` if none failed in the last pass. Both are 0 until the
    /// torrents are listed.
    pub fn pending(&self) -> Option<(u64, u64)> {
        let (done, all) = (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        (!self.ended.load(Ordering::Relaxed)).then_some((done, all))
    }

    /// Returns how many passes have added all assigned torrents, or all but one in a hundred: single ones may fail for long.
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// Returns what health says of it: an object that is empty when all are done.
    pub fn health(&self) -> serde_json::Value {
        match self.pending() {
            Some((done, of)) => serde_json::json!({ "restoring": { "done": done, "of": of } }),
            None => serde_json::json!({}),
        }
    }
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
        if row.spec.callback_url.is_some() {
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

    /// Makes the session equal to the table, or to this seeder's part of it: adds every torrent after a start, and later what
    /// a lost task or an unreadable file left out or what is assigned to this seeder now; then removes what is retired, or
    /// has other holders now and no connected peers. A torrent that fails does not stop the others. Ends early when the fleet
    /// changes.
    pub async fn restore(&self) -> Result<Restored, StepError> {
        let mut fleet = self.member.as_ref().map(|member| (member.id.clone(), member.fleet.clone()));
        let mut live = HashMap::new();
        let mut missing = vec![];
        let (mut assigned, mut after) = (0_u64, None);
        loop {
            let page = self.torrents.live(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.infohash);
            let seen = fleet.as_mut().map(|(id, fleet)| (&*id, fleet.borrow_and_update().clone()));
            for torrent in page {
                let place = seen.as_ref().map_or(Place::Assigned, |(id, fleet)| fleet.place(id, torrent.infohash));
                live.insert(torrent.infohash, place);
                assigned += u64::from(place == Place::Assigned);
                if place == Place::Assigned && !self.seeder.has(torrent.infohash) {
                    missing.push((torrent.infohash, torrent.content_hash));
                }
            }
        }
        self.progress.done.store(0, Ordering::Relaxed);
        self.progress.all.store(missing.len() as u64, Ordering::Relaxed);
        let not_seeded = metrics::gauge!("proxytorrent_torrents_not_seeded");
        not_seeded.set(u32::try_from(missing.len()).unwrap_or(u32::MAX));
        let not_seeded = &not_seeded;
        let restoring = missing.into_iter().map(|(infohash, content)| async move {
            let found = self.restore_one(infohash, content).await;
            if found.as_ref().is_ok_and(|found| *found != Found::Lost) {
                self.progress.done.fetch_add(1, Ordering::Relaxed);
                if self.seeder.has(infohash) {
                    not_seeded.decrement(1);
                }
            }
            (infohash, content, found)
        });
        let (mut restored, mut lost) = (Restored::default(), vec![]);
        let mut results = futures::stream::iter(restoring).buffer_unordered(AT_ONCE);
        while let Some((infohash, content, found)) = results.next().await {
            match found {
                Ok(Found::Added) => restored.added += 1,
                Ok(Found::NotNeeded) => {}
                Ok(Found::Lost) => lost.push((infohash, content)),
                Err(error) => {
                    warn!(%infohash, %error, "torrent not restored, trying again later");
                    restored.failed += 1;
                }
            }
            if fleet.as_ref().is_some_and(|(_, fleet)| fleet.has_changed().unwrap_or_default()) {
                return Ok(restored);
            }
        }
        restored.failed += self.repair(lost, assigned).await;
        restored.removed = self.remove_others(&live).await;
        self.progress.ended.store(restored.failed == 0, Ordering::Relaxed);
        if restored.failed <= (assigned / 100).max(1) {
            self.progress.passes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(restored)
    }

    /// Removes the torrents that are not live, and the live ones that other seeders hold. Returns how many of the latter.
    async fn remove_others(&self, live: &HashMap<InfoHash, Place>) -> u64 {
        let held = self.seeder.all().into_iter();
        let others = held.filter(|infohash| live.get(infohash).is_none_or(|place| *place == Place::Other));
        let removing = others.map(|infohash| async move {
            let removed = if live.contains_key(&infohash) {
                let _lock = self.lock(infohash).await;
                self.seeder.remove_if_unused(infohash).await.map_err(StepError::from)
            } else {
                self.remove_retired(infohash).await.map(|()| false)
            };
            removed.unwrap_or_else(|error| {
                warn!(%infohash, %error, "torrent not removed, trying again later");
                false
            })
        });
        let removed = futures::stream::iter(removing).buffer_unordered(AT_ONCE);
        removed.filter(|removed| std::future::ready(*removed)).count().await as u64
    }

    /// Makes the session equal to the table at a start, and again every few minutes. Runs until it is dropped.
    pub async fn keep_restored(&self) {
        let (mut is_first, mut pause) = (true, FIRST_PAUSE);
        let mut fleet = self.member.as_ref().map(|member| member.fleet.clone());
        let mut has_changed = fleet.is_some();
        loop {
            let started = Instant::now();
            if let Some(fleet) = &mut fleet {
                fleet.mark_unchanged();
            }
            let is_complete = match self.restore().await {
                Ok(Restored { added, failed, removed }) => {
                    if is_first || added > 0 || failed > 0 || removed > 0 {
                        let duration_ms = started.elapsed().as_millis();
                        info!(torrents = added, failed, removed, duration_ms, "torrents restored");
                    }
                    is_first = false;
                    failed == 0
                }
                Err(error) => {
                    error!(%error, "torrents not restored, trying again");
                    false
                }
            };
            pause = if is_complete { FIRST_PAUSE } else { (2 * pause).min(RECONCILE) };
            let next = match (is_complete, has_changed) {
                (false, _) => pause,
                (true, true) => SETTLED,
                (true, false) => RECONCILE,
            };
            let fleet_changes = async {
                let changed = match &mut fleet {
                    Some(fleet) => fleet.changed().await.is_ok(),
                    None => false,
                };
                if !changed {
                    pending::<()>().await;
                }
            };
            has_changed = tokio::select! {
                // The next comparison, or the next try of what failed.
                () = tokio::time::sleep(next) => false,
                () = fleet_changes => true,
            };
        }
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

    /// Repairs torrents whose files are gone, unless most are, as when another disk is mounted. Returns how many are not
    /// repaired yet.
    async fn repair(&self, lost: Vec<(InfoHash, ContentHash)>, assigned: u64) -> u64 {
        let count = lost.len() as u64;
        if count > FEW && count * 2 > assigned {
            error!(missing = count, torrents = assigned, "most torrent files are missing: check STORAGE__TORRENT_PATH");
            return count;
        }
        let mut failed = 0;
        for (infohash, content) in lost {
            if let Err(error) = self.repair_lost_torrent(infohash, content).await {
                warn!(%infohash, %error, "torrent not restored, trying again later");
                failed += 1;
            }
        }
        failed
    }

    /// Repairs a live torrent whose file is gone: one of its ready requests is packaged again, which stores the file.
    /// If the content is gone, too, it is reported. A torrent without requests is deleted. Returns an error while the
    /// torrent must still be seeded.
    async fn repair_lost_torrent(&self, infohash: InfoHash, content: ContentHash) -> Result<(), StepError> {
        let _lock = self.lock(infohash).await;
        let Some(torrent) = self.torrents.get(infohash).await? else { return Ok(()) };
        if torrent.state == TorrentState::Retired {
            return Ok(());
        }
        let lost = StepError::from(StoreError::not_found("the file of the torrent", infohash));
        if self.contents.size(content).await?.is_none() {
            self.contents.report_unreadable(content);
            return Err(lost);
        }
        let references = self.requests.references(content).await?;
        if references.contains(&ContentReference::Packaging) {
            // It may be the one that stores the file.
            return Err(lost);
        }
        let now = self.clock.now();
        if !is_referenced(&torrent, &references) {
            let seen = now - self.requests.max_staleness();
            if self.torrents.retire(infohash, torrent.version, seen).await? {
                warn!(%infohash, "torrent retired, it has no requests and no file");
                return Ok(self.tasks.enqueue(Task::Unseed(infohash), Duration::ZERO).await?);
            }
            return Err(lost);
        }
        for id in self.requests.ready_requests_of(content, PAGE).await? {
            let is_of = |row: &FetchRequest| row.status == Status::Ready && row.infohash == Some(infohash);
            let Some(seen) = self.requests.get(id).await?.filter(is_of) else { continue };
            let repackage = Transition::repackage(now);
            let applied = self.requests.apply(id, Condition::Unchanged(&seen), &repackage, now).await?;
            if let Some(row) = applied.done() {
                error!(%infohash, request.id = %id, "the file of a torrent is gone, its request is packaged again");
                self.tasks.enqueue_for(Share::from(&row), Task::Package(id), Duration::ZERO).await?;
            }
            // If not, another seeder has been faster.
            break;
        }
        Err(lost)
    }

    async fn restore_one(&self, infohash: InfoHash, content: ContentHash) -> Result<Found, StepError> {
        let _lock = self.lock(infohash).await;
        if self.seeder.has(infohash) {
            return Ok(Found::NotNeeded);
        }
        let Some(metainfo) = self.torrents.metainfo_file(infohash).await? else { return Ok(Found::Lost) };
        match self.seeder.add(infohash, content, &metainfo).await {
            Ok(()) => Ok(Found::Added),
            Err(SeedError::Refused(why)) => {
                error!(%infohash, why, "torrent refused by the seeder");
                Ok(Found::NotNeeded)
            }
            Err(error) => Err(error.into()),
        }
    }
}
