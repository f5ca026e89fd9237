//! The configured proxies, and checks for contradictory proxy settings.

use crate::choices::{ProxyResolve, ProxyType};
use crate::proxy_address::ProxyAddress;
use crate::sections::Proxy;

impl Proxy {
    /// Returns the proxies to fetch through, in order of preference; none if the proxy is off.
    pub fn addresses(&self) -> Vec<ProxyAddress> {
        if self.proxy_enabled { self.configured() } else { vec![] }
    }

    fn configured(&self) -> Vec<ProxyAddress> {
        let (Some(host), Some(port)) = (&self.proxy_host, self.proxy_port) else { return self.urls.clone() };
        let password = || self.proxy_password.clone().unwrap_or_else(|| String::new().into());
        let credentials = self.proxy_username.clone().map(|user| (user, password()));
        vec![ProxyAddress { kind: self.proxy_type, host: host.clone(), port, credentials }]
    }

    pub(crate) fn warning(&self) -> Option<String> {
        let idle = !self.proxy_enabled && !self.configured().is_empty();
        idle.then(|| {
            "PROXY__PROXY_ENABLED: is off although a proxy is set: origins see this machine's address".to_owned()
        })
    }

    /// Reports a problem if the proxy is on and no proxy is set.
    pub(crate) fn refuse_absence(&self, refuse: &mut dyn FnMut(&str, &str)) {
        if self.proxy_enabled && self.proxy_host.is_none() && self.urls.is_empty() {
            refuse(
                "PROXY__PROXY_HOST",
                "the proxy is on, but its address is not set: set PROXY__PROXY_HOST and PROXY__PROXY_PORT (or \
                 PROXY__URLS), or allow direct fetches, which reveal this machine's address to every origin, with \
                 PROXY__PROXY_ENABLED=false",
            );
        }
    }

    pub(crate) fn refuse_contradictions(&self, refuse: &mut dyn FnMut(&str, &str)) {
        match (&self.proxy_host, self.proxy_port) {
            (Some(_), None) if self.proxy_enabled => {
                refuse("PROXY__PROXY_PORT", "PROXY__PROXY_HOST is set, but its port is not: set PROXY__PROXY_PORT");
            }
            (Some(_), _) if !self.urls.is_empty() => {
                refuse(
                    "PROXY__URLS",
                    "cannot be combined with PROXY__PROXY_HOST: add that proxy to the list, or unset one of the two",
                );
            }
            _ => {}
        }
        if self.proxy_password.is_some() && self.proxy_username.is_none() {
            refuse("PROXY__PROXY_USERNAME", "PROXY__PROXY_PASSWORD is set without a user name: set both");
        }
        let configured = self.configured();
        let other =
            configured.iter().any(|proxy| proxy.kind != ProxyType::Socks5) || self.proxy_type != ProxyType::Socks5;
        if self.resolve == ProxyResolve::Local && other {
            refuse("PROXY__RESOLVE", "local works with SOCKS5 proxies only: HTTP proxies resolve names themselves");
        }
        if self.isolate && (other || configured.iter().any(|proxy| proxy.credentials.is_some())) {
            refuse(
                "PROXY__ISOLATE",
                "works only with SOCKS5 proxies without a user name: each request sends a separate one",
            );
        }
    }
}
