//! A test origin: an HTTP server with the resources that the tests fetch.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use axum::serve::ListenerExt;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running origin. It stops when it is dropped.
#[derive(Debug)]
pub struct Origin {
    /// The address at which it listens.
    pub address: SocketAddr,
    hits: Arc<AtomicUsize>,
    peers: Arc<Mutex<Vec<IpAddr>>>,
    gate: watch::Sender<bool>,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Shared {
    hits: Arc<AtomicUsize>,
    gate: watch::Receiver<bool>,
}

impl Origin {
    /// Starts an origin on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let hits = Arc::new(AtomicUsize::new(0));
        let (gate, opened) = watch::channel(false);
        let shared = Shared { hits: hits.clone(), gate: opened };
        let router = Router::new()
            .route("/bytes/{size}/{seed}/{name}", get(bytes))
            .route("/{size}/{seed}", get(unnamed))
            .route("/gated/{size}/{seed}", get(gated))
            .route("/gated/{size}/{seed}/{name}", get(gated_named))
            .route("/undeclared/{size}/{seed}", get(undeclared))
            .route("/silent/{n}", get(silent))
            .route("/delayed/{milliseconds}/{n}", get(delayed))
            .route("/status/{status}", get(status))
            .route("/type/{kind}/{subtype}", get(typed))
            .route("/elf", get(elf))
            .route("/redirect", get(redirect))
            .route("/loop", get(async || Redirect::temporary("/loop")))
            .route("/counted", any(counted))
            .route("/named", get(named))
            .route("/once-failing/{n}", get(once_failing))
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let peers = Arc::new(Mutex::new(vec![]));
        let log = peers.clone();
        let listener = listener.tap_io(move |stream| {
            log.lock().unwrap().extend(stream.peer_addr().map(|peer| peer.ip()));
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            tokio::select! {
                result = axum::serve(listener, service) => result.expect("it serves"),
                () = stopped.cancelled() => {}
            }
        });
        Self { address, hits, peers, gate, _stop: stop.drop_guard() }
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the URL of `size` bytes that depend on `seed`.
    pub fn file(&self, size: usize, seed: u64, name: &str) -> String {
        self.url(&format!("/bytes/{size}/{seed}/{name}"))
    }

    /// Returns the number of requests for content so far.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Returns the peer address of each connection so far.
    pub fn peers(&self) -> Vec<IpAddr> {
        self.peers.lock().unwrap().clone()
    }

    /// Opens the gate: gated responses send their second half.
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }
}

/// Returns the bytes that the origin serves for this size and seed. They are hardly compressible, no two blocks are
/// equal, and contents of different seeds differ.
pub fn content(size: usize, seed: u64) -> Vec<u8> {
    let first = seed.wrapping_mul(0x0100_0000) + 1;
    (0..size as u64).map(|i| (first + i).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}

async fn bytes(State(shared): State<Shared>, Path((size, seed, _)): Path<(usize, u64, String)>) -> Response {
    shared.hits.fetch_add(1, Ordering::SeqCst);
    ([(CONTENT_TYPE, "application/octet-stream")], content(size, seed)).into_response()
}

async fn unnamed(State(shared): State<Shared>, Path((size, seed)): Path<(usize, u64)>) -> Response {
    bytes(State(shared), Path((size, seed, String::new()))).await
}

/// Sends `size` bytes without a Content-Length.
async fn undeclared(State(shared): State<Shared>, Path((size, seed)): Path<(usize, u64)>) -> Response {
    shared.hits.fetch_add(1, Ordering::SeqCst);
    let chunks =
        content(size, seed).chunks(64 * 1024).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    ([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(futures::stream::iter(chunks))).into_response()
}

/// Sends the first half at once, and the rest when the gate opens.
async fn gated(State(shared): State<Shared>, Path((size, seed)): Path<(usize, u64)>) -> Response {
    shared.hits.fetch_add(1, Ordering::SeqCst);
    let mut first = content(size, seed);
    let second = first.split_off(size / 2);
    let (sender, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(2);
    let mut gate = shared.gate.clone();
    tokio::spawn(async move {
        let _ = sender.send(Ok(first)).await;
        tokio::select! {
            () = async { let _ = gate.wait_for(|open| *open).await; } => {}
            () = sender.closed() => return,
        }
        let _ = sender.send(Ok(second)).await;
    });
    let stream = futures_stream(body);
    (
        [(CONTENT_TYPE, "text/plain".to_owned()), (http::header::CONTENT_LENGTH, size.to_string())],
        Body::from_stream(stream),
    )
        .into_response()
}

async fn gated_named(state: State<Shared>, Path((size, seed, _)): Path<(usize, u64, String)>) -> Response {
    gated(state, Path((size, seed))).await
}

fn futures_stream(
    receiver: tokio::sync::mpsc::Receiver<Result<Vec<u8>, std::io::Error>>,
) -> impl futures::Stream<Item = Result<Vec<u8>, std::io::Error>> {
    futures::stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|item| (item, receiver)))
}

async fn silent(State(shared): State<Shared>) -> StatusCode {
    shared.hits.fetch_add(1, Ordering::SeqCst);
    // Longer than any test.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    StatusCode::OK
}

async fn delayed(State(shared): State<Shared>, Path((milliseconds, _)): Path<(u64, u32)>) -> &'static str {
    shared.hits.fetch_add(1, Ordering::SeqCst);
    // Simulates a slow origin.
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    "at last"
}

async fn status(State(shared): State<Shared>, Path(status): Path<u16>) -> (StatusCode, &'static str) {
    shared.hits.fetch_add(1, Ordering::SeqCst);
    (StatusCode::from_u16(status).expect("a status"), "an error page")
}

async fn typed(Path((kind, subtype)): Path<(String, String)>) -> Response {
    ([(CONTENT_TYPE, format!("{kind}/{subtype}"))], "text").into_response()
}

async fn elf() -> Response {
    let mut elf = b"\x7fELF\x02\x01\x01\0".to_vec();
    elf.resize(1000, 0);
    ([(CONTENT_TYPE, "image/png")], elf).into_response()
}

async fn redirect(axum::extract::RawQuery(target): axum::extract::RawQuery) -> Redirect {
    Redirect::temporary(&target.unwrap_or_default())
}

/// Sends a different text for every call.
async fn counted(State(shared): State<Shared>) -> String {
    format!("call {}", shared.hits.fetch_add(1, Ordering::SeqCst))
}

async fn named(ConnectInfo(_): ConnectInfo<SocketAddr>) -> Response {
    let disposition = "attachment; filename=\"../r\u{e9}sum\u{e9}.txt\"; filename*=UTF-8''r%C3%A9sum%C3%A9.txt";
    let value = http::HeaderValue::from_bytes(disposition.as_bytes()).expect("a header");
    let mut response = "text".into_response();
    response.headers_mut().insert(CONTENT_DISPOSITION, value);
    response
}

/// Fails with 503 for the first call and returns content for later calls.
async fn once_failing(State(shared): State<Shared>) -> Response {
    if shared.hits.fetch_add(1, Ordering::SeqCst) == 0 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    "at last".into_response()
}
