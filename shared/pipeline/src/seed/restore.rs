//! The comparison of the seeder's session with the table of torrents: at a start, when the fleet changes, and every few
//! minutes.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::{ContentHash, FetchRequest, InfoHash, Status, TorrentState, Transition};
use futures::StreamExt;
use ports::{Condition, ContentReference, Place, SeedError, Share, StoreError, Task};
use tracing::{error, info, warn};

use super::{AT_ONCE, Seed};
use crate::StepError;
use crate::release::is_referenced;

/// The most torrents in one page.
const PAGE: u32 = 2_000;

/// The interval at which the session is compared with the table of torrents.
const RECONCILE: Duration = Duration::from_secs(300);

/// How long after a change of the fleet the session is compared once more: other seeders may see the change later, and send
/// tasks to the former holders until then.
const SETTLED: Duration = Duration::from_secs(15);

/// So many torrent files may be missing, even if these are most.
const FEW: u64 = 10;

/// The pause while torrents fail, doubled after each try up to [`RECONCILE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);

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
    pub(super) fn health(&self) -> serde_json::Value {
        match self.pending() {
            Some((done, of)) => serde_json::json!({ "restoring": { "done": done, "of": of } }),
            None => serde_json::json!({}),
        }
    }
}

impl Seed {
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
