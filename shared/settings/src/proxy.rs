//! The proxies of the settings, and contradictions between their settings.

use crate::choices::{ProxyResolve, ProxyType};
use crate::proxy_address::ProxyAddress;
use crate::sections::Proxy;

impl Proxy {
    /// The proxies to fetch through, the first one first; none if the proxy is off.
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
            "PROXY__PROXY_ENABLED: is off though a proxy is set: every origin sees this machine's address".to_owned()
        })
    }

    /// Refuses to have no proxy where it is on.
    pub(crate) fn refuse_absence(&self, refuse: &mut dyn FnMut(&str, &str)) {
        if self.proxy_enabled && self.proxy_host.is_none() && self.urls.is_empty() {
            refuse(
                "PROXY__PROXY_HOST",
                "the proxy is on, but its address is not set: set PROXY__PROXY_HOST and PROXY__PROXY_PORT (or \
                 PROXY__URLS), or allow direct fetches, which show this machine's address to every origin, with \
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
                    "is set beside PROXY__PROXY_HOST: put that proxy on the list, or unset one of the two",
                );
            }
            _ => {}
        }
        if self.proxy_password.is_some() && self.proxy_username.is_none() {
            refuse("PROXY__PROXY_USERNAME", "PROXY__PROXY_PASSWORD is set without a user name to go with it");
        }
        let configured = self.configured();
        let other =
            configured.iter().any(|proxy| proxy.kind != ProxyType::Socks5) || self.proxy_type != ProxyType::Socks5;
        if self.resolve == ProxyResolve::Local && other {
            refuse("PROXY__RESOLVE", "HTTP proxies look names up themselves: local goes with SOCKS5 proxies only");
        }
        if self.isolate && (other || configured.iter().any(|proxy| proxy.credentials.is_some())) {
            refuse(
                "PROXY__ISOLATE",
                "goes with SOCKS5 proxies that have no user name set: each request brings its own",
            );
        }
    }
}
