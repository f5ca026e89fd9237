//! The bytes of an answer as they come: resumed where the origin breaks off, given up where it dawdles.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use domain::{Failure, FailureCode};
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderValue, LAST_MODIFIED};
use http::{Method, StatusCode};
use reqwest::Response;
use tracing::info;

use super::checkpoint::Checkpoint;
use super::digests::{DeclaredDigest, Digests};
use super::limits::TransferLimits;
use super::min_rate::{MinRate, TooSlow};
use super::progress::Progress;
use super::range::{ask_for_rest, content_range, strong_validator};
use crate::connection::classify::classify;
use crate::connection::response::check_status;
use crate::connection::sender::{OutboundRequest, Sender, Session};
use crate::error::FetchError;

/// Bytes after which a resumption counts as fruitful.
const FRUITFUL: u64 = 64 * 1024;

/// The wait before the first resumption that follows a failed_resumes one; doubled from there.
const BACKOFF: Duration = Duration::from_millis(250);

/// The longest an origin may have us wait within one fetch; beyond, the request goes back to the queue.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Why a download ended before its end.
pub(crate) enum Stop {
    /// The content is another by now, and this answer brings it from the beginning.
    StartOver(Box<Response>),
    /// It was to be left off, and cannot be gone on with.
    Paused,
    Failed(FetchError),
}

impl From<FetchError> for Stop {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

/// The part of a [`Checkpoint`] that a download knows.
pub(crate) struct Paused {
    pub validator: String,
    pub received: u64,
    pub total: Option<u64>,
    pub digests: Vec<DeclaredDigest>,
}

/// The body of a good answer.
pub(crate) struct Download<'a> {
    sender: &'a Sender,
    limits: &'a TransferLimits,
    session: &'a Session<'a>,
    outbound: &'a OutboundRequest,
    progress: &'a Progress,
    response: Response,
    received: u64,
    /// What makes sure that a resumed content is the same one; `None`: it cannot be resumed.
    validator: Option<HeaderValue>,
    encoding: Option<HeaderValue>,
    total: Option<u64>,
    /// Where the part ends that is coming in, if it is one.
    part_end: Option<u64>,
    pace: MinRate,
    digests: Digests,
    /// Resumptions since the last one that brought something.
    failed_resumes: u32,
    resumed_at: u64,
}

impl<'a> Download<'a> {
    pub fn new(
        (sender, limits): (&'a Sender, &'a TransferLimits),
        session: &'a Session<'a>,
        outbound: &'a OutboundRequest,
        progress: &'a Progress,
        response: Response,
    ) -> Self {
        let headers = response.headers();
        let total = response.content_length();
        progress.received.store(0, Ordering::Relaxed);
        progress.expected.store(total.unwrap_or(0), Ordering::Relaxed);
        Self {
            validator: (outbound.method == Method::GET).then(|| strong_validator(headers)).flatten(),
            encoding: headers.get(CONTENT_ENCODING).cloned(),
            digests: Digests::declared(headers),
            pace: MinRate::new(limits.min_rate),
            sender,
            limits,
            session,
            outbound,
            progress,
            response,
            received: 0,
            total,
            part_end: None,
            failed_resumes: 0,
            resumed_at: 0,
        }
    }

    /// As [`Download::new`], of the rest of a content: the answer to what [`Checkpoint::ask`] asks. `None` if it is
    /// something else.
    pub fn resume_from(mut self, checkpoint: &Checkpoint) -> Option<Self> {
        self.validator = Some(HeaderValue::try_from(&checkpoint.validator).ok()?);
        self.received = checkpoint.received;
        self.resumed_at = checkpoint.received;
        self.total = checkpoint.total;
        // Whatever an answer with a part declares, it is not the digest of the whole.
        self.digests = Digests::resume(&checkpoint.digests)?;
        let (total, end) = self.rest(&self.response).filter(|_| self.encoding.is_none())?;
        (self.total, self.part_end) = (Some(total), Some(end));
        self.progress.received.store(self.received, Ordering::Relaxed);
        self.progress.expected.store(total, Ordering::Relaxed);
        Some(self)
    }

    /// Bytes that have come so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What is to be known to go on from here later; `None` if the origin does not let one go on.
    pub fn checkpoint(&self) -> Option<Paused> {
        let validator = self.validator.as_ref()?.to_str().ok()?.to_owned();
        let whole = self.encoding.is_none();
        whole.then(|| Paused { validator, received: self.received, total: self.total, digests: self.digests.states() })
    }

    /// The next bytes; `None` at the end, if they are what the origin declared.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Stop> {
        loop {
            let size = |chunk: &Result<Option<Bytes>, _>| match chunk {
                Ok(Some(bytes)) => bytes.len(),
                _ => 0,
            };
            match self.pace.wait(self.response.chunk(), size).await {
                Ok(Ok(Some(chunk))) => {
                    self.received += chunk.len() as u64;
                    self.limits.check_size(self.received)?;
                    self.progress.received.store(self.received, Ordering::Relaxed);
                    if self.part_end.is_some_and(|end| self.received > end) {
                        let message = "the origin sent more than the part that it announced";
                        return Err(FetchError::new(FailureCode::TransferBroken, message).into());
                    }
                    self.digests.update(&chunk);
                    return Ok(Some(chunk));
                }
                // A part may be less than was asked for (RFC 9110, 15.3.7), or end too early.
                Ok(Ok(None)) if self.part_end.max(self.total).is_some_and(|end| self.received < end) => {
                    let message = "the origin sent less than it announced";
                    self.resume(Failure::new(FailureCode::TransferBroken, message)).await?;
                }
                Ok(Ok(None)) => {
                    self.digests.check()?;
                    return Ok(None);
                }
                Ok(Err(error)) => self.resume(classify(&error, false, false)).await?,
                Err(TooSlow) => {
                    let message = format!(
                        "the origin sent less than {} bytes a second, the least that FETCHER__MIN_RATE allows",
                        self.limits.min_rate
                    );
                    return Err(FetchError::new(FailureCode::TooSlow, message).into());
                }
            }
        }
    }

    /// Asks for the rest (RFC 9110, 14), as long as that brings anything.
    async fn resume(&mut self, mut failure: Failure) -> Result<(), Stop> {
        let resumable = matches!(failure.code, FailureCode::TransferBroken | FailureCode::ReadTimeout);
        let Some(validator) = self.validator.clone().filter(|_| resumable) else {
            return Err(Stop::Failed(failure.into()));
        };
        if self.received - self.resumed_at >= FRUITFUL {
            self.failed_resumes = 0;
        }
        self.resumed_at = self.received;
        loop {
            self.failed_resumes += 1;
            if self.failed_resumes > self.limits.max_resumptions {
                return Err(Stop::Failed(failure.into()));
            }
            let wait = BACKOFF * 2_u32.saturating_pow(self.failed_resumes - 1);
            tokio::time::sleep(wait.min(LONGEST_WAIT).mul_f64(rand::random_range(0.5..1.0))).await;
            info!(received_bytes = self.received, error.code = %failure.code, "resuming a broken transfer");

            let mut headers = self.outbound.headers.clone();
            ask_for_rest(&mut headers, self.received, validator.clone());
            match self.sender.send(self.session, self.outbound, &headers).await {
                Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    if let Some((total, end)) = self.rest(&response) {
                        (self.total, self.part_end) = (Some(total), Some(end));
                        self.response = response;
                        return Ok(());
                    }
                    return Err(self.start_over().await);
                }
                Ok(response) if response.status() == StatusCode::OK => {
                    return Err(Stop::StartOver(Box::new(response)));
                }
                // It has become shorter.
                Ok(response) if response.status() == StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Err(self.start_over().await);
                }
                Ok(response) => match check_status(&response) {
                    Err(FetchError::Failed { failure: unavailable, retry_after })
                        if unavailable.code.is_retryable() && retry_after.unwrap_or_default() <= LONGEST_WAIT =>
                    {
                        tokio::time::sleep(retry_after.unwrap_or_default()).await;
                        failure = unavailable;
                    }
                    Err(error) => return Err(error.into()),
                    Ok(()) => {
                        let message = format!("the origin answered {} when asked for the rest", response.status());
                        return Err(FetchError::new(FailureCode::BadResponse, message).into());
                    }
                },
                Err(FetchError::Failed { failure: again, .. }) if again.code.is_retryable() => failure = again,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The size of the whole and the end of the part that an answer brings, if that goes on from what we have, of the
    /// same content in the same coding. Where the whole's size is not known, nobody could tell when it is complete.
    fn rest(&self, response: &Response) -> Option<(u64, u64)> {
        let headers = response.headers();
        let (first, last, total) = content_range(headers.get(CONTENT_RANGE)?.to_str().ok()?)?;
        let total = total.or(self.total)?;
        let same_entity = match &self.validator {
            // A part has the tag that the whole would have (RFC 9110, 15.3.7); of the date it may be silent.
            Some(validator) if validator.as_bytes().starts_with(b"\"") => headers.get(ETAG) == Some(validator),
            validator => headers.get(LAST_MODIFIED).is_none_or(|value| Some(value) == validator.as_ref()),
        };
        let fits = first == self.received
            && last < total
            && self.total.is_none_or(|known| known == total)
            && response.content_length().is_none_or(|length| length == last + 1 - first)
            && same_entity
            && headers.get(CONTENT_ENCODING) == self.encoding.as_ref();
        fits.then_some((total, last + 1))
    }

    /// Asks for the whole content anew.
    async fn start_over(&self) -> Stop {
        match self.sender.send(self.session, self.outbound, &self.outbound.headers).await {
            Ok(response) => Stop::StartOver(Box::new(response)),
            Err(error) => Stop::Failed(error),
        }
    }
}
