//! Webseeds: the content of a request's torrent, for peers (BEP 19).
//!
//! The URL has no query: libtorrent does not use a webseed on loopback whose URL has one. There is no redirect: clients
//! follow one again and again, or not at all (arvidn/libtorrent#6402, #7682, transmission/transmission#7227).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use domain::{Content, InfoHash, RequestId, Status};
use futures::StreamExt;
use http::{Extensions, HeaderMap, Method};
use ipnet::IpNet;
use ports::{Clock, Requests, StoreError, Stores, UploadLimiter, VerifiedReader};
use settings::Settings;

use crate::client_address::ClientAddress;
use crate::client_limit::ClientLimit;
use crate::download::{self, Chunks};
use crate::passkey::Passkeys;
use crate::problem::Problem;
use crate::problem_code::ProblemCode;

/// Bytes per read. A response that its client does not read holds about two chunks.
const CHUNK: usize = 64 * 1024;

/// The interval at which a running download checks that its request has not ended.
const CHECK: Duration = Duration::from_secs(10);

/// The most bytes that are sent at once under an upload limit.
const LIMITED_PART: usize = 16 * 1024;

/// The fewest downloads that one client may have at once.
const MIN_PER_NETWORK: usize = 16;

/// Serves contents to peers, under the upload limit and the connection limits of the seeder.
pub struct Webseed {
    requests: Arc<dyn Requests>,
    clock: Arc<dyn Clock>,
    passkeys: Passkeys,
    reader: Arc<dyn VerifiedReader>,
    limiter: Option<Arc<dyn UploadLimiter>>,
    /// The downloads that are running.
    downloads: Arc<ClientLimit>,
    trusted_proxies: Vec<IpNet>,
}

impl std::fmt::Debug for Webseed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webseed").finish_non_exhaustive()
    }
}

impl Webseed {
    /// A webseed for the torrents of these requests. `tracker_secret` is the key of their URLs.
    pub fn new(
        stores: &Stores,
        tracker_secret: &[u8],
        reader: Arc<dyn VerifiedReader>,
        limiter: Option<Arc<dyn UploadLimiter>>,
        settings: &Settings,
    ) -> Self {
        // As many as the seeder may have peers, and an eighth for one client.
        let downloads = settings.torrent.max_connections.get_usize();
        Self {
            requests: stores.requests.clone(),
            clock: stores.clock.clone(),
            passkeys: Passkeys::new(tracker_secret, None),
            reader,
            limiter,
            downloads: ClientLimit::new(downloads, MIN_PER_NETWORK.max(downloads / 8)),
            trusted_proxies: settings.security.trusted_proxies.clone(),
        }
    }

    /// Returns a router that serves only this webseed.
    pub fn router(self) -> Router {
        Router::new()
            .route("/webseed/{id}/{key}", get(alone))
            .fallback(async || not_found())
            .layer(from_fn(render_problem))
            .with_state(Arc::new(self))
    }

    /// Responds to a call of `/webseed/{id}/{key}`.
    pub(crate) async fn respond(
        &self,
        path: Result<Path<(String, String)>, PathRejection>,
        client: ClientAddress,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let Path((id, key)) = path.map_err(|_| not_found())?;
        let id: RequestId = id.parse().map_err(|_| not_found())?;
        if !self.passkeys.opens_content(id, &key) {
            return Err(not_found());
        }
        // Before anything is read: a flood of calls must not reach the stores.
        let download = self.downloads.start(client.0).ok_or_else(|| {
            let detail = "too many downloads at once; retry later";
            Problem::new(ProblemCode::TooManyDownloads, detail).retry_after(10)
        })?;
        let ready = Ready { requests: self.requests.clone(), clock: self.clock.clone(), id };
        let (content, infohash) = ready.content().await?.ok_or_else(not_found)?;
        let (reader, limiter, hash) = (self.reader.clone(), self.limiter.clone(), content.hash);
        let checked = Arc::new(tokio::sync::Mutex::new(Instant::now()));
        let body = move |range| {
            download::chunks(range, CHUNK, move |offset, mut chunk| {
                let (reader, ready, checked) = (reader.clone(), ready.clone(), checked.clone());
                async move {
                    let mut checked = checked.lock().await;
                    if checked.elapsed() >= CHECK {
                        ready.content().await?.ok_or_else(|| StoreError::not_found("the service", ready.id))?;
                        *checked = Instant::now();
                    }
                    reader.read_at(infohash, hash, offset, &mut chunk).await?;
                    Ok(chunk)
                }
            })
        };
        let send = move |chunks| {
            let counted = limited(chunks, limiter).map(move |part| {
                // It ends with the body.
                let _download = &download;
                part
            });
            counted.boxed()
        };
        download::respond(&content, method, headers, body, send).await
    }
}

/// A request while its webseed is open.
#[derive(Clone)]
struct Ready {
    requests: Arc<dyn Requests>,
    clock: Arc<dyn Clock>,
    id: RequestId,
}

impl Ready {
    /// Returns the content and the torrent; `None` if the request has ended, or has no webseed.
    async fn content(&self) -> Result<Option<(Content, InfoHash)>, StoreError> {
        let row = self.requests.get(self.id).await?.map(|row| row.as_of(self.clock.now()));
        let row = row.filter(|row| row.status == Status::Ready && row.spec.webseed);
        Ok(row.and_then(|row| row.content.zip(row.infohash)))
    }
}

pub(crate) fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "there is no content at this path")
}

/// `GET /webseed/{id}/{key}` of a server that serves nothing else.
async fn alone(
    State(webseed): State<Arc<Webseed>>,
    path: Result<Path<(String, String)>, PathRejection>,
    extensions: Extensions,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let client = ClientAddress::of(&extensions, &headers, &webseed.trusted_proxies);
    webseed.respond(path, client, &method, &headers).await
}

async fn render_problem(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.render(&mut response, &path);
    }
    response
}

/// Waits before each part of a chunk until the upload limit allows it, and counts it.
fn limited(chunks: Chunks, limiter: Option<Arc<dyn UploadLimiter>>) -> Chunks {
    // Small parts, so that a low limit does not starve a client.
    let size = if limiter.is_some() { LIMITED_PART } else { usize::MAX };
    let parts = chunks.flat_map(move |chunk| {
        let mut rest = chunk.map_or_else(|error| (None, Some(error)), |bytes| (Some(bytes), None));
        futures::stream::iter(std::iter::from_fn(move || match &mut rest {
            (Some(bytes), _) if !bytes.is_empty() => Some(Ok(bytes.split_to(size.min(bytes.len())))),
            (_, error) => error.take().map(Err),
        }))
    });
    let parts = parts.then(move |part| {
        let limiter = limiter.clone();
        async move {
            let bytes = part.as_ref().map_or(0, Bytes::len) as u64;
            if let Some(limiter) = limiter {
                limiter.take(bytes).await;
            }
            metrics::counter!("proxytorrent_webseed_bytes_total").increment(bytes);
            part
        }
    });
    parts.boxed()
}
