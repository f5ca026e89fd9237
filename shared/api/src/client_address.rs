//! The client's IP address: from the connection, or from `X-Forwarded-For` of a trusted reverse proxy.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName};
use ipnet::IpNet;
use tracing::warn;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's IP address: that of the connection, or the one that a trusted reverse proxy reports. `None` if the
/// connection has no known address. An IPv4 client on an IPv6 socket counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub Option<IpAddr>);

impl ClientAddress {
    /// Returns the last address in the chain of proxies that is not trusted. A client can forge the earlier entries
    /// of `X-Forwarded-For`.
    pub fn of(extensions: &Extensions, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let connection = extensions.get::<ConnectInfo<SocketAddr>>();
        let Some(ConnectInfo(peer)) = connection else { return Self(None) };
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        let mut client = peer.ip().to_canonical();
        if !is_trusted(client) && headers.contains_key(X_FORWARDED_FOR) {
            warn_once(client);
        }
        let chain = headers.get_all(X_FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
        for told in chain.flat_map(|value| value.rsplit(',')) {
            if !is_trusted(client) {
                break;
            }
            let told = told.trim();
            // Some proxies append the port.
            let address = told.parse::<IpAddr>().or_else(|_| told.parse::<SocketAddr>().map(|address| address.ip()));
            let Ok(address) = address else { break };
            client = address.to_canonical();
        }
        Self(Some(client))
    }
}

/// Warns once per process. Behind an untrusted reverse proxy all clients share one rate limit, and the tracker gives
/// peers the address of the proxy.
fn warn_once(proxy: IpAddr) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        warn!(
            %proxy,
            "X-Forwarded-For from an untrusted address ignored: if this is your reverse proxy, add its address to \
             SECURITY__TRUSTED_PROXIES"
        );
    });
}

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(Self(None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let headers = forwarded.iter().map(|value| (X_FORWARDED_FOR, value.parse().unwrap())).collect();
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        ClientAddress::of(&extensions, &headers, &trusted).0.unwrap().to_string()
    }

    #[test]
    fn x_forwarded_for_counts_only_from_trusted_proxies() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.7:1234"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.2.3.4"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.9", "198.51.100.7", "fd00::1"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, nonsense"]), "10.0.0.1");
    }
}
