//! The HTTP client: its proxy, its look-up, its time-outs.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::Failure;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Proxy, redirect};
use settings::{ExposeSecret, ProxyResolve, ProxyType};
use url::Url;

use crate::guard::Guard;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ClientError(String);

/// The one client of all fetches, so that connections to the proxy and to origins are reused.
pub(crate) fn build(fetcher: &settings::Fetcher, proxy: &settings::Proxy, guard: Guard) -> Result<Client, ClientError> {
    let failed = |error: reqwest::Error| ClientError(error.without_url().to_string());
    // Installing it a second time fails, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        // No proxy from the environment: it would be an unchecked way out.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(&fetcher.user_agent)
        .connect_timeout(fetcher.connect_timeout())
        .read_timeout(fetcher.read_timeout())
        .tls_danger_accept_invalid_certs(!fetcher.verify_ssl)
        .referer(false)
        .dns_resolver(Arc::new(GuardedResolver(guard)));
    if proxy.proxy_enabled {
        client = client.proxy(Proxy::all(proxy_url(proxy)?).map_err(failed)?);
    }
    client.build().map_err(failed)
}

/// The proxy as reqwest wants it. Never in a log: it holds the password.
fn proxy_url(proxy: &settings::Proxy) -> Result<Url, ClientError> {
    let missing = |name: &str| ClientError(format!("the proxy is on, and {name} is not set"));
    let host = proxy.proxy_host.as_deref().ok_or_else(|| missing("PROXY__PROXY_HOST"))?;
    let port = proxy.proxy_port.ok_or_else(|| missing("PROXY__PROXY_PORT"))?;
    let scheme = match (proxy.proxy_type, proxy.resolve) {
        (ProxyType::Socks5, ProxyResolve::Remote) => "socks5h",
        (ProxyType::Socks5, ProxyResolve::Local) => "socks5",
        (ProxyType::Http, _) => "http",
        (ProxyType::Https, _) => "https",
    };
    let host = if host.contains(':') { format!("[{}]", host.trim_matches(['[', ']'])) } else { host.to_owned() };
    let bad = |()| ClientError("PROXY__PROXY_HOST is not a host name or address".into());
    let mut url = Url::parse(&format!("{scheme}://{host}:{port}")).map_err(|_| bad(()))?;
    if let Some(user) = &proxy.proxy_username {
        url.set_username(user).map_err(bad)?;
        let password = proxy.proxy_password.as_ref().map(ExposeSecret::expose_secret);
        url.set_password(password).map_err(bad)?;
    }
    Ok(url)
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
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| LookupError::NotFound)?;
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() {
                return Err(LookupError::NotFound.into());
            }
            // All of them: one bad answer among good ones is an attack, not a mishap.
            for address in &found {
                guard.check_address(*address).map_err(LookupError::Blocked)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
