//! The bytes of an answer as they come: resumed where the origin breaks off, given up where it dawdles.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use domain::{Failure, FailureCode};
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};
use reqwest::Response;
use tracing::info;

use crate::answer::check_status;
use crate::checkpoint::{Checkpoint, DeclaredDigest};
use crate::digests::Digests;
use crate::failure::{FetchError, classify};
use crate::min_rate::{MinRate, TooSlow};
use crate::proxy::Session;
use crate::transfer::{Fetcher, OutboundRequest, Progress};

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
    fetcher: &'a Fetcher,
    session: &'a Session<'a>,
    hop: &'a OutboundRequest,
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
        fetcher: &'a Fetcher,
        session: &'a Session<'a>,
        hop: &'a OutboundRequest,
        progress: &'a Progress,
        response: Response,
    ) -> Self {
        let headers = response.headers();
        let total = response.content_length();
        progress.received.store(0, Ordering::Relaxed);
        progress.expected.store(total.unwrap_or(0), Ordering::Relaxed);
        Self {
            validator: (hop.method == Method::GET).then(|| strong_validator(headers)).flatten(),
            encoding: headers.get(CONTENT_ENCODING).cloned(),
            digests: Digests::declared(headers),
            pace: MinRate::new(fetcher.min_rate),
            fetcher,
            session,
            hop,
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
                    self.fetcher.check_size(self.received)?;
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
                        self.fetcher.min_rate
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
            if self.failed_resumes > self.fetcher.max_resumptions {
                return Err(Stop::Failed(failure.into()));
            }
            let wait = BACKOFF * 2_u32.saturating_pow(self.failed_resumes - 1);
            tokio::time::sleep(wait.min(LONGEST_WAIT).mul_f64(rand::random_range(0.5..1.0))).await;
            info!(received_bytes = self.received, error.code = %failure.code, "resuming a broken transfer");

            let mut headers = self.hop.headers.clone();
            ask_for_rest(&mut headers, self.received, validator.clone());
            match self.fetcher.send(self.session, self.hop, &headers).await {
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
        match self.fetcher.send(self.session, self.hop, &self.hop.headers).await {
            Ok(response) => Stop::StartOver(Box::new(response)),
            Err(error) => Stop::Failed(error),
        }
    }
}

/// Asks for what comes from `from` on, if the content is still the same (RFC 9110, 13.1.5 and 14.2).
pub(crate) fn ask_for_rest(headers: &mut HeaderMap, from: u64, validator: HeaderValue) {
    headers.insert(RANGE, HeaderValue::try_from(format!("bytes={from}-")).expect("digits are fine in a header"));
    headers.insert(IF_RANGE, validator);
}

/// What the rest may be asked for with, if the origin serves parts: a strong entity tag, or a date of
/// last modification that is strong (RFC 9110, 8.8.2.2: a minute before the answer).
fn strong_validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let serves_parts =
        headers.get_all(ACCEPT_RANGES).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes"));
    if !serves_parts {
        return None;
    }
    if let Some(tag) = headers.get(ETAG) {
        // A weak tag (W/) tells of equal meaning, not of equal bytes.
        return tag.as_bytes().starts_with(b"\"").then(|| tag.clone());
    }
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let age = date(DATE)?.duration_since(date(LAST_MODIFIED)?).ok()?;
    (age >= Duration::from_secs(60)).then(|| headers[LAST_MODIFIED].clone())
}

/// The first byte, the last and the whole size of `bytes 5-9/10` or `bytes 5-9/*`.
fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_validators_let_a_transfer_resume() {
        let ranges = ("accept-ranges", "bytes");
        let (date, old) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:48:37 GMT");
        for (headers, strong) in [
            (&[ranges, ("etag", "\"a\"")][..], true),
            (&[ranges, ("etag", "W/\"a\"")], false),
            (&[("etag", "\"a\"")], false),
            (&[("accept-ranges", "none"), ("etag", "\"a\"")], false),
            (&[ranges, ("date", date), ("last-modified", old)], true),
            (&[ranges, ("date", date), ("last-modified", date)], false),
            (&[ranges, ("last-modified", old)], false),
            (&[ranges, ("etag", "W/\"a\""), ("date", date), ("last-modified", old)], false),
            (&[ranges], false),
        ] {
            let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            assert_eq!(strong_validator(&map.collect()).is_some(), strong, "{headers:?}");
        }
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["bytes */10", "bytes 9-5/10", "bytes 5-10/10", "items 5-9/10", "bytes 5-9", "bytes -5-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
