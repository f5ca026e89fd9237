//! The scrub: finds contents that are damaged or gone, and has their requests fetch them again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use domain::{ContentHash, FetchRequest, InfoHash, RequestId, Status, Torrent, TorrentState, Transition};
use ports::{Clock, Condition, Contents, Requests, Share, StoreError, Stores, Task, TaskQueue, Torrents};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use crate::StepError;

/// Bytes that are read and hashed at a time.
const CHUNK: usize = 1024 * 1024;

/// Torrents in one page, and requests of one content that are restored at a time.
const PAGE: u32 = 500;

/// How often every content is looked for.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(600);

/// The least time from the start of one pass over all contents to the next.
const PASS_INTERVAL: Duration = Duration::from_secs(3600);

/// So many contents may be missing at once before their share counts.
const FEW: usize = 10;

/// Verifies the stored contents of live torrents.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Scrub {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
    /// Bytes a second that are read to look for damage; `None`: contents are only looked for, and read when a read fails.
    pub rate: Option<u64>,
    /// Whether contents are read over a network. Then a failed read is no damage, and a content is damaged only if it is
    /// twice: bytes may be damaged on their way, and such a store deletes what is quarantined.
    pub is_remote: bool,
    pub findings: Arc<ScrubFindings>,
}

/// What a scrub has found since the start.
#[derive(Debug, Default)]
pub struct ScrubFindings {
    damaged: AtomicU64,
    /// Held while a content is taken out of use: a failed read and a pass may find the same one.
    restoring: Mutex<()>,
    mostly_missing: AtomicBool,
}

impl ScrubFindings {
    /// Contents that were damaged or gone.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether most contents are missing, as when another disk is mounted: then nothing is fetched again.
    pub fn is_mostly_missing(&self) -> bool {
        self.mostly_missing.load(Ordering::Relaxed)
    }
}

impl Scrub {
    /// The scrub on these ports, at the rate of `STORAGE__SCRUB`.
    pub fn new(stores: &Stores, storage: &settings::Storage) -> Self {
        Self {
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            rate: Some(storage.scrub.get()).filter(|rate| *rate > 0),
            is_remote: false,
            findings: Arc::default(),
        }
    }

    /// Looks for all contents every ten minutes, reads them at the configured rate, and verifies at once what could not
    /// be read. Runs until it is dropped.
    pub async fn run(&self) {
        report("presence", self.check_presence().await);
        let presence = async {
            loop {
                // The interval of the passes.
                sleep(PRESENCE_INTERVAL).await;
                report("presence", self.check_presence().await);
            }
        };
        let reading = async {
            let Some(rate) = self.rate else { return };
            loop {
                let next = Instant::now() + PASS_INTERVAL;
                report("read", self.read_all(rate).await);
                sleep_until(next).await;
            }
        };
        tokio::join!(presence, reading, self.verify_reported());
    }

    /// Verifies the contents that are [reported](Contents::report_unreadable). Runs until it is dropped.
    pub async fn verify_reported(&self) {
        loop {
            let content = self.contents.unreadable().await;
            report("verify", self.verify(content, self.rate).await);
        }
    }

    /// Verifies a content and restores it if it is damaged or gone. `rate` is the most bytes a second that are read.
    pub async fn verify(&self, content: ContentHash, rate: Option<u64>) -> Result<(), StepError> {
        if self.findings.is_mostly_missing() {
            return Ok(());
        }
        let Some(torrent) = self.live_torrents(content).await?.pop() else { return Ok(()) };
        if self.contents.size(content).await? == Some(torrent.size) {
            for _ in 0..if self.is_remote { 2 } else { 1 } {
                match self.hash(content, torrent.size, rate).await {
                    Ok(hash) if hash == content => return Ok(()),
                    Ok(_) | Err(StepError::Store(StoreError::NotFound { .. })) => {}
                    Err(error) if self.is_remote => return Err(error),
                    Err(error) => warn!(content.hash = %content, %error, "content cannot be read"),
                }
            }
        }
        // A disk that is away is no damage. A full one is: the bytes are wrong all the same.
        match self.contents.check().await {
            Err(error) if !error.is_full() => Err(error.into()),
            _ => self.restore(content).await,
        }
    }

    async fn live_torrents(&self, content: ContentHash) -> Result<Vec<Torrent>, StepError> {
        let mut torrents = self.torrents.of_content(content).await?;
        torrents.retain(|torrent| torrent.state != TorrentState::Retired);
        Ok(torrents)
    }

    /// Looks for every content of a live torrent. Only presence and size are checked.
    async fn check_presence(&self) -> Result<(), StepError> {
        let (mut missing, mut seen, mut after) = (vec![], 0_usize, None);
        loop {
            let page = self.torrents.live(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.infohash);
            seen += page.len();
            for torrent in page {
                if self.contents.size(torrent.content_hash).await? != Some(torrent.size) {
                    missing.push(torrent.content_hash);
                }
            }
        }
        let mostly_missing = missing.len() > FEW && missing.len() * 2 > seen;
        self.findings.mostly_missing.store(mostly_missing, Ordering::Relaxed);
        if mostly_missing {
            error!(missing = missing.len(), contents = seen, "most contents are missing: check STORAGE__CONTENT_PATH");
            return Ok(());
        }
        for content in missing {
            self.verify(content, self.rate).await?;
        }
        Ok(())
    }

    /// Reads the contents of all live torrents once, from a random one on, so that short runs reach all of them.
    async fn read_all(&self, rate: u64) -> Result<(), StepError> {
        let first = InfoHash::new(rand::random());
        let (mut after, mut wrapped, mut read) = (Some(first), false, 0_u64);
        loop {
            let page = self.torrents.live(after, PAGE).await?;
            for torrent in &page {
                if wrapped && torrent.infohash > first {
                    info!(contents = read, "scrub finished a pass");
                    return Ok(());
                }
                self.verify(torrent.content_hash, Some(rate)).await?;
                read += 1;
            }
            after = match page.last() {
                Some(last) => Some(last.infohash),
                None if wrapped => return Ok(()),
                None => {
                    wrapped = true;
                    None
                }
            };
        }
    }

    async fn hash(&self, content: ContentHash, size: u64, rate: Option<u64>) -> Result<ContentHash, StepError> {
        let (mut hasher, mut offset, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
        while offset < size {
            let length = usize::try_from(size - offset).map_or(CHUNK, |rest| rest.min(CHUNK));
            self.contents.read_at(content, offset, &mut buffer[..length]).await?;
            hasher.update(&buffer[..length]);
            offset += length as u64;
            metrics::counter!("proxytorrent_scrubbed_bytes_total").increment(length as u64);
            if let Some(rate) = rate {
                // Keeps the configured rate.
                sleep(Duration::from_secs_f64(length as f64 / rate as f64)).await;
            }
        }
        Ok(ContentHash::new(hasher.finalize().into()))
    }

    /// Takes a damaged content out of use: its bytes, its torrents, and the ready requests, which fetch it again.
    async fn restore(&self, content: ContentHash) -> Result<(), StepError> {
        let _restoring = self.findings.restoring.lock().await;
        let torrents = self.live_torrents(content).await?;
        if torrents.is_empty() {
            return Ok(());
        }
        error!(content.hash = %content, "stored content is damaged or gone");
        metrics::counter!("proxytorrent_content_corrupt_total").increment(1);
        self.findings.damaged.fetch_add(1, Ordering::Relaxed);
        self.contents.quarantine(content).await?;
        loop {
            let ids = self.requests.ready_requests_of(content, PAGE).await?;
            let mut changed = false;
            for id in ids {
                changed |= self.restore_request(id, content).await?;
            }
            // An index may name rows that have moved on.
            if !changed {
                break;
            }
        }
        for torrent in torrents {
            if self.torrents.retire(torrent.infohash, torrent.version, self.clock.now()).await? {
                self.tasks.enqueue(Task::Unseed(torrent.infohash), Duration::ZERO).await?;
            }
        }
        Ok(())
    }

    /// Has a ready request fetch its content again. Returns whether it was ready.
    async fn restore_request(&self, id: RequestId, content: ContentHash) -> Result<bool, StepError> {
        let refers = |row: &FetchRequest| {
            row.status == Status::Ready && row.content.as_ref().is_some_and(|stored| stored.hash == content)
        };
        let Some(seen) = self.requests.get(id).await?.filter(refers) else { return Ok(false) };
        let now = self.clock.now();
        let lost = Transition::lose_content(&seen, now);
        let Some(row) = self.requests.apply(id, Condition::Unchanged(&seen), &lost, now).await?.done() else {
            return Ok(false);
        };
        let share = Share::from(&row);
        if row.status == Status::Queued {
            warn!(request.id = %id, content.hash = %content, "content lost, request is fetched again");
            self.tasks.enqueue_for(share, Task::Fetch(id), Duration::ZERO).await?;
            return Ok(true);
        }
        warn!(request.id = %id, content.hash = %content, "content lost, request failed");
        if let Some(failure) = &row.failure {
            crate::metrics::failed("scrub", failure.code, false);
        }
        self.tasks.enqueue_for(share.clone(), Task::Release(id), Duration::ZERO).await?;
        if !row.receivers.is_empty() {
            self.tasks.enqueue_for(share, Task::Notify(id), Duration::ZERO).await?;
        }
        Ok(true)
    }
}

fn report(pass: &'static str, result: Result<(), StepError>) {
    if let Err(error) = result {
        error!(pass, %error, "scrub failed, will retry");
    }
}
