//! One fetch, from the URL to the last byte.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::{ContentHash, Failure, FailureCode, FetchSpec};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http::{Method, StatusCode};
use ports::Staged;
use reqwest::Response;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;
use url::Url;

use crate::answer::{check_status, is_redirect, keeps_method, redirect_target, without_fragment};
use crate::checkpoint::{Beginning, Checkpoint, location, sha256_from, sha256_state};
use crate::client::ClientError;
use crate::decode::{Coding, Decoder, codings};
use crate::download::{self, Download, Stop};
use crate::failure::FetchError;
use crate::file_name::file_name;
use crate::guard::Guard;
use crate::media_type;
use crate::proxy::{ProxyHealth, Session, WaysOut};
use crate::stream_hasher::StreamHasher;

/// Chunks of the body (some 16 to 400 kB each) that may wait to be stored.
const CHUNKS_AHEAD: usize = 8;

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
}

/// Fetches content: one for the whole process, so that its connections are shared.
#[derive(Debug, Clone)]
pub struct Fetcher {
    ways: Arc<WaysOut>,
    guard: Guard,
    max_size: u64,
    max_redirects: u64,
    pub(crate) max_resumptions: u32,
    pub(crate) min_rate: u64,
    keep_url_credentials: bool,
    whitelist: Vec<String>,
}

/// A request to one origin: the last one is that of the content.
#[derive(Clone)]
pub(crate) struct Hop {
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
            ways: Arc::new(WaysOut::new(fetcher, proxy, guard.clone())?),
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

    /// Downloads what `spec` says into `staged`, which the caller commits, or sets aside if `pause` is cancelled before
    /// the end. With a checkpoint, `staged` holds what came before it. Dropping the future breaks the transfer off.
    pub async fn fetch(
        &self,
        spec: &FetchSpec,
        staged: &mut dyn Staged,
        progress: &Progress,
        from: Option<&Checkpoint>,
        pause: &CancellationToken,
    ) -> Result<Transfer, FetchError> {
        let session = self.ways.session();
        let respond = pause.run_until_cancelled(self.respond(&session, spec, from));
        let Some(responded) = respond.await else { return Ok(Transfer::Paused(from.cloned())) };
        let (mut response, hop) = responded?;
        let mut from = from;
        for _ in 0..MOST_STARTS {
            let (mut answer, beginning, hasher, download);
            match from.take() {
                Some(checkpoint) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    let rest = Download::new(self, &session, &hop, progress, response);
                    let rest = rest.resume_from(checkpoint).filter(|_| checkpoint.is_at(&hop.url));
                    let (Some(rest), Some(sha256)) = (rest, sha256_from(&checkpoint.sha256)) else {
                        staged.restart().await?;
                        response = self.send(&session, &hop, &hop.headers).await?;
                        continue;
                    };
                    info!(received_bytes = checkpoint.received, "going on with a transfer that was left off");
                    answer = Answer::of(checkpoint);
                    (beginning, hasher, download) = (checkpoint.beginning.clone(), sha256.into(), rest);
                }
                checkpoint => {
                    if checkpoint.is_some() {
                        info!("the content cannot be gone on with: starting over");
                        staged.restart().await?;
                        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                            response = self.send(&session, &hop, &hop.headers).await?;
                        }
                    }
                    check_status(&response)?;
                    answer = self.check_declared(&response)?;
                    (beginning, hasher) = (Beginning::default(), StreamHasher::new());
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
            let final_url = without_fragment(&hop.url);
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

    /// Posts to a URL, guarded and proxied as a fetch is; returns the status. Redirects are not followed, and
    /// the answer's body is not read.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: String,
        patience: Duration,
    ) -> Result<u16, FetchError> {
        let session = self.ways.session();
        let hop = Hop { url: url.clone(), method: Method::POST, headers, body: Some(body) };
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
    ) -> Result<(Response, Hop), FetchError> {
        let mut hop = Hop {
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
        hop: &Hop,
        headers: &HeaderMap,
    ) -> Result<Response, FetchError> {
        self.guard.check_url(&hop.url)?;
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
        match session.send(make).await {
            // Perhaps the origin closed a connection just when it was used again (RFC 9112, 9.3.1).
            Err(FetchError::Failed { failure, .. })
                if failure.code == FailureCode::TransferBroken && hop.method == Method::GET =>
            {
                session.send(make).await
            }
            result => result,
        }
    }

    /// Checks what the answer's headers say of the content.
    fn check_declared(&self, response: &Response) -> Result<Answer, FetchError> {
        let headers = response.headers();
        let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(length) = header(CONTENT_LENGTH).and_then(|length| length.parse().ok()) {
            self.check_size(length)?;
        }
        let declared = header(CONTENT_TYPE).and_then(media_type::essence);
        if let Some(declared) = &declared {
            self.check_media_type(declared, "declared")?;
        }
        let disposition = headers.get(CONTENT_DISPOSITION);
        Ok(Answer {
            codings: codings(headers, declared.as_deref())?,
            declared,
            disposition: disposition.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            origin_status: response.status().as_u16(),
        })
    }

    pub(crate) fn check_size(&self, size: u64) -> Result<(), FetchError> {
        if size <= self.max_size {
            return Ok(());
        }
        let message =
            format!("the content has more than {} bytes, the most that FETCHER__MAX_SIZE allows", self.max_size);
        Err(FetchError::new(FailureCode::TooLarge, message))
    }

    fn check_media_type(&self, essence: &str, how: &str) -> Result<(), FetchError> {
        if media_type::is_allowed(&self.whitelist, essence) {
            return Ok(());
        }
        let message = format!("the {how} type {essence} is not on the list FETCHER__MIME_WHITELIST");
        Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
    }

    /// Takes the body in: decoded, counted and looked at as it comes, hashed and stored meanwhile.
    async fn receive(
        &self,
        mut download: Download<'_>,
        answer: &Answer,
        (mut beginning, mut hasher): (Beginning, StreamHasher),
        staged: &mut dyn Staged,
        pause: &CancellationToken,
    ) -> Result<End, Stop> {
        let (sender, chunks) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
        let declared = answer.declared.as_deref();
        let mut size = download.received();
        let receive = async move {
            while let Some(chunk) = pause.run_until_cancelled(download.chunk()).await {
                let Some(chunk) = chunk? else { return Ok(None) };
                // What follows the end of the coded content is counted and checked, and no part of it.
                let _ = sender.send(chunk).await;
            }
            download.checkpoint().map(Some).ok_or(Stop::Paused)
        };
        let store = async {
            let mut body = Body::new(chunks, &answer.codings).await?;
            while let Some(chunk) = body.chunk().await? {
                size += chunk.len() as u64;
                self.check_size(size)?;
                if beginning.take(&chunk) {
                    self.check_shown(declared, beginning.shows.as_deref())?;
                }
                hasher.update(chunk.clone()).await.map_err(FetchError::from)?;
                staged.write(chunk).await.map_err(FetchError::from)?;
            }
            Ok(())
        };
        let (paused, ()) = tokio::try_join!(receive, store)?;
        if let Some(download) = paused {
            let hasher = hasher.stop().await.map_err(FetchError::from)?;
            return Ok(End::Paused(Paused { download, beginning, hasher }));
        }
        if beginning.end() {
            self.check_shown(declared, beginning.shows.as_deref())?;
        }
        let hash = hasher.finish().await.map_err(FetchError::from)?;
        if size == 0 {
            let message = "the content is empty: no torrent can be made of it";
            return Err(FetchError::new(FailureCode::EmptyContent, message).into());
        }
        let shown = beginning.shows.unwrap_or_else(|| media_type::UNKNOWN.to_owned());
        let media_type = answer.declared.clone().unwrap_or(shown);
        // Neither declared nor recognised: as "anything", it must be on the list too.
        self.check_media_type(&media_type, "assumed")?;
        Ok(End::Complete(Received { hash, size, media_type }))
    }

    /// Checks the type that the first bytes show against the whitelist and against what was declared.
    fn check_shown(&self, declared: Option<&str>, shown: Option<&str>) -> Result<(), FetchError> {
        let Some(shown) = shown else { return Ok(()) };
        self.check_media_type(shown, "actual")?;
        match declared {
            Some(declared) if media_type::contradicts(declared, shown) => {
                let message = format!("declared as {declared}, but its bytes are {shown}");
                Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
            }
            _ => Ok(()),
        }
    }
}

/// The chunks of a body, without its content codings.
enum Body {
    Plain(mpsc::Receiver<Bytes>),
    Decoded(Decoder<'static>),
}

impl Body {
    async fn new(mut chunks: mpsc::Receiver<Bytes>, codings: &[Coding]) -> Result<Self, FetchError> {
        if codings.is_empty() {
            return Ok(Self::Plain(chunks));
        }
        let stream =
            futures::stream::poll_fn(move |context| chunks.poll_recv(context).map(|chunk| chunk.map(io::Result::Ok)));
        Ok(Self::Decoded(Decoder::new(stream, codings).await?))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        match self {
            Self::Plain(chunks) => Ok(chunks.recv().await),
            Self::Decoded(decoder) => decoder.chunk().await,
        }
    }
}

/// What the head of an answer says of the content.
struct Answer {
    codings: Vec<Coding>,
    declared: Option<String>,
    disposition: Option<String>,
    origin_status: u16,
}

impl Answer {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            codings: vec![],
            declared: checkpoint.media_type.clone(),
            disposition: checkpoint.disposition.clone(),
            origin_status: checkpoint.origin_status,
        }
    }
}

/// How the body of an answer ended.
enum End {
    Complete(Received),
    Paused(Paused),
}

struct Received {
    hash: ContentHash,
    size: u64,
    media_type: String,
}

struct Paused {
    download: download::Paused,
    beginning: Beginning,
    hasher: Sha256,
}

impl Paused {
    fn checkpoint(self, answer: Answer, url: &Url) -> Checkpoint {
        let download::Paused { validator, received, total, digests } = self.download;
        Checkpoint {
            location: location(url),
            validator,
            received,
            total,
            sha256: sha256_state(&self.hasher),
            digests,
            media_type: answer.declared,
            disposition: answer.disposition,
            origin_status: answer.origin_status,
            beginning: self.beginning,
        }
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
    // What is stored is what everybody gets: encoded for none.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(headers)
}
