//! One fetch, from the URL to the last byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{ContentHash, Failure, FailureCode, FetchSpec, UserId};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use http::{Method, StatusCode};
use ports::StagedUpload;
use reqwest::Response;
use tokio_util::sync::CancellationToken;
use tracing::info;
use url::Url;

use crate::answer::{check_status, is_redirect, keeps_method, redacted, redirect_target};
use crate::checkpoint::{Checkpoint, SniffBuffer, sha256_from};
use crate::client::ClientError;
use crate::download::{Download, Stop};
use crate::failure::FetchError;
use crate::file_name::file_name;
use crate::guard::Guard;
use crate::proxy::{ProxyHealth, ProxyPool, Session};
use crate::receive::{End, ResponseInfo};
use crate::stream_hasher::StreamHasher;

/// How often a content that changes while it is fetched is fetched from the beginning.
const MOST_STARTS: u32 = 3;

/// The request's headers that another origin is shown as well, when a redirect leads there: whatever else
/// a caller sets may be a credential.
const FOR_EVERY_ORIGIN: [HeaderName; 6] =
    [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_TYPE, USER_AGENT];

/// How far a fetch has come, for others to look at.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) received: AtomicU64,
    pub(crate) expected: AtomicU64,
}

impl Progress {
    /// 0 to 100; stays 0 while the size is unknown.
    pub fn percent(&self) -> u8 {
        let (received, expected) = (self.received.load(Ordering::Relaxed), self.expected.load(Ordering::Relaxed));
        if expected == 0 { 0 } else { (u128::from(received) * 100 / u128::from(expected)).min(100) as u8 }
    }
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The SHA-256 of its bytes.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// The declared MIME type, or the one its bytes show.
    pub media_type: String,
    /// Safe for every file system.
    pub file_name: String,
    /// Where the last redirect led.
    pub final_url: Url,
    /// The origin's HTTP status.
    pub origin_status: u16,
}

/// How a fetch ended that did not fail.
#[derive(Debug)]
pub enum Transfer {
    /// With the whole content.
    Complete(Fetched),
    /// Left off on the caller's wish; `None`: it cannot be gone on with, as the origin serves no parts, or nothing that
    /// tells whether they are of the same content.
    Paused(Option<Checkpoint>),
    /// Not gone on with for now: what was set aside is as it was, for the next try.
    Refused(FetchError),
}

/// Fetches content: one for the whole process, so that each owner's connections are reused.
#[derive(Debug, Clone)]
pub struct Fetcher {
    ways: Arc<ProxyPool>,
    guard: Guard,
    max_size: u64,
    max_redirects: u64,
    pub(crate) max_resumptions: u32,
    pub(crate) min_rate: u64,
    keep_url_credentials: bool,
    pub(crate) whitelist: Vec<String>,
}

/// A request to one origin: the last one is that of the content.
#[derive(Clone)]
pub(crate) struct OutboundRequest {
    pub url: Url,
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Option<String>,
}

impl Fetcher {
    /// A fetcher with these settings.
    pub fn new(fetcher: &settings::Fetcher, proxy: &settings::Proxy) -> Result<Self, ClientError> {
        let guard = Guard::new(fetcher, proxy);
        Ok(Self {
            ways: Arc::new(ProxyPool::new(fetcher, proxy, guard.clone())?),
            guard,
            max_size: fetcher.max_size.get(),
            max_redirects: fetcher.max_redirects.get(),
            max_resumptions: fetcher.max_retries.get() as u32,
            min_rate: fetcher.min_rate.get(),
            keep_url_credentials: fetcher.allow_credential_headers,
            whitelist: fetcher.mime_whitelist.clone(),
        })
    }

    /// What decides about hosts and addresses.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Asks the proxies whether they would serve us; a failure if none would.
    pub async fn check_proxy(&self) -> Result<ProxyHealth, Failure> {
        self.ways.check().await
    }

    /// Downloads for `owner` what `spec` says into `staged`, which the caller commits, or sets aside if `pause` is cancelled before
    /// the end. With a checkpoint, `staged` holds what came before it. Dropping the future breaks the transfer off.
    pub async fn fetch(
        &self,
        owner: &UserId,
        spec: &FetchSpec,
        staged: &mut dyn StagedUpload,
        progress: &Progress,
        from: Option<&Checkpoint>,
        pause: &CancellationToken,
    ) -> Result<Transfer, FetchError> {
        let session = self.ways.session(owner);
        let respond = pause.run_until_cancelled(self.respond(&session, spec, from));
        let Some(responded) = respond.await else { return Ok(Transfer::Paused(from.cloned())) };
        let refused = |error: FetchError| match from {
            Some(_) if error.is_retryable() => Ok(Transfer::Refused(error)),
            _ => Err(error),
        };
        let (mut response, hop) = match responded {
            Ok(responded) => responded,
            Err(error) => return refused(error),
        };
        let mut from = from;
        for _ in 0..MOST_STARTS {
            let (mut answer, beginning, hasher, download);
            match from.take() {
                Some(checkpoint) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    let rest = Download::new(self, &session, &hop, progress, response);
                    let rest = rest.resume_from(checkpoint).filter(|_| checkpoint.is_at(&hop.url));
                    let (Some(rest), Some(sha256)) = (rest, sha256_from(&checkpoint.sha256)) else {
                        let Some(again) = self.anew(&session, &hop, staged, pause).await? else {
                            return Ok(Transfer::Paused(None));
                        };
                        response = again;
                        continue;
                    };
                    info!(received_bytes = checkpoint.received, "going on with a transfer that was left off");
                    answer = ResponseInfo::of(checkpoint);
                    (beginning, hasher, download) = (checkpoint.beginning.clone(), sha256.into(), rest);
                }
                checkpoint => {
                    if checkpoint.is_some() {
                        if let Err(error) = check_status(&response)
                            && error.is_retryable()
                        {
                            return refused(error);
                        }
                        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                            let Some(again) = self.anew(&session, &hop, staged, pause).await? else {
                                return Ok(Transfer::Paused(None));
                            };
                            response = again;
                            continue;
                        }
                        info!("the content cannot be gone on with: starting over");
                        staged.restart().await?;
                    }
                    check_status(&response)?;
                    answer = self.check_declared(&response)?;
                    staged.check_room(response.content_length().unwrap_or(0))?;
                    (beginning, hasher) = (SniffBuffer::default(), StreamHasher::new());
                    download = Download::new(self, &session, &hop, progress, response);
                }
            }
            let received = match self.receive(download, &answer, (beginning, hasher), staged, pause).await {
                Ok(End::Complete(received)) => received,
                Ok(End::Paused(paused)) => return Ok(Transfer::Paused(Some(paused.checkpoint(answer, &hop.url)))),
                Err(Stop::Paused) => return Ok(Transfer::Paused(None)),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::StartOver(again)) => {
                    info!("the content changed while it was fetched: starting over");
                    staged.restart().await?;
                    response = *again;
                    continue;
                }
            };
            if let Some(expected) = spec.sha256.filter(|expected| *expected != received.hash) {
                let message = format!("the content's SHA-256 is {}, not {expected}", received.hash);
                return Err(FetchError::new(FailureCode::ChecksumMismatch, message));
            }
            let final_url = redacted(&hop.url);
            return Ok(Transfer::Complete(Fetched {
                hash: received.hash,
                size: received.size,
                file_name: file_name(answer.disposition.take().as_deref(), &final_url, &received.media_type),
                media_type: received.media_type,
                final_url,
                origin_status: answer.origin_status,
            }));
        }
        Err(FetchError::new(FailureCode::TransferBroken, "the content changed each time it was about to be complete"))
    }

    /// Forgets what there is, and asks for the whole; `None` if it is to be left off meanwhile.
    async fn anew(
        &self,
        session: &Session<'_>,
        hop: &OutboundRequest,
        staged: &mut dyn StagedUpload,
        pause: &CancellationToken,
    ) -> Result<Option<Response>, FetchError> {
        info!("the content cannot be gone on with: asking for the whole");
        staged.restart().await?;
        pause.run_until_cancelled(self.send(session, hop, &hop.headers)).await.transpose()
    }

    /// Posts to a URL, guarded and proxied as a fetch is; returns the status. Redirects are not followed, and
    /// the answer's body is not read.
    pub async fn post(
        &self,
        owner: &UserId,
        url: &Url,
        headers: HeaderMap,
        body: String,
        patience: Duration,
    ) -> Result<u16, FetchError> {
        let session = self.ways.session(owner);
        let hop = OutboundRequest { url: url.clone(), method: Method::POST, headers, body: Some(body) };
        let answer = tokio::time::timeout(patience, self.send(&session, &hop, &hop.headers)).await;
        let late = || FetchError::new(FailureCode::ReadTimeout, "the receiver did not answer in time");
        Ok(answer.map_err(|_| late())??.status().as_u16())
    }

    /// Asks, and follows redirects, checking each hop from the top.
    async fn respond(
        &self,
        session: &Session<'_>,
        spec: &FetchSpec,
        from: Option<&Checkpoint>,
    ) -> Result<(Response, OutboundRequest), FetchError> {
        let mut hop = OutboundRequest {
            url: spec.url.clone(),
            method: Method::from(spec.method),
            headers: headers(spec)?,
            body: spec.body.clone(),
        };
        for _ in 0..=self.max_redirects {
            let mut headers = hop.headers.clone();
            if let Some(checkpoint) = from {
                checkpoint.ask(&mut headers);
            }
            let response = self.send(session, &hop, &headers).await?;
            if !is_redirect(response.status()) {
                return Ok((response, hop));
            }
            let next = redirect_target(&hop.url, &response)?;
            // RFC 9110, 15.4: 303 always, 301 and 302 by custom, turn into a GET without a body.
            if matches!(response.status(), StatusCode::SEE_OTHER)
                || hop.method == Method::POST && !keeps_method(response.status())
            {
                hop.method = Method::GET;
                hop.body = None;
                hop.headers.remove(CONTENT_TYPE);
            }
            if next.origin() != hop.url.origin() {
                let kept = hop.headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
                hop.headers = kept.filter(|(name, _)| FOR_EVERY_ORIGIN.contains(name)).collect();
            }
            hop.url = next;
        }
        let message = format!("more than {} redirects", self.max_redirects);
        Err(FetchError::new(FailureCode::TooManyRedirects, message))
    }

    /// Sends one request, if its URL may be fetched from.
    pub(crate) async fn send(
        &self,
        session: &Session<'_>,
        hop: &OutboundRequest,
        headers: &HeaderMap,
    ) -> Result<Response, FetchError> {
        self.guard.check_url(&hop.url)?;
        let _watch = self.guard.watch(&hop.url);
        let mut url = hop.url.clone();
        if !self.keep_url_credentials {
            // Into the void if there are none, or none can be.
            let _ = url.set_username("").and_then(|()| url.set_password(None));
        }
        let make = |client: &reqwest::Client| {
            let request = client.request(hop.method.clone(), url.clone()).headers(headers.clone());
            match &hop.body {
                Some(body) => request.body(body.clone()),
                None => request,
            }
        };
        let repeated = hop.method == Method::GET;
        match session.send(repeated, make).await {
            // Perhaps the origin closed a connection just when it was used again (RFC 9112, 9.3.1).
            Err(FetchError::Failed { failure, .. }) if failure.code == FailureCode::TransferBroken && repeated => {
                session.send(repeated, make).await
            }
            result => result,
        }
    }

    pub(crate) fn check_size(&self, size: u64) -> Result<(), FetchError> {
        if size <= self.max_size {
            return Ok(());
        }
        let message =
            format!("the content has more than {} bytes, the most that FETCHER__MAX_SIZE allows", self.max_size);
        Err(FetchError::new(FailureCode::TooLarge, message))
    }
}

fn headers(spec: &FetchSpec) -> Result<HeaderMap, FetchError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &spec.headers {
        let bad = || FetchError::new(FailureCode::BadRequest, "a header is not valid HTTP");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
