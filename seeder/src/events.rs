//! The task that handles libtorrent's events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtorrent_sys::{Event, EventKind, Session, Statistics};
use ports::SeedError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, interval_at, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::listen::Opened;
use crate::lock::lock;
use crate::traffic::Traffic;
use crate::uploads::Uploads;

/// The interval at which statistics are read, and memory that was queued for hostile peers is returned to the system.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);

/// The timeout for saving the statistics at shutdown.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// The callers that wait until libtorrent has added a torrent, by infohash.
pub(crate) type Waiting = Mutex<HashMap<String, Vec<oneshot::Sender<Result<(), SeedError>>>>>;

/// The task that handles libtorrent's events.
pub(crate) struct Events {
    pub session: Arc<Session>,
    pub notify: Arc<Notify>,
    pub waiting: Arc<Waiting>,
    pub statistics: Arc<Mutex<Statistics>>,
    pub uploads: Uploads,
    pub traffic: Option<Arc<Traffic>>,
    /// Receives the results of opening listen sockets.
    pub opened: mpsc::Sender<Opened>,
}

impl Events {
    /// Handles the events in `early` and all that follow, until `stopping` is cancelled. Then saves the statistics.
    pub async fn run(mut self, early: Vec<Event>, save_interval: Duration, stopping: CancellationToken) {
        for event in early {
            self.take(event);
        }
        let mut save = interval_at(Instant::now() + save_interval, save_interval);
        let mut upkeep = interval(UPKEEP);
        loop {
            tokio::select! {
                _ = upkeep.tick() => {
                    libtorrent_sys::release_memory();
                    self.session.request_statistics();
                }
                () = self.notify.notified() => self.take_all(),
                // On a task of its own: a slow store must not delay the events.
                _ = save.tick() => {
                    let unsaved = self.uploads.unsaved();
                    drop(tokio::spawn(async move { unsaved.save().await }));
                }
                () = stopping.cancelled() => break,
            }
        }
        let deadline = Instant::now() + LAST_SAVE;
        if timeout_at(deadline, self.last_save()).await.is_err() {
            warn!(deadline_seconds = LAST_SAVE.as_secs(), "statistics not saved in time, some uploads are not counted");
        }
    }

    async fn last_save(&mut self) {
        let session = self.session.clone();
        match spawn_blocking(move || session.uploads()).await {
            Ok(Ok(events)) => events.into_iter().for_each(|event| self.take(event)),
            Ok(Err(error)) => error!(%error, "upload counters not read"),
            Err(error) => error!(%error, "upload counters not read"),
        }
        self.uploads.unsaved().save().await;
    }

    /// Handles all pending events.
    fn take_all(&mut self) {
        match self.session.take_events() {
            Ok(events) => events.into_iter().for_each(|event| self.take(event)),
            Err(error) => error!(%error, "libtorrent events not read"),
        }
    }

    fn take(&mut self, event: Event) {
        match event.kind {
            EventKind::Added | EventKind::AddedAlready => self.answer(&event.infohash, &Ok(())),
            EventKind::AddFailed => self.answer(&event.infohash, &Err(SeedError::Refused(event.message))),
            EventKind::Removed => {
                if let Ok(infohash) = event.infohash.parse() {
                    self.uploads.removed(infohash);
                }
            }
            EventKind::TorrentStatistics => {
                if let Ok(infohash) = event.infohash.parse() {
                    let more = self.uploads.count(infohash, event.statistics.uploaded_bytes);
                    if let Some(traffic) = &self.traffic {
                        traffic.count(infohash, more, event.statistics.peers);
                    }
                }
            }
            EventKind::Statistics => {
                let before = std::mem::replace(&mut *lock(&self.statistics), event.statistics);
                let more = event.statistics.uploaded_bytes.saturating_sub(before.uploaded_bytes);
                metrics::counter!("proxytorrent_uploaded_bytes_total").increment(more);
            }
            // Nobody waits for the results of sockets that libtorrent opens by itself.
            EventKind::Listening => drop(self.opened.try_send(Opened { port: event.port, result: Ok(()) })),
            EventKind::ListenFailed => {
                error!(port = event.port, message = event.message, "listen socket failed");
                drop(self.opened.try_send(Opened { port: event.port, result: Err(event.message) }));
            }
            EventKind::TorrentError => {
                error!(infohash = event.infohash, message = event.message, "libtorrent error");
            }
            _ => debug!(message = event.message, "libtorrent event"),
        }
    }

    fn answer(&self, infohash: &str, result: &Result<(), SeedError>) {
        let waiting = lock(&self.waiting).remove(infohash);
        for sender in waiting.into_iter().flatten() {
            let _ = sender.send(result.clone());
        }
    }
}
