//! HTTP client: proxy, DNS lookup with address checks, timeouts.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use domain::Failure;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Proxy, redirect};
use settings::{ExposeSecret, ProxyAddress, ProxyResolve, ProxyType};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use url::Url;

use super::interface::Interface;
use crate::policy::guard::Guard;

/// The error of a client that cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ClientError(pub(crate) String);

/// The factory of HTTP clients, which differ only in their proxy.
#[derive(Debug)]
pub(crate) struct Clients {
    settings: settings::Fetcher,
    resolve: ProxyResolve,
    guard: Guard,
    interface: Option<Arc<dyn Interface>>,
}

impl Clients {
    pub fn new(
        settings: &settings::Fetcher,
        resolve: ProxyResolve,
        guard: Guard,
        interface: Option<Arc<dyn Interface>>,
    ) -> Self {
        // Ignored: it fails if a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { settings: settings.clone(), resolve, guard, interface }
    }

    /// Builds a client that connects only through this proxy, or directly if it is `None`.
    pub fn build(&self, proxy: Option<&ProxyAddress>) -> Result<Client, ClientError> {
        let failed = |error: reqwest::Error| ClientError(error.without_url().to_string());
        let mut client = Client::builder()
            // Ignores HTTP_PROXY and the like: such a proxy would bypass the guard.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .user_agent(&self.settings.user_agent)
            .connect_timeout(self.settings.connect_timeout())
            .read_timeout(self.settings.read_timeout())
            // A dead connection must not be reused for the next try.
            .http2_keep_alive_interval(ALIVE)
            .http2_keep_alive_timeout(ALIVE)
            .http2_keep_alive_while_idle(true)
            .tls_danger_accept_invalid_certs(!self.settings.verify_ssl)
            .referer(false)
            // FETCHER__USER_AGENT is that of curl by default, so header names are written as curl writes them.
            .http1_title_case_headers()
            .dns_resolver(Arc::new(GuardedResolver { guard: self.guard.clone(), interface: self.interface.clone() }));
        if let Some(interface) = self.interface_to(proxy) {
            client = client.interface(interface.name());
        }
        if let Some(proxy) = proxy {
            client = client.proxy(Proxy::all(self.proxy_url(proxy)?).map_err(failed)?);
        }
        client.build().map_err(failed)
    }

    /// Returns the interface that connections are bound to; `None` if they are not. A proxy on this machine is reached by
    /// the loopback interface only.
    pub fn interface_to(&self, proxy: Option<&ProxyAddress>) -> Option<&Arc<dyn Interface>> {
        let is_local = |proxy: &ProxyAddress| {
            let host = proxy.host.trim_matches(['[', ']']);
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        };
        self.interface.as_ref().filter(|_| !proxy.is_some_and(is_local))
    }

    /// Returns the URL of the proxy for reqwest. It contains the password and must not be logged.
    fn proxy_url(&self, proxy: &ProxyAddress) -> Result<Url, ClientError> {
        let scheme = match (proxy.kind, self.resolve) {
            (ProxyType::Socks5, ProxyResolve::Remote) => "socks5h",
            (ProxyType::Socks5, ProxyResolve::Local) => "socks5",
            (ProxyType::Http, _) => "http",
            (ProxyType::Https, _) => "https",
        };
        let host = &proxy.host;
        let host = if host.contains(':') { format!("[{}]", host.trim_matches(['[', ']'])) } else { host.clone() };
        let why = "the host of a proxy (PROXY__PROXY_HOST, PROXY__URLS) must be a host name or an IP address";
        let bad = |()| ClientError(why.into());
        let mut url = Url::parse(&format!("{scheme}://{host}:{}", proxy.port)).map_err(|_| bad(()))?;
        if let Some((user, password)) = &proxy.credentials {
            url.set_username(user).map_err(bad)?;
            url.set_password(Some(password.expose_secret())).map_err(bad)?;
        }
        Ok(url)
    }
}

/// The interval of HTTP/2 keep-alive pings, and the timeout of each. It is less than the default of
/// `FETCHER__READ_TIMEOUT`.
const ALIVE: Duration = Duration::from_secs(10);

/// The limit of concurrent DNS lookups. Each lookup blocks a thread of the blocking pool until the resolver returns,
/// and file writes use the same pool.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

async fn look_up(name: String) -> io::Result<Vec<SocketAddr>> {
    let place = LOOKUPS.acquire().await;
    let looked_up = spawn_blocking(move || {
        let _place = place;
        (name.as_str(), 0).to_socket_addrs().map(Iterator::collect)
    });
    looked_up.await.map_err(io::Error::other)?
}

/// The DNS resolver of the connections. It refuses denied addresses, so that the checked address is the one that is
/// connected to (no DNS rebinding).
struct GuardedResolver {
    guard: Guard,
    interface: Option<Arc<dyn Interface>>,
}

/// The error of a lookup. reqwest's error wraps it, so that the failure code is preserved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error(transparent)]
    Blocked(Failure),
    #[error("the name has no address")]
    NotFound,
    #[error("the host name of the proxy has no address")]
    ProxyNotFound,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, interface) = (self.guard.clone(), self.interface.clone());
        Box::pin(async move {
            let (is_proxy, is_watched) = (guard.is_proxy_name(name.as_str()), guard.is_watched(name.as_str()));
            let not_found = || if is_proxy { LookupError::ProxyNotFound } else { LookupError::NotFound };
            let found = match interface {
                // Without a query, and without the interface.
                Some(_) if name.as_str() == "localhost" => look_up(name.as_str().to_owned()).await,
                Some(interface) => interface.look_up(name.as_str()).await,
                None => look_up(name.as_str().to_owned()).await,
            };
            let found = found.map_err(|_| not_found())?;
            if found.is_empty() {
                return Err(not_found().into());
            }
            // Every address is checked: one denied address among public ones indicates a DNS rebinding attack.
            for address in found.iter().filter(|_| !is_proxy) {
                guard.check_address(*address).map_err(LookupError::Blocked)?;
                if is_watched {
                    guard.check_not_own(address.ip()).map_err(LookupError::Blocked)?;
                }
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
