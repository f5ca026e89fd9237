//! Download of a response body: resumes broken transfers, fails when the origin is too slow.

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
use super::progress::TransferProgress;
use super::range::{ask_for_rest, content_range, strong_validator};
use crate::connection::classify::classify;
use crate::connection::response::check_status;
use crate::connection::sender::{OutboundRequest, Sender, Session};
use crate::error::FetchError;

/// The number of received bytes after which a resumption counts as successful.
const FRUITFUL: u64 = 64 * 1024;

/// The initial back-off before a resumption. It doubles with every failed resumption in a row.
const BACKOFF: Duration = Duration::from_millis(250);

/// The maximum back-off and `Retry-After` within one fetch. After a longer `Retry-After` the request returns to the
/// queue.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The reason why a download stopped before its end.
pub(crate) enum Stop {
    /// The content has changed. This response has the new content from the first byte.
    StartOver(Box<Response>),
    /// The caller suspended the download, and it cannot be resumed.
    Paused,
    Failed(FetchError),
}

impl From<FetchError> for Stop {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

/// The part of a [`Checkpoint`] that the download provides.
pub(crate) struct Paused {
    pub validator: String,
    pub received: u64,
    pub total: Option<u64>,
    pub digests: Vec<DeclaredDigest>,
}

/// The download of a successful response body.
pub(crate) struct Download<'a> {
    sender: &'a Sender,
    limits: &'a TransferLimits,
    session: &'a Session<'a>,
    outbound: &'a OutboundRequest,
    progress: &'a TransferProgress,
    response: Response,
    received: u64,
    /// The validator that identifies the content on resume. `None`: the download cannot be resumed.
    validator: Option<HeaderValue>,
    encoding: Option<HeaderValue>,
    total: Option<u64>,
    /// The end (exclusive) of the range that is being received, if the response is partial.
    part_end: Option<u64>,
    pace: MinRate,
    digests: Digests,
    /// The number of resumptions since the last successful one.
    failed_resumes: u32,
    resumed_at: u64,
}

impl<'a> Download<'a> {
    pub fn new(
        (sender, limits): (&'a Sender, &'a TransferLimits),
        session: &'a Session<'a>,
        outbound: &'a OutboundRequest,
        progress: &'a TransferProgress,
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

    /// Continues from a checkpoint with the response to [`Checkpoint::ask`]. `None` if the response is not the rest
    /// of the same content.
    pub fn resume_from(mut self, checkpoint: &Checkpoint) -> Option<Self> {
        self.validator = Some(HeaderValue::try_from(&checkpoint.validator).ok()?);
        self.received = checkpoint.received;
        self.resumed_at = checkpoint.received;
        self.total = checkpoint.total;
        // The digests of a partial response do not cover the whole content, so the checkpoint's digests are used.
        self.digests = Digests::resume(&checkpoint.digests)?;
        let (total, end) = self.rest(&self.response).filter(|_| self.encoding.is_none())?;
        (self.total, self.part_end) = (Some(total), Some(end));
        self.progress.received.store(self.received, Ordering::Relaxed);
        self.progress.expected.store(total, Ordering::Relaxed);
        Some(self)
    }

    /// Returns the number of bytes received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the download's part of a checkpoint, or `None` if the download cannot be resumed: there is no strong
    /// validator, or the content is encoded.
    pub fn checkpoint(&self) -> Option<Paused> {
        let validator = self.validator.as_ref()?.to_str().ok()?.to_owned();
        let whole = self.encoding.is_none();
        whole.then(|| Paused { validator, received: self.received, total: self.total, digests: self.digests.states() })
    }

    /// Returns the next bytes, or `None` at the end after the digests were checked.
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
                        let message = "the origin sent more bytes than the range that it declared";
                        return Err(FetchError::new(FailureCode::TransferBroken, message).into());
                    }
                    self.digests.update(&chunk);
                    return Ok(Some(chunk));
                }
                // A partial response may be shorter than the requested range (RFC 9110, 15.3.7), or end too early.
                Ok(Ok(None)) if self.part_end.max(self.total).is_some_and(|end| self.received < end) => {
                    let message = "the origin sent fewer bytes than it declared";
                    self.resume(Failure::new(FailureCode::TransferBroken, message)).await?;
                }
                Ok(Ok(None)) => {
                    self.digests.check()?;
                    return Ok(None);
                }
                Ok(Err(error)) => self.resume(classify(&error, false, false)).await?,
                Err(TooSlow) => {
                    let message = format!(
                        "the origin sent less than {} bytes per second, the minimum that FETCHER__MIN_RATE sets",
                        self.limits.min_rate
                    );
                    return Err(FetchError::new(FailureCode::TooSlow, message).into());
                }
            }
        }
    }

    /// Requests the rest (RFC 9110, 14) with back-off, until it succeeds or the limit of failed resumptions is
    /// reached.
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
            // Back-off with jitter.
            tokio::time::sleep(wait.min(LONGEST_WAIT).mul_f64(rand::random_range(0.5..1.0))).await;
            info!(received_bytes = self.received, error.code = %failure.code, "transfer broken, resuming");

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
                // The content is now shorter.
                Ok(response) if response.status() == StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Err(self.start_over().await);
                }
                Ok(response) => match check_status(&response) {
                    Err(FetchError::Failed { failure: unavailable, retry_after })
                        if unavailable.code.is_retryable() && retry_after.unwrap_or_default() <= LONGEST_WAIT =>
                    {
                        // As the origin asks.
                        tokio::time::sleep(retry_after.unwrap_or_default()).await;
                        failure = unavailable;
                    }
                    Err(error) => return Err(error.into()),
                    Ok(()) => {
                        let message = format!("the origin responded with {} to a range request", response.status());
                        return Err(FetchError::new(FailureCode::BadResponse, message).into());
                    }
                },
                Err(FetchError::Failed { failure: again, .. }) if again.code.is_retryable() => failure = again,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the total size and the exclusive end of the range of a partial response, if the range continues from
    /// the received bytes and belongs to the same content in the same coding. `None` if the total size is unknown:
    /// then the end of the content could not be detected.
    fn rest(&self, response: &Response) -> Option<(u64, u64)> {
        let headers = response.headers();
        let (first, last, total) = content_range(headers.get(CONTENT_RANGE)?.to_str().ok()?)?;
        let total = total.or(self.total)?;
        let same_entity = match &self.validator {
            // A partial response must have the entity tag of the whole (RFC 9110, 15.3.7), but may omit the date.
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

    /// Requests the whole content again.
    async fn start_over(&self) -> Stop {
        match self.sender.send(self.session, self.outbound, &self.outbound.headers).await {
            Ok(response) => Stop::StartOver(Box::new(response)),
            Err(error) => Stop::Failed(error),
        }
    }
}
