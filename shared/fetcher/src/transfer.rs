//! One fetch, from the URL to the last byte.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::{ContentHash, Failure, FailureCode, FetchSpec};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use http::{Method, StatusCode};
use ports::Staged;
use reqwest::Response;
use tokio::sync::mpsc;
use tracing::info;
use url::Url;

use crate::client::ClientError;
use crate::decode::{Coding, Decoder, codings};
use crate::download::{Download, Stop};
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

    /// Downloads what `spec` says into `staged`, which the caller commits. Dropping the future breaks
    /// the transfer off.
    pub async fn fetch(
        &self,
        spec: &FetchSpec,
        staged: &mut dyn Staged,
        progress: &Progress,
    ) -> Result<Fetched, FetchError> {
        let session = self.ways.session();
        let (mut response, hop) = self.respond(&session, spec).await?;
        for _ in 0..MOST_STARTS {
            check_status(&response)?;
            let declared = self.check_declared(&response)?;
            let codings = codings(response.headers(), declared.as_deref())?;
            let origin_status = response.status().as_u16();
            let disposition = response.headers().get(CONTENT_DISPOSITION);
            let disposition = disposition.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let download = Download::new(self, &session, &hop, progress, response);
            let received = match self.receive(download, &codings, declared, staged).await {
                Ok(received) => received,
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
            return Ok(Fetched {
                hash: received.hash,
                size: received.size,
                file_name: file_name(disposition.as_deref(), &final_url, &received.media_type),
                media_type: received.media_type,
                final_url,
                origin_status,
            });
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
    async fn respond(&self, session: &Session<'_>, spec: &FetchSpec) -> Result<(Response, Hop), FetchError> {
        let mut hop = Hop {
            url: spec.url.clone(),
            method: Method::from(spec.method),
            headers: headers(spec)?,
            body: spec.body.clone(),
        };
        for _ in 0..=self.max_redirects {
            let response = self.send(session, &hop, &hop.headers).await?;
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

    /// Checks what the answer's headers say of the content; returns the declared type.
    fn check_declared(&self, response: &Response) -> Result<Option<String>, FetchError> {
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(length) = header(CONTENT_LENGTH).and_then(|length| length.parse().ok()) {
            self.check_size(length)?;
        }
        let declared = header(CONTENT_TYPE).and_then(media_type::essence);
        if let Some(declared) = &declared {
            self.check_media_type(declared, "declared")?;
        }
        Ok(declared)
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
        codings: &[Coding],
        declared: Option<String>,
        staged: &mut dyn Staged,
    ) -> Result<Received, Stop> {
        let (sender, chunks) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
        let receive = async move {
            while let Some(chunk) = download.chunk().await? {
                // What follows the end of the coded content is counted and checked, and no part of it.
                let _ = sender.send(chunk).await;
            }
            Ok::<_, Stop>(())
        };
        let store = async {
            let mut body = Body::new(chunks, codings).await?;
            let mut hasher = StreamHasher::new();
            let mut size = 0;
            let mut beginning = Beginning::default();
            while let Some(chunk) = body.chunk().await? {
                size += chunk.len() as u64;
                self.check_size(size)?;
                if beginning.take(&chunk) {
                    self.check_shown(declared.as_deref(), beginning.shows)?;
                }
                hasher.update(chunk.clone()).await.map_err(FetchError::from)?;
                staged.write(chunk).await.map_err(FetchError::from)?;
            }
            if beginning.end() {
                self.check_shown(declared.as_deref(), beginning.shows)?;
            }
            Ok((size, beginning.shows, hasher.finish().await.map_err(FetchError::from)?))
        };
        let ((), (size, shown, hash)) = tokio::try_join!(receive, store)?;
        if size == 0 {
            let message = "the content is empty: no torrent can be made of it";
            return Err(FetchError::new(FailureCode::EmptyContent, message).into());
        }
        let media_type = declared.unwrap_or_else(|| shown.unwrap_or(media_type::UNKNOWN).to_owned());
        // Neither declared nor recognised: as "anything", it must be on the list too.
        self.check_media_type(&media_type, "assumed")?;
        Ok(Received { hash, size, media_type })
    }

    /// Checks the type that the first bytes show against the whitelist and against what was declared.
    fn check_shown(&self, declared: Option<&str>, shown: Option<&'static str>) -> Result<(), FetchError> {
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

/// The first bytes of a content, by which its type is told.
#[derive(Default)]
struct Beginning {
    bytes: Vec<u8>,
    told: bool,
    shows: Option<&'static str>,
}

impl Beginning {
    /// True if there are enough bytes now, and were not before.
    fn take(&mut self, chunk: &[u8]) -> bool {
        if self.told {
            return false;
        }
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(media_type::SNIFF)]);
        self.bytes.len() >= media_type::SNIFF && self.end()
    }

    /// Tells by what there is; true if it was not told before.
    fn end(&mut self) -> bool {
        if self.told {
            return false;
        }
        self.told = true;
        self.shows = media_type::sniff(&self.bytes);
        self.bytes = vec![];
        true
    }
}

struct Received {
    hash: ContentHash,
    size: u64,
    media_type: String,
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

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn keeps_method(status: StatusCode) -> bool {
    matches!(status.as_u16(), 307 | 308)
}

fn redirect_target(from: &Url, response: &Response) -> Result<Url, FetchError> {
    let bad = |message| FetchError::new(FailureCode::BadRedirect, message);
    let location = response.headers().get(LOCATION).ok_or_else(|| bad("a redirect leads nowhere"))?;
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| bad("a redirect's target is not a URL"))?;
    let mut target = from.join(location).map_err(|_| bad("a redirect's target is not a URL"))?;
    if target.fragment().is_none() {
        target.set_fragment(from.fragment());
    }
    Ok(target)
}

fn without_fragment(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    url
}

/// Whether an answer brings content; a failure if not.
pub(crate) fn check_status(response: &Response) -> Result<(), FetchError> {
    let status = response.status();
    match status.as_u16() {
        200..=203 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(FetchError::Failed {
            failure: Failure::new(FailureCode::OriginUnavailable, format!("the origin answered {status}")),
            retry_after: response.headers().get(RETRY_AFTER).and_then(retry_after),
        }),
        _ => Err(FetchError::new(FailureCode::OriginStatus, format!("the origin answered {status}"))),
    }
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}
