//! The address of a proxy, with its protocol and credentials.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use crate::choices::ProxyType;
use crate::value::{MASKED, Value};

/// The address of a proxy. Its `Debug` output does not contain the password.
#[derive(Debug, Clone)]
pub struct ProxyAddress {
    /// The protocol.
    pub kind: ProxyType,
    /// The host name or IP address; an IPv6 address has no brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user name and password, if the proxy requires them.
    pub credentials: Option<(String, SecretString)>,
}

impl Value for ProxyAddress {
    const SECRET: bool = true;

    fn allowed() -> String {
        "a URL such as socks5://user:password@host:1080, with the scheme socks5, socks5h, http or https".into()
    }

    /// The proxy without its credentials.
    fn shown(text: &str) -> String {
        let Ok(url) = Url::parse(text) else { return MASKED.to_owned() };
        let credentials = if url.username().is_empty() && url.password().is_none() { "" } else { "********@" };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{credentials}{}{port}", url.scheme(), url.host_str().unwrap_or_default())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        let (kind, port) = match url.scheme() {
            "socks5" | "socks5h" => (ProxyType::Socks5, 1080),
            "http" => (ProxyType::Http, 80),
            "https" => (ProxyType::Https, 443),
            other => return Err(format!("has the scheme {other}, which is not supported")),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("has more than a scheme, credentials, a host and a port: remove the path and the query".into());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("has no host")?;
        let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| "has credentials that are not UTF-8");
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let password = decoded(password.unwrap_or_default())?.into_owned();
                Some((decoded(user)?.into_owned(), SecretString::from(password)))
            }
        };
        Ok(Self { kind, host: host.trim_matches(['[', ']']).to_owned(), port: url.port().unwrap_or(port), credentials })
    }
}
