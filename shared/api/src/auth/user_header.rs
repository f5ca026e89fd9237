//! Users that a reverse proxy has authenticated, and names in a header: Authelia, authentik, oauth2-proxy.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use domain::UserId;
use http::HeaderName;
use http::request::Parts;
use ipnet::IpNet;

/// The header with the user, and the proxies that may send it.
#[derive(Debug)]
pub(super) struct UserHeader {
    header: HeaderName,
    proxies: Vec<IpNet>,
}

impl UserHeader {
    /// Returns `None` if the settings name no header.
    pub fn new(settings: &settings::Security) -> Option<Self> {
        let header = HeaderName::from_bytes(settings.user_header.as_ref()?.as_bytes()).ok()?;
        Some(Self { header, proxies: settings.trusted_proxies.clone() })
    }

    /// Returns the user of a call. Returns `None` unless the connection comes from a trusted proxy, and the header has
    /// one printable name.
    pub fn user(&self, parts: &Parts) -> Option<UserId> {
        let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
        let peer = peer.ip().to_canonical();
        if !self.proxies.iter().any(|network| network.contains(&peer)) {
            return None;
        }
        // More than one: the proxy has not removed the header of the client.
        let mut values = parts.headers.get_all(&self.header).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        UserId::of_other_service(std::str::from_utf8(value.as_bytes()).ok()?.trim())
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_one_printable_name_from_a_trusted_proxy_counts() {
        let header = HeaderName::from_static("remote-user");
        let users = UserHeader { header, proxies: vec!["192.0.2.0/24".parse().unwrap()] };
        let user = |peer: &str, names: &[&[u8]]| {
            let mut request = Request::new(());
            request.extensions_mut().insert(ConnectInfo(format!("{peer}:1000").parse::<SocketAddr>().unwrap()));
            for name in names {
                request.headers_mut().append("remote-user", http::HeaderValue::from_bytes(name).unwrap());
            }
            users.user(&request.into_parts().0)
        };
        assert_eq!(user("192.0.2.1", &[b"alice"]), Some(UserId::new("alice")));
        assert_eq!(user("192.0.2.1", &["Алиса".as_bytes()]), Some(UserId::new("Алиса")));
        assert_eq!(user("[::ffff:192.0.2.1]", &[b"alice"]), Some(UserId::new("alice")));
        assert_eq!(user("198.51.100.1", &[b"alice"]), None, "another client");
        let long = [b'a'; 256];
        let refused: [&[&[u8]]; 7] =
            [&[], &[b""], &[b"alice", b"root"], &[b"\xff"], &[&long], &[b"anonymous"], &[b"token-0123"]];
        for names in refused {
            assert_eq!(user("192.0.2.1", names), None, "{names:?}");
        }
    }
}
