//! Protection against malicious web pages: security headers, CORS, and a check of `Host` against DNS rebinding.

use http::Method;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HOST, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::{Host, Url};

use crate::problem::Problem;
use crate::problem_code::ProblemCode;

/// The default security headers of a response. An endpoint may set other values.
const SECURITY: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (CACHE_CONTROL, "no-store"),
];

/// Adds the security headers that the endpoint did not set.
pub(crate) fn set_security_headers(headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Returns the CORS layer for these origins, or `None` if there are none.
pub(crate) fn cors(origins: &[String], token_header: Option<&HeaderName>) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.trim_end_matches('/').parse().ok()))
    };
    let own = ["idempotency-key", "x-key-id", "x-nonce", "x-signature", "x-timestamp"].map(HeaderName::from_static);
    let told = ["ratelimit", "ratelimit-policy", "x-request-id"].map(HeaderName::from_static);
    let cors = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(
            [AUTHORIZATION, CONTENT_TYPE, RANGE, IF_RANGE, IF_NONE_MATCH]
                .into_iter()
                .chain(own)
                .chain(token_header.cloned())
                .collect::<Vec<_>>(),
        )
        .expose_headers(
            [CONTENT_DISPOSITION, CONTENT_RANGE, ETAG, LOCATION, RETRY_AFTER]
                .into_iter()
                .chain(told)
                .collect::<Vec<_>>(),
        );
    Some(cors)
}

/// Refuses a call whose `Host` is an unknown name. It applies while authentication is off: a web page could point its
/// own host name at this machine's address and call the API as its own origin (DNS rebinding). The attack needs a
/// host name, so IP addresses and `localhost` are accepted.
pub(crate) fn check_host(headers: &HeaderMap, public: &Url) -> Result<(), Problem> {
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let host = host.to_str().ok().and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    let known = host.as_ref().and_then(Url::host).is_some_and(|host| match host {
        Host::Domain(name) => name.trim_end_matches('.') == "localhost" || Some(name) == public.host_str(),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    });
    if known {
        return Ok(());
    }
    let detail = "unknown host: use an IP address, localhost, or the host of PUBLIC_URL";
    Err(Problem::new(ProblemCode::UnknownHost, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_the_public_name_are_served() {
        let public = Url::parse("http://files.example:8000").unwrap();
        let is_served = |host: &str| {
            check_host(&HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]), &public).is_ok()
        };
        for host in ["127.0.0.1:8000", "[::1]:8000", "localhost", "LOCALHOST:80", "files.example:1", "192.0.2.1"] {
            assert!(is_served(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8000", "", "a b"] {
            assert!(!is_served(host), "{host}");
        }
    }
}
