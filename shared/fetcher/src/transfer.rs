//! One fetch, from the URL to the last byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::{ContentHash, Failure, FailureCode, FetchSpec};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{Method, StatusCode};
use ports::Staged;
use reqwest::{Client, Response};
use tokio::sync::mpsc;
use url::Url;

use crate::client::{self, ClientError};
use crate::failure::{FetchError, classify};
use crate::file_name::file_name;
use crate::guard::Guard;
use crate::media_type;
use crate::stream_hasher::StreamHasher;

/// Chunks of the body (some 16 to 400 kB each) that may wait to be stored.
const CHUNKS_AHEAD: usize = 8;

/// How far a fetch has come, for others to look at.
#[derive(Debug, Default)]
pub struct Progress {
    received: AtomicU64,
    expected: AtomicU64,
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
    client: Client,
    guard: Guard,
    /// Where it is, if there is one.
    proxy: Option<(String, u16)>,
    connect_timeout: Duration,
    max_size: u64,
    max_redirects: u64,
    whitelist: Vec<String>,
}

impl Fetcher {
    /// A fetcher with these settings.
    pub fn new(fetcher: &settings::Fetcher, proxy: &settings::Proxy) -> Result<Self, ClientError> {
        let guard = Guard::new(fetcher);
        Ok(Self {
            client: client::build(fetcher, proxy, guard.clone())?,
            guard,
            proxy: proxy.proxy_host.clone().zip(proxy.proxy_port).filter(|_| proxy.proxy_enabled),
            connect_timeout: fetcher.connect_timeout(),
            max_size: fetcher.max_size.get(),
            max_redirects: fetcher.max_redirects.get(),
            whitelist: fetcher.mime_whitelist.clone(),
        })
    }

    /// What decides about hosts and addresses.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Whether the proxy accepts connections; false if there is none.
    pub async fn check_proxy(&self) -> Result<bool, Failure> {
        let Some((host, port)) = &self.proxy else { return Ok(false) };
        let failed = || Failure::new(FailureCode::ProxyUnreachable, "the proxy does not accept connections");
        let connect = tokio::net::TcpStream::connect((host.as_str(), *port));
        match tokio::time::timeout(self.connect_timeout, connect).await {
            Ok(Ok(_)) => Ok(true),
            _ => Err(failed()),
        }
    }

    /// Downloads what `spec` says into `staged`, which the caller commits. Dropping the future breaks
    /// the transfer off.
    pub async fn fetch(
        &self,
        spec: &FetchSpec,
        staged: &mut dyn Staged,
        progress: &Progress,
    ) -> Result<Fetched, FetchError> {
        let response = self.respond(spec).await?;
        check_status(&response)?;
        let declared = self.check_declared(&response)?;
        progress.expected.store(response.content_length().unwrap_or(0), Ordering::Relaxed);

        let final_url = without_fragment(response.url());
        let origin_status = response.status().as_u16();
        let disposition = response
            .headers()
            .get(CONTENT_DISPOSITION)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let received = self.receive(response, declared, staged, progress).await?;
        if let Some(expected) = spec.sha256.filter(|expected| *expected != received.hash) {
            let message = format!("the content's SHA-256 is {}, not {expected}", received.hash);
            return Err(FetchError::new(FailureCode::ChecksumMismatch, message));
        }
        Ok(Fetched {
            hash: received.hash,
            size: received.size,
            file_name: file_name(disposition.as_deref(), &final_url, &received.media_type),
            media_type: received.media_type,
            final_url,
            origin_status,
        })
    }

    /// Asks, and follows redirects, checking each hop from the top.
    async fn respond(&self, spec: &FetchSpec) -> Result<Response, FetchError> {
        let mut url = spec.url.clone();
        let mut method = Method::from(spec.method);
        let mut headers = headers(spec)?;
        let mut body = spec.body.clone();
        for _ in 0..=self.max_redirects {
            self.guard.check_url(&url)?;
            let mut request = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| classify(&error, self.proxy.is_some()))?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            let next = redirect_target(&url, &response)?;
            // RFC 9110, 15.4: 303 always, 301 and 302 by custom, turn into a GET without a body.
            if matches!(response.status(), StatusCode::SEE_OTHER)
                || method == Method::POST && !keeps_method(response.status())
            {
                method = Method::GET;
                body = None;
                headers.remove(CONTENT_TYPE);
            }
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
                headers.remove(COOKIE);
            }
            url = next;
        }
        let message = format!("more than {} redirects", self.max_redirects);
        Err(FetchError::new(FailureCode::TooManyRedirects, message))
    }

    /// Checks what the answer's headers say of the content; returns the declared type.
    fn check_declared(&self, response: &Response) -> Result<Option<String>, FetchError> {
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(length) = header(CONTENT_LENGTH).and_then(|length| length.parse().ok()) {
            self.check_size(length)?;
        }
        let encoding = header(CONTENT_ENCODING).unwrap_or_default().trim().to_ascii_lowercase();
        if !matches!(encoding.as_str(), "" | "identity") {
            let message = format!("the origin encoded the content ({encoding}) though it was asked not to");
            return Err(FetchError::new(FailureCode::BadEncoding, message));
        }
        let declared = header(CONTENT_TYPE).and_then(media_type::essence);
        if let Some(declared) = &declared {
            self.check_media_type(declared, "declared")?;
        }
        Ok(declared)
    }

    fn check_size(&self, size: u64) -> Result<(), FetchError> {
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

    /// Takes the body in: counted and looked at as it comes, hashed and stored meanwhile.
    async fn receive(
        &self,
        mut response: Response,
        declared: Option<String>,
        staged: &mut dyn Staged,
        progress: &Progress,
    ) -> Result<Received, FetchError> {
        let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
        let receive = async move {
            let mut size = 0;
            let mut beginning = vec![];
            let mut sniffed = None;
            loop {
                let chunk = response.chunk().await.map_err(|error| classify(&error, false))?;
                if beginning.len() < media_type::SNIFF {
                    let more = chunk.as_ref().map_or(&[][..], |chunk| &chunk[..chunk.len().min(media_type::SNIFF)]);
                    beginning.extend_from_slice(more);
                    if beginning.len() >= media_type::SNIFF || chunk.is_none() {
                        sniffed = media_type::sniff(&beginning);
                        if let Some(sniffed) = sniffed {
                            self.check_media_type(sniffed, "actual")?;
                        }
                    }
                }
                let Some(chunk) = chunk else { break };
                size += chunk.len() as u64;
                self.check_size(size)?;
                progress.received.store(size, Ordering::Relaxed);
                if sender.send(chunk).await.is_err() {
                    // The other side has failed, and says why.
                    break;
                }
            }
            Ok::<_, FetchError>((size, sniffed))
        };
        let store = async move {
            let mut hasher = StreamHasher::new();
            while let Some(chunk) = chunks.recv().await {
                hasher.update(chunk.clone()).await?;
                staged.write(chunk).await?;
            }
            Ok::<_, FetchError>(hasher.finish().await?)
        };
        let ((size, sniffed), hash) = tokio::try_join!(receive, store)?;
        if size == 0 {
            return Err(FetchError::new(
                FailureCode::EmptyContent,
                "the content is empty: no torrent can be made of it",
            ));
        }
        let media_type = declared.unwrap_or_else(|| sniffed.unwrap_or(media_type::UNKNOWN).to_owned());
        // Neither declared nor recognised: as "anything", it must be on the list too.
        self.check_media_type(&media_type, "assumed")?;
        Ok(Received { hash, size, media_type })
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

fn check_status(response: &Response) -> Result<(), FetchError> {
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
