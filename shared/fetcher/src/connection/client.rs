//! The HTTP client: its proxy, its look-up, its time-outs.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use domain::Failure;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Proxy, redirect};
use settings::{ExposeSecret, ProxyAddress, ProxyResolve, ProxyType};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use url::Url;

use crate::policy::guard::Guard;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ClientError(pub(crate) String);

/// Makes the clients, which differ in their proxy alone.
#[derive(Debug)]
pub(crate) struct Clients {
    settings: settings::Fetcher,
    resolve: ProxyResolve,
    guard: Guard,
}

impl Clients {
    pub fn new(settings: &settings::Fetcher, resolve: ProxyResolve, guard: Guard) -> Self {
        // Installing it a second time fails, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { settings: settings.clone(), resolve, guard }
    }

    /// A client that goes through this proxy and no other way, or through none.
    pub fn build(&self, proxy: Option<&ProxyAddress>) -> Result<Client, ClientError> {
        let failed = |error: reqwest::Error| ClientError(error.without_url().to_string());
        let mut client = Client::builder()
            // No proxy from the environment: it would be an unchecked way out.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .user_agent(&self.settings.user_agent)
            .connect_timeout(self.settings.connect_timeout())
            .read_timeout(self.settings.read_timeout())
            // A connection that is dead must not be used for the next try.
            .http2_keep_alive_interval(ALIVE)
            .http2_keep_alive_timeout(ALIVE)
            .http2_keep_alive_while_idle(true)
            .tls_danger_accept_invalid_certs(!self.settings.verify_ssl)
            .referer(false)
            // As curl writes them, whose name FETCHER__USER_AGENT has by default.
            .http1_title_case_headers()
            .dns_resolver(Arc::new(GuardedResolver(self.guard.clone())));
        if let Some(proxy) = proxy {
            client = client.proxy(Proxy::all(self.proxy_url(proxy)?).map_err(failed)?);
        }
        client.build().map_err(failed)
    }

    /// The proxy as reqwest wants it. Never in a log: it holds the password.
    fn proxy_url(&self, proxy: &ProxyAddress) -> Result<Url, ClientError> {
        let scheme = match (proxy.kind, self.resolve) {
            (ProxyType::Socks5, ProxyResolve::Remote) => "socks5h",
            (ProxyType::Socks5, ProxyResolve::Local) => "socks5",
            (ProxyType::Http, _) => "http",
            (ProxyType::Https, _) => "https",
        };
        let host = &proxy.host;
        let host = if host.contains(':') { format!("[{}]", host.trim_matches(['[', ']'])) } else { host.clone() };
        let bad = |()| ClientError("the proxy's host is neither a name nor an address".into());
        let mut url = Url::parse(&format!("{scheme}://{host}:{}", proxy.port)).map_err(|_| bad(()))?;
        if let Some((user, password)) = &proxy.credentials {
            url.set_username(user).map_err(bad)?;
            url.set_password(Some(password.expose_secret())).map_err(bad)?;
        }
        Ok(url)
    }
}

/// How often an HTTP/2 connection is asked whether it lives, and how long it may take to answer: less than
/// `FETCHER__READ_TIMEOUT` is by default.
const ALIVE: Duration = Duration::from_secs(10);

/// Look-ups at once. Each takes a thread, for as long as the resolver cares to wait, of those that files are written
/// with as well.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

async fn look_up(name: String) -> io::Result<Vec<SocketAddr>> {
    let place = LOOKUPS.acquire().await;
    let looked_up = spawn_blocking(move || {
        let _place = place;
        (name.as_str(), 0).to_socket_addrs().map(Iterator::collect)
    });
    looked_up.await.map_err(io::Error::other)?
}

/// Looks names up for the connection itself, and lets no address through that may not be fetched from:
/// what was checked is what is connected to.
struct GuardedResolver(Guard);

/// Travels inside reqwest's error, so that the failure keeps its code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error(transparent)]
    Blocked(Failure),
    #[error("the name has no address")]
    NotFound,
    #[error("the proxy's name has no address")]
    ProxyNotFound,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let (is_proxy, is_watched) = (guard.is_proxy_name(name.as_str()), guard.is_watched(name.as_str()));
            let not_found = || if is_proxy { LookupError::ProxyNotFound } else { LookupError::NotFound };
            let found = look_up(name.as_str().to_owned()).await.map_err(|_| not_found())?;
            if found.is_empty() {
                return Err(not_found().into());
            }
            // All of them: one bad answer among good ones is an attack, not a mishap.
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
