//! The HTTP server, with timeouts for slow clients.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

/// How long connections may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted, for example because of the limit of open files.
const PAUSE: Duration = Duration::from_millis(50);

/// The most bytes that a connection buffers of a request, and of a response that its client does not read.
const MAX_BUFFER: usize = 64 * 1024;

/// Whether the HTTP request has exactly one Host header, as HTTP/1.1 requires (RFC 9112, 3.2).
fn names_one_host<B>(request: &Request<B>) -> bool {
    request.version() < Version::HTTP_11 || request.headers().get_all(HOST).iter().count() == 1
}

fn no_host() -> Response<Body> {
    let problem = serde_json::json!({
        "type": "urn:proxytorrent:problem:bad_host",
        "title": "Bad Request",
        "status": 400,
        "detail": "a call must have one Host header (RFC 9112, 3.2)",
        "code": "bad_host",
    });
    let mut response = Response::new(Body::from(problem.to_string()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// Serves until `stop` is cancelled. A client may take `limit` to send the head of a call, and to receive the next bytes of
/// a response.
pub async fn serve(listener: TcpListener, router: Router, limit: Duration, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "connection not accepted");
                // Back-off until connections are closed.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Responses are small and must not wait for more data (Nagle).
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limit));
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = router.clone();
            async move { if names_one_host(&request) { router.oneshot(request).await } else { Ok(no_host()) } }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(MAX_BUFFER)
            .header_read_timeout(limit)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection broken");
            }
        });
    }
    drop(listener);
    // Connections that clients keep open must not delay the end.
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}
