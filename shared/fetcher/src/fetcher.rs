//! Fetch of one content: redirects, download, suspend and resume, checksum.

use std::sync::Arc;
use std::time::Duration;

use domain::{Content, ContentHash, Failure, FailureCode, FetchSpec, FileName, MediaType, Timestamp, UserId};
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

use crate::connection::client::ClientError;
use crate::connection::interface::Interface;
use crate::connection::proxy::{ProxyHealth, ProxyStates};
use crate::connection::response::{check_status, is_redirect, keeps_method, redacted, redirect_target};
use crate::connection::sender::{OutboundRequest, Sender, Session};
use crate::direct::LARGEST_DOCUMENT;
use crate::error::FetchError;
use crate::policy::file_name::file_name;
use crate::policy::guard::Guard;
use crate::transfer::checkpoint::{Checkpoint, sha256_from};
use crate::transfer::declared::Declared;
use crate::transfer::download::{Download, Stop};
use crate::transfer::limits::TransferLimits;
use crate::transfer::progress::TransferProgress;
use crate::transfer::receive::{End, Received, receive};
use crate::transfer::sniff::SniffBuffer;
use crate::transfer::stream_hasher::StreamHasher;

/// The maximum number of downloads from the first byte in one fetch, for a content that changes during the download.
const MOST_STARTS: u32 = 3;

/// The headers that are kept on a redirect to another origin. Every other header that the caller set may be a
/// credential.
const FOR_EVERY_ORIGIN: [HeaderName; 6] =
    [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_TYPE, USER_AGENT];

/// The description of a fetched content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The SHA-256 of the bytes.
    pub hash: ContentHash,
    /// The size in bytes.
    pub size: u64,
    /// The declared media type, else the sniffed one.
    pub media_type: MediaType,
    /// The file name.
    pub file_name: FileName,
    /// The URL after all redirects, without credentials and fragment.
    pub final_url: Url,
    /// The HTTP status of the origin.
    pub origin_status: u16,
}

impl Fetched {
    /// Returns the content as it is recorded when it is stored.
    pub fn stored_at(self, fetched_at: Timestamp) -> Content {
        let Self { hash, size, media_type, file_name, final_url, origin_status } = self;
        Content { hash, size, media_type, file_name, final_url, origin_status, fetched_at }
    }
}

/// The outcome of a fetch that did not fail.
#[derive(Debug)]
pub enum Transfer {
    /// The whole content was received.
    Complete(Fetched),
    /// The caller suspended the fetch. `None` if it cannot be resumed: the origin serves no ranges, or no strong
    /// validator that identifies the same content.
    Paused(Option<Checkpoint>),
    /// The resume failed with an error that may be temporary. The staged upload and the checkpoint are unchanged and
    /// can be used for the next try.
    Refused(FetchError),
}

/// The fetcher of contents. The process uses one instance, so that the connections of each owner are reused.
#[derive(Debug, Clone)]
pub struct Fetcher {
    sender: Sender,
    limits: TransferLimits,
    max_redirects: u64,
}

/// The state that all responses of one fetch share.
struct Run<'a> {
    fetcher: &'a Fetcher,
    session: &'a Session<'a>,
    outbound: &'a OutboundRequest,
    progress: &'a TransferProgress,
}

/// A transfer that is about to receive its body.
struct Started<'a> {
    declared: Declared,
    sniff: SniffBuffer,
    hasher: StreamHasher,
    download: Download<'a>,
}

/// The first step of a transfer, decided from a response.
enum Beginning<'a> {
    /// The body of the response can be received.
    Started(Box<Started<'a>>),
    /// The response did not match the checkpoint. This new response has the whole content.
    Whole(Response),
    /// The origin temporarily does not serve the rest.
    Refused(FetchError),
    /// The caller suspended the fetch.
    Stopped,
}

impl Fetcher {
    /// Creates a fetcher with these settings. All its connections and look-ups are bound to `interface`, except those with
    /// a proxy at a loopback address.
    pub fn new(
        fetcher: &settings::Fetcher,
        proxy: &settings::Proxy,
        interface: Option<Arc<dyn Interface>>,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            sender: Sender::new(fetcher, proxy, interface)?,
            limits: TransferLimits::new(fetcher),
            max_redirects: fetcher.max_redirects.get(),
        })
    }

    /// Returns the policy for hosts and addresses.
    pub fn guard(&self) -> &Guard {
        self.sender.guard()
    }

    /// Checks the health of every proxy. Returns a failure if none works.
    pub async fn check_proxy(&self) -> Result<ProxyHealth, Failure> {
        self.sender.check_proxy().await
    }

    /// Returns the numbers of proxies by state, from the results of recent fetches.
    pub fn proxy_states(&self) -> ProxyStates {
        self.sender.proxy_states()
    }

    /// Downloads the content of `spec` for `owner` into `staged`, which the caller commits. Suspends the fetch if
    /// `pause` is cancelled before the end. With a checkpoint `from`, `staged` must hold the bytes before it.
    /// Dropping the future aborts the transfer.
    pub async fn fetch(
        &self,
        owner: &UserId,
        spec: &FetchSpec,
        staged: &mut dyn StagedUpload,
        progress: &TransferProgress,
        from: Option<&Checkpoint>,
        pause: &CancellationToken,
    ) -> Result<Transfer, FetchError> {
        let session = self.sender.session(owner);
        let respond = pause.run_until_cancelled(self.respond(&session, spec, from));
        let Some(responded) = respond.await else { return Ok(Transfer::Paused(from.cloned())) };
        let (mut response, outbound) = match responded {
            Err(error) if from.is_some() && error.is_retryable() => return Ok(Transfer::Refused(error)),
            responded => responded?,
        };
        let run = Run { fetcher: self, session: &session, outbound: &outbound, progress };
        let mut from = from;
        for _ in 0..MOST_STARTS {
            let beginning = match from.take() {
                Some(checkpoint) => run.resume(checkpoint, response, staged, pause).await?,
                None => run.start(response, staged)?,
            };
            let started = match beginning {
                Beginning::Started(started) => *started,
                Beginning::Whole(whole) => {
                    response = whole;
                    continue;
                }
                Beginning::Refused(error) => return Ok(Transfer::Refused(error)),
                Beginning::Stopped => return Ok(Transfer::Paused(None)),
            };
            let Started { declared, sniff, hasher, download } = started;
            match receive(&self.limits, download, &declared, (sniff, hasher), staged, pause).await {
                Ok(End::Complete(received)) => {
                    return complete(spec, &outbound, declared, received).map(Transfer::Complete);
                }
                Ok(End::Paused(paused)) => {
                    return Ok(Transfer::Paused(Some(paused.checkpoint(declared, &outbound.url))));
                }
                Err(Stop::Paused) => return Ok(Transfer::Paused(None)),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::StartOver(again)) => {
                    info!("content changed during the fetch, starting over");
                    staged.restart().await?;
                    response = *again;
                }
            }
        }
        Err(FetchError::new(FailureCode::TransferBroken, "the content changed during every download"))
    }

    /// Sends a POST to a URL through the same guard and proxies as a fetch. Returns the HTTP status. Does not follow
    /// redirects and does not read the body of the response. `limit` is the timeout.
    pub async fn post(
        &self,
        owner: &UserId,
        url: &Url,
        headers: HeaderMap,
        body: String,
        limit: Duration,
    ) -> Result<u16, FetchError> {
        let session = self.sender.session(owner);
        let outbound = OutboundRequest { url: url.clone(), method: Method::POST, headers, body: Some(body) };
        let answer = tokio::time::timeout(limit, self.sender.send(&session, &outbound, &outbound.headers)).await;
        let late = || FetchError::new(FailureCode::ReadTimeout, "the receiver did not respond in time");
        Ok(answer.map_err(|_| late())??.status().as_u16())
    }

    /// Returns the body of a document of at most 1 MiB, through the same guard and proxies as a fetch. Does not follow
    /// redirects. `limit` is the timeout, with the body.
    pub(crate) async fn document(&self, url: &Url, limit: Duration) -> Result<Vec<u8>, FetchError> {
        let owner = UserId::anonymous();
        let session = self.sender.session(&owner);
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let outbound = OutboundRequest { url: url.clone(), method: Method::GET, headers, body: None };
        let read = async {
            let mut response = self.sender.send(&session, &outbound, &outbound.headers).await?;
            check_status(&response)?;
            let mut body = vec![];
            let broken = |_| FetchError::new(FailureCode::TransferBroken, "the document was not received completely");
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                if body.len() + chunk.len() > LARGEST_DOCUMENT {
                    return Err(FetchError::new(FailureCode::TooLarge, "the document is larger than 1 MiB"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        let late = || FetchError::new(FailureCode::ReadTimeout, "the document was not received in time");
        tokio::time::timeout(limit, read).await.map_err(|_| late())?
    }

    /// Sends the HTTP request and follows redirects. Every redirect passes the whole guard again.
    async fn respond(
        &self,
        session: &Session<'_>,
        spec: &FetchSpec,
        from: Option<&Checkpoint>,
    ) -> Result<(Response, OutboundRequest), FetchError> {
        let mut outbound = OutboundRequest {
            url: spec.url.clone(),
            method: Method::from(spec.method),
            headers: headers(spec)?,
            body: spec.body.clone(),
        };
        for _ in 0..=self.max_redirects {
            let mut headers = outbound.headers.clone();
            if let Some(checkpoint) = from {
                checkpoint.ask(&mut headers);
            }
            let response = self.sender.send(session, &outbound, &headers).await?;
            if !is_redirect(response.status()) {
                return Ok((response, outbound));
            }
            let next = redirect_target(&outbound.url, &response)?;
            // RFC 9110, 15.4: 303 always changes the method to GET without a body; 301 and 302 do so by convention
            // for POST.
            if matches!(response.status(), StatusCode::SEE_OTHER)
                || outbound.method == Method::POST && !keeps_method(response.status())
            {
                outbound.method = Method::GET;
                outbound.body = None;
                outbound.headers.remove(CONTENT_TYPE);
            }
            if next.origin() != outbound.url.origin() {
                let kept = outbound.headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
                outbound.headers = kept.filter(|(name, _)| FOR_EVERY_ORIGIN.contains(name)).collect();
            }
            outbound.url = next;
        }
        let message = format!("more than {} redirects", self.max_redirects);
        Err(FetchError::new(FailureCode::TooManyRedirects, message))
    }
}

impl<'a> Run<'a> {
    fn download(&self, response: Response) -> Download<'a> {
        let (sender, limits) = (&self.fetcher.sender, &self.fetcher.limits);
        Download::new((sender, limits), self.session, self.outbound, self.progress, response)
    }

    /// Starts a transfer of the whole content.
    fn start(&self, response: Response, staged: &mut dyn StagedUpload) -> Result<Beginning<'a>, FetchError> {
        check_status(&response)?;
        let declared = Declared::check(&response, &self.fetcher.limits)?;
        staged.check_room(response.content_length().unwrap_or(0))?;
        let download = self.download(response);
        Ok(Beginning::Started(Box::new(Started {
            declared,
            sniff: SniffBuffer::default(),
            hasher: StreamHasher::new(),
            download,
        })))
    }

    /// Resumes a suspended transfer if the response has the rest of the same content. Otherwise starts over.
    async fn resume(
        &self,
        checkpoint: &Checkpoint,
        response: Response,
        staged: &mut dyn StagedUpload,
        pause: &CancellationToken,
    ) -> Result<Beginning<'a>, FetchError> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let rest = self.download(response).resume_from(checkpoint);
                let rest = rest.filter(|_| checkpoint.is_at(&self.outbound.url));
                let (Some(download), Some(sha256)) = (rest, sha256_from(&checkpoint.sha256)) else {
                    return self.ask_for_whole(staged, pause).await;
                };
                info!(received_bytes = checkpoint.received, "fetch resumed");
                Ok(Beginning::Started(Box::new(Started {
                    declared: Declared::of(checkpoint),
                    sniff: checkpoint.beginning.clone(),
                    hasher: sha256.into(),
                    download,
                })))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => self.ask_for_whole(staged, pause).await,
            _ => match check_status(&response) {
                Err(error) if error.is_retryable() => Ok(Beginning::Refused(error)),
                _ => {
                    info!("fetch cannot be resumed, starting over");
                    staged.restart().await?;
                    self.start(response, staged)
                }
            },
        }
    }

    /// Discards the received bytes and requests the whole content.
    async fn ask_for_whole(
        &self,
        staged: &mut dyn StagedUpload,
        pause: &CancellationToken,
    ) -> Result<Beginning<'a>, FetchError> {
        info!("fetch cannot be resumed, requesting the whole content");
        staged.restart().await?;
        let sent = self.fetcher.sender.send(self.session, self.outbound, &self.outbound.headers);
        let response = pause.run_until_cancelled(sent).await.transpose()?;
        Ok(response.map_or(Beginning::Stopped, Beginning::Whole))
    }
}

/// Checks the hash of a received content and returns its description.
fn complete(
    spec: &FetchSpec,
    outbound: &OutboundRequest,
    declared: Declared,
    received: Received,
) -> Result<Fetched, FetchError> {
    if let Some(expected) = spec.sha256.filter(|expected| *expected != received.hash) {
        let message = format!("the content's SHA-256 is {}, not {expected}", received.hash);
        return Err(FetchError::new(FailureCode::ChecksumMismatch, message));
    }
    let final_url = redacted(&outbound.url);
    Ok(Fetched {
        hash: received.hash,
        size: received.size,
        file_name: file_name(declared.disposition.as_deref(), &final_url, &received.media_type),
        media_type: received.media_type,
        final_url,
        origin_status: declared.origin_status,
    })
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
