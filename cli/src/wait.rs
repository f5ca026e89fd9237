//! Waiting for requests.

use std::cell::Cell;
use std::time::{Duration, Instant};

use domain::{RequestId, Status};

use crate::client::{Client, Request};
use crate::error::CommandError;
use crate::output::printable;
use crate::progress::Display;

/// The first and the longest pause between polls: short at first, for small contents.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// After how long it is said why a request is still queued.
const EXPLAIN_AFTER: Duration = Duration::from_secs(2);

/// How long a server may be out of reach, such as during a restart, while requests are waited for.
const OUTAGE: Duration = Duration::from_secs(120);

/// Waits for requests of one server, also while the server restarts.
pub(crate) struct Waiter<'a> {
    pub client: &'a Client,
    unreachable_since: Cell<Option<Instant>>,
}

impl<'a> Waiter<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client, unreachable_since: Cell::default() }
    }

    /// Waits until the request is ready; an error if it ends otherwise.
    pub async fn wait(&self, id: RequestId, display: &mut Display) -> Result<Request, CommandError> {
        let (mut pause, started, mut explained) = (FIRST_WAIT, Instant::now(), None);
        loop {
            let request = self.patiently(Some(display), async || self.client.get(id).await).await?;
            display.show(&request);
            if started.elapsed() > EXPLAIN_AFTER
                && let Some(why) = request.why_it_waits()
            {
                // Once for each try: the number of requests before it changes all the time.
                let about = Some((request.retry_count, request.waiting.as_ref().map(|waiting| waiting.reason.clone())));
                if explained != about {
                    display.note(&format!("request {id} {why}"));
                    explained = about;
                }
            }
            match request.status {
                Status::Ready => return Ok(request),
                Status::Failed => {
                    let code = request.error_code.as_deref().unwrap_or("unknown");
                    let why = printable(&request.error_message.unwrap_or_default());
                    return Err(CommandError::Failed(format!("request {} failed: {why} ({code})", request.id)));
                }
                Status::Cancelled | Status::Expired => {
                    return Err(CommandError::Failed(format!("request {} is {}", request.id, request.status)));
                }
                Status::Queued | Status::Fetching | Status::Packaging | Status::Seeding => {}
            }
            // The interval of the polls.
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_WAIT);
        }
    }

    /// Repeats a call while the server is out of reach, for up to [`OUTAGE`].
    pub async fn patiently<T>(
        &self,
        display: Option<&Display>,
        call: impl AsyncFn() -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        loop {
            let error = match call().await {
                Err(error @ (CommandError::Unreachable(_) | CommandError::Unavailable(_))) => error,
                done => {
                    self.unreachable_since.set(None);
                    return done;
                }
            };
            let Some(since) = self.unreachable_since.get() else {
                self.unreachable_since.set(Some(Instant::now()));
                let note = format!("{error}; trying again");
                display.map_or_else(|| eprintln!("{note}"), |display| display.note(&note));
                continue;
            };
            if since.elapsed() > OUTAGE {
                return Err(error);
            }
            // Back-off.
            tokio::time::sleep(LONGEST_WAIT).await;
        }
    }
}
