//! The HTTP server, with limits for connections and slow clients.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use settings::Settings;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::client_limit::{ClientLimit, Permit};
use crate::problem::Problem;
use crate::problem_code::ProblemCode;

/// How long connections may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted, for example because of the limit of open files.
const PAUSE: Duration = Duration::from_millis(50);

/// The most bytes that a connection buffers of a request, and of a response that its client does not read.
const MAX_BUFFER: usize = 64 * 1024;

/// The most bytes that the kernel holds of a response and has not sent. By default it is up to 4 MiB.
const MAX_UNSENT: u32 = 128 * 1024;

/// The interval at which refused connections are logged.
const REFUSED: Duration = Duration::from_secs(60);

/// The limits of an HTTP server.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// The timeout of a client for the head of a call, and for the next bytes of a response.
    timeout: Duration,
    /// The connections that are open.
    connections: Arc<ClientLimit>,
    /// Connections of these reverse proxies are those of many clients.
    trusted_proxies: Vec<IpNet>,
}

impl HttpLimits {
    /// The limits in these settings. Each server needs its own.
    pub fn new(settings: &Settings) -> Self {
        let connections = settings.server.max_http_connections.get_usize();
        Self {
            timeout: Duration::from_secs(settings.server.client_timeout.get()),
            connections: ClientLimit::new(connections, (connections / 4).max(1)),
            trusted_proxies: settings.security.trusted_proxies.clone(),
        }
    }

    /// Returns the permit of a connection; `None` if there are too many.
    fn accept(&self, client: IpAddr) -> Option<Permit> {
        let client = client.to_canonical();
        if self.trusted_proxies.iter().any(|proxy| proxy.contains(&client)) {
            return self.connections.start_for_proxy();
        }
        self.connections.start(Some(client))
    }
}

/// The connections that were refused, for the log.
#[derive(Debug, Default)]
struct Refused {
    connections: u64,
    logged: Option<Instant>,
}

impl Refused {
    fn add(&mut self, client: IpAddr) {
        metrics::counter!("proxytorrent_http_connections_refused_total").increment(1);
        self.connections += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= REFUSED) {
            let connections = std::mem::take(&mut self.connections);
            warn!(%client, connections, "connections refused: too many are open (MAX_HTTP_CONNECTIONS)");
            self.logged = Some(Instant::now());
        }
    }
}

/// Whether the HTTP request has exactly one Host header, as HTTP/1.1 requires (RFC 9112, 3.2).
fn names_one_host<B>(request: &Request<B>) -> bool {
    request.version() < Version::HTTP_11 || request.headers().get_all(HOST).iter().count() == 1
}

fn no_host(path: &str) -> Response<Body> {
    let problem = Problem::new(ProblemCode::BadHost, "a call must have one Host header (RFC 9112, 3.2)");
    let mut response = problem.clone().into_response();
    problem.render(&mut response, path);
    response
}

/// Serves until `stop` is cancelled. Closes connections beyond the limits.
pub async fn serve(listener: TcpListener, router: Router, limits: HttpLimits, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let mut refused = Refused::default();
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
        let Some(permit) = limits.accept(peer.ip()) else {
            refused.add(peer.ip());
            continue;
        };
        // Responses are small and must not wait for more data (Nagle).
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.timeout));
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = router.clone();
            async move {
                if names_one_host(&request) { router.oneshot(request).await } else { Ok(no_host(request.uri().path())) }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(MAX_BUFFER)
            .header_read_timeout(limits.timeout)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection broken");
            }
            drop(permit);
        });
    }
    drop(listener);
    // Connections that clients keep open must not delay the end.
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}
