//! Outbound proxies: selection, failover with back-off, health checks.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Failure, FailureCode, UserId};
use lru::LruCache;
use reqwest::{Client, RequestBuilder, Response};
use settings::{ExposeSecret, ProxyAddress, ProxyType, SecretString};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_socks::Error as SocksError;
use tokio_socks::tcp::Socks5Stream;
use tracing::warn;

use super::classify::{CREDENTIALS_REFUSED, classify};
use super::client::{ClientError, Clients};
use super::interface::Interface;
use crate::error::FetchError;
use crate::policy::guard::Guard;

/// The initial cool-down of a failed proxy. It doubles with every further failure.
const REST: Duration = Duration::from_secs(15);
/// The maximum cool-down.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// The capacity of the client cache: pairs of owner and proxy whose connections are kept for later HTTP requests.
const OWNERS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// The target of the health check: unreachable for a proxy, and without a DNS lookup. A refusal shows that the proxy
/// runs and accepts the credentials.
const NOWHERE: (&str, u16) = ("127.0.0.1", 1);

/// The health of the proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyHealth {
    /// Proxies are disabled: every fetch is direct.
    Disabled,
    /// At least one proxy works.
    Working {
        /// The number of proxies that work.
        working: usize,
        /// The number of all proxies.
        of: usize,
    },
}

/// The numbers of proxies by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyStates {
    /// Proxies that fetches use.
    pub available: usize,
    /// Proxies that failed. They are used last until their cool-down ends.
    pub cooling_down: usize,
}

/// The outbound routes: the configured proxies, or one direct route if proxies are disabled. With proxies enabled,
/// there is no direct route.
pub(crate) struct ProxyPool {
    clients: Clients,
    ways: Vec<ProxyRoute>,
    /// Clients by owner and index of the route. Owners do not share connections: otherwise an origin could see that
    /// requests of different owners come from one service.
    owners: Mutex<LruCache<(UserId, usize), Client>>,
    isolate: bool,
    connect_timeout: Duration,
}

/// One outbound route.
struct ProxyRoute {
    /// The proxy. `None`: a direct connection.
    proxy: Option<ProxyAddress>,
    client: Client,
    rest: Mutex<Cooldown>,
}

/// The cool-down of a failed proxy.
#[derive(Default)]
struct Cooldown {
    until: Option<Instant>,
    /// Consecutive failures.
    failures: u32,
}

impl fmt::Debug for ProxyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyPool").field("ways", &self.ways.len()).finish_non_exhaustive()
    }
}

impl ProxyPool {
    pub fn new(
        fetcher: &settings::Fetcher,
        proxy: &settings::Proxy,
        guard: Guard,
        interface: Option<Arc<dyn Interface>>,
    ) -> Result<Self, ClientError> {
        let clients = Clients::new(fetcher, proxy.resolve, guard, interface);
        let way = |proxy: Option<ProxyAddress>| {
            Ok(ProxyRoute { client: clients.build(proxy.as_ref())?, proxy, rest: Mutex::default() })
        };
        let ways = if proxy.proxy_enabled {
            proxy.addresses().into_iter().map(|proxy| way(Some(proxy))).collect::<Result<Vec<_>, _>>()?
        } else {
            vec![way(None)?]
        };
        if ways.is_empty() {
            let message = "PROXY__PROXY_ENABLED is true, but neither PROXY__PROXY_HOST nor PROXY__URLS is set";
            return Err(ClientError(message.into()));
        }
        let owners = Mutex::new(LruCache::new(OWNERS));
        Ok(Self { ways, owners, isolate: proxy.isolate, connect_timeout: fetcher.connect_timeout(), clients })
    }

    /// Returns the session of one fetch, including its redirects and resumptions.
    pub fn session(&self, owner: &UserId) -> Session<'_> {
        let isolated = || Isolated { user: format!("{:032x}", rand::random::<u128>()), clients: Mutex::default() };
        Session { ways: self, owner: owner.clone(), isolated: self.isolate.then(isolated) }
    }

    /// Checks the health of every proxy. Returns the first failure if none works.
    pub async fn check(&self) -> Result<ProxyHealth, Failure> {
        let proxies: Vec<_> = self.ways.iter().filter_map(|way| way.proxy.as_ref().map(|proxy| (way, proxy))).collect();
        let checks = proxies.iter().map(|(way, proxy)| self.check_one(&way.client, proxy));
        let mut working = 0;
        let mut failed = None;
        for result in futures::future::join_all(checks).await {
            match result {
                Ok(()) => working += 1,
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        match failed {
            Some(failure) if working == 0 => Err(failure),
            _ if proxies.is_empty() => Ok(ProxyHealth::Disabled),
            _ => Ok(ProxyHealth::Working { working, of: proxies.len() }),
        }
    }

    async fn check_one(&self, client: &Client, proxy: &ProxyAddress) -> Result<(), Failure> {
        let check = async {
            match proxy.kind {
                ProxyType::Socks5 => check_socks5(proxy, self.clients.interface_to(Some(proxy))).await,
                ProxyType::Http | ProxyType::Https => check_http(client).await,
            }
        };
        timeout(self.connect_timeout, check).await.unwrap_or_else(|_| Err(too_late()))
    }
}

/// Whether a proxy generated this error response itself: it says so with `Proxy-Status` (RFC 9209), or with a header
/// of a known proxy (squid, tinyproxy, privoxy).
fn is_proxys_own(response: &Response) -> bool {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return false;
    }
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let server = text("server").to_ascii_lowercase();
    text("proxy-status").contains("error=")
        || response.headers().contains_key("x-squid-error")
        || ["tinyproxy", "privoxy"].iter().any(|proxy| server.starts_with(proxy))
}

fn too_late() -> Failure {
    Failure::new(FailureCode::ProxyTimeout, "the proxy did not respond in time (FETCHER__CONNECT_TIMEOUT)")
}

fn credentials_refused() -> Failure {
    Failure::new(FailureCode::ProxyAuthFailed, CREDENTIALS_REFUSED)
}

async fn check_socks5(proxy: &ProxyAddress, interface: Option<&Arc<dyn Interface>>) -> Result<(), Failure> {
    let unreachable = |why: &str| Failure::new(FailureCode::ProxyUnreachable, format!("the proxy {why}"));
    let stream = match interface {
        Some(interface) => interface.connect(&proxy.host, proxy.port).await,
        None => TcpStream::connect((proxy.host.as_str(), proxy.port)).await,
    };
    let stream = stream.map_err(|_| unreachable("does not accept connections"))?;
    let answer = match &proxy.credentials {
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, NOWHERE, user, password.expose_secret()).await
        }
        None => Socks5Stream::connect_with_socket(stream, NOWHERE).await,
    };
    match answer.map(drop) {
        Err(
            SocksError::NoAcceptableAuthMethods
            | SocksError::UnknownAuthMethod
            | SocksError::PasswordAuthFailure(_)
            | SocksError::AuthorizationRequired,
        ) => Err(credentials_refused()),
        Err(SocksError::Io(_)) => Err(unreachable("closed the connection during the SOCKS5 handshake")),
        Err(SocksError::InvalidResponseVersion | SocksError::InvalidReservedByte | SocksError::UnknownAddressType) => {
            Err(unreachable("does not speak SOCKS5"))
        }
        // The proxy understood the request. Whether it refused the target or could not reach it does not matter.
        _ => Ok(()),
    }
}

async fn check_http(client: &Client) -> Result<(), Failure> {
    let (host, port) = NOWHERE;
    match client.head(format!("http://{host}:{port}/")).send().await {
        // 407 (RFC 9110, 15.5.8). tinyproxy sends 401 for a wrong password; no origin can have sent it here.
        Ok(response) if matches!(response.status().as_u16(), 401 | 407) => Err(credentials_refused()),
        Ok(_) => Ok(()),
        Err(error) => {
            let failure = classify(&error, true, false);
            Err(match failure.code {
                FailureCode::ProxyAuthFailed | FailureCode::ProxyTimeout | FailureCode::ProxyUnreachable => failure,
                _ if error.is_timeout() => too_late(),
                _ => Failure::new(FailureCode::ProxyUnreachable, "the proxy does not respond like an HTTP proxy"),
            })
        }
    }
}

/// The outbound routes for one fetch.
pub(crate) struct Session<'a> {
    ways: &'a ProxyPool,
    owner: UserId,
    /// The isolation of this fetch: a random SOCKS user name and its own client for each proxy.
    isolated: Option<Isolated>,
}

struct Isolated {
    user: String,
    /// Clients by index of the route.
    clients: Mutex<HashMap<usize, Client>>,
}

impl Session<'_> {
    /// Sends an HTTP request through the first proxy that works. Fails over to the next proxy only before the proxy
    /// has connected to the origin, so that an origin never receives the request twice. If a proxy sends an error
    /// response itself, it is unknown whether it had connected: then only a request that may be `repeated` is sent
    /// through the next proxy.
    pub async fn send(
        &self,
        repeated: bool,
        make: impl Fn(&Client) -> RequestBuilder + Send + Sync,
    ) -> Result<Response, FetchError> {
        let mut last = None;
        for index in self.ways.in_order() {
            let way = &self.ways.ways[index];
            let client = self.client(index)?;
            let failure = match make(&client).send().await {
                Ok(response) => match self.refused_by_proxy(way, &client, &response).await {
                    None => {
                        way.worked();
                        return Ok(response);
                    }
                    Some(failure) if failure.code == FailureCode::ProxyRefused && !repeated => {
                        return Err(failure.into());
                    }
                    Some(failure) => failure,
                },
                Err(error) => self.classify_with_health(way, &client, &error).await,
            };
            let Some(proxy) = &way.proxy else { return Err(failure.into()) };
            match failure.code {
                FailureCode::ProxyUnreachable | FailureCode::ProxyTimeout | FailureCode::ProxyAuthFailed => {
                    warn!(proxy.host = proxy.host, proxy.port, error.code = %failure.code, "proxy failed");
                    way.failed();
                }
                FailureCode::ProxyRefused => {}
                // The origin caused the failure: another proxy would not help.
                _ => return Err(failure.into()),
            }
            last = Some(failure);
        }
        Err(last.unwrap_or_else(too_late).into())
    }

    /// Classifies an error. If the cause is unclear, checks the health of the proxy.
    async fn classify_with_health(&self, way: &ProxyRoute, client: &Client, error: &reqwest::Error) -> Failure {
        let is_https = error.url().is_some_and(|url| url.scheme() == "https");
        let failure = classify(error, way.proxy.is_some(), is_https);
        let speaks_http = way.proxy.as_ref().is_some_and(|proxy| proxy.kind != ProxyType::Socks5);
        let unclear = match failure.code {
            // Either the proxy or the origin behind it was slow.
            FailureCode::ConnectTimeout => true,
            // hyper-util does not report why the tunnel was refused.
            FailureCode::ProxyRefused => speaks_http,
            // For http URLs, the connection is with the proxy, not with the origin.
            FailureCode::ReadTimeout | FailureCode::TransferBroken | FailureCode::BadResponse => {
                speaks_http && !is_https
            }
            _ => false,
        };
        match &way.proxy {
            Some(proxy) if unclear => self.ways.check_one(client, proxy).await.err().unwrap_or(failure),
            _ => failure,
        }
    }

    /// Returns a failure if the proxy itself generated the response: it refused the credentials, or refused or failed
    /// to contact the origin. For `http` URLs the response comes through the proxy, so it may be the proxy's own.
    async fn refused_by_proxy(&self, way: &ProxyRoute, client: &Client, response: &Response) -> Option<Failure> {
        let proxy = way.proxy.as_ref().filter(|proxy| proxy.kind != ProxyType::Socks5)?;
        if response.url().scheme() != "http" {
            return None;
        }
        if !matches!(response.status().as_u16(), 401 | 407) {
            let message = || format!("the proxy itself responded with {}, not the origin", response.status());
            return is_proxys_own(response).then(|| Failure::new(FailureCode::ProxyRefused, message()));
        }
        let failure = self.ways.check_one(client, proxy).await.err()?;
        (failure.code == FailureCode::ProxyAuthFailed).then_some(failure)
    }

    /// Returns the client for a route: this fetch's own if isolated, else the owner's.
    fn client(&self, index: usize) -> Result<Client, FetchError> {
        let way = &self.ways.ways[index];
        let (Some(isolated), Some(proxy)) = (&self.isolated, &way.proxy) else { return self.owners_client(index) };
        let mut clients = isolated.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&index) {
            return Ok(client.clone());
        }
        // Tor isolates circuits by user name and password (IsolateSOCKSAuth). The password is arbitrary.
        let credentials = Some((isolated.user.clone(), SecretString::from("isolated")));
        let client = self.ways.clients.build(Some(&ProxyAddress { credentials, ..proxy.clone() }));
        let client = client.map_err(|error| FetchError::new(FailureCode::Internal, error.to_string()))?;
        clients.insert(index, client.clone());
        Ok(client)
    }

    fn owners_client(&self, index: usize) -> Result<Client, FetchError> {
        let key = (self.owner.clone(), index);
        let mut owners = self.ways.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = owners.get(&key) {
            return Ok(client.clone());
        }
        let client = self.ways.clients.build(self.ways.ways[index].proxy.as_ref());
        let client = client.map_err(|error| FetchError::new(FailureCode::Internal, error.to_string()))?;
        owners.put(key, client.clone());
        Ok(client)
    }
}

impl ProxyPool {
    /// Returns the numbers of proxies without and with a cool-down.
    pub fn states(&self) -> ProxyStates {
        let now = Instant::now();
        let proxies = || self.ways.iter().filter(|way| way.proxy.is_some());
        let cooling_down = proxies().filter(|way| way.rest().until.is_some_and(|until| until > now)).count();
        ProxyStates { available: proxies().count() - cooling_down, cooling_down }
    }

    /// Returns the indices of the routes in the order of use: routes without cool-down in configured order, then the
    /// others by the end of their cool-down.
    fn in_order(&self) -> Vec<usize> {
        let now = Instant::now();
        let mut order: Vec<_> = (0..self.ways.len()).collect();
        order.sort_by_key(|index| self.ways[*index].rest().until.filter(|until| *until > now));
        order
    }
}

impl ProxyRoute {
    fn rest(&self) -> std::sync::MutexGuard<'_, Cooldown> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worked(&self) {
        *self.rest() = Cooldown::default();
    }

    fn failed(&self) {
        let mut rest = self.rest();
        let time = (REST * 2_u32.saturating_pow(rest.failures.min(10))).min(LONGEST_REST);
        *rest = Cooldown { until: Some(Instant::now() + time), failures: rest.failures + 1 };
    }
}
