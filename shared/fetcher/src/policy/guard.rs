//! SSRF guard: allowed and blocked hosts, ports and addresses.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use domain::{Failure, FailureCode};
use ipnet::IpNet;
use settings::HostName;
use url::{Host, Url};

use super::addresses::{self, PrivateName};

/// The maximum length of a DNS name in bytes (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 253;

/// The policy for hosts, ports and addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    allow_networks: Vec<IpNet>,
    allowed_hosts: Vec<String>,
    blocked_hosts: Vec<String>,
    allowed_ports: Vec<u16>,
    /// The host and port of every proxy.
    proxies: Vec<(String, u16)>,
    /// The listeners of this service.
    own: RwLock<Vec<SocketAddr>>,
    /// Host names with pending HTTP requests to a port of this service, and how many requests each has. A DNS lookup
    /// does not know the port, so the resolver checks these names against the own listeners.
    watched: Mutex<HashMap<String, usize>>,
}

/// A guard value that keeps a name in the watched set until it is dropped.
pub(crate) struct Watch {
    guard: Guard,
    name: String,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.guard.watched();
        if let Some(count) = watched.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                watched.remove(&self.name);
            }
        }
    }
}

impl Guard {
    /// Creates the guard from the settings.
    pub fn new(settings: &settings::Fetcher, proxy: &settings::Proxy) -> Self {
        let hosts = |list: &[HostName]| list.iter().map(|host| host.as_str().to_owned()).collect();
        Self(Arc::new(Rules {
            allow_networks: settings.allow_networks.clone(),
            allowed_hosts: hosts(&settings.allowed_hosts),
            blocked_hosts: hosts(&settings.blocked_hosts),
            allowed_ports: settings.allowed_ports.iter().map(|port| port.get_u16()).collect(),
            proxies: proxy.addresses().iter().map(|proxy| (canonical(&proxy.host), proxy.port)).collect(),
            own: RwLock::default(),
            watched: Mutex::default(),
        }))
    }

    /// Adds a listener of this service. It is always blocked, even if the settings allow its network.
    pub fn add_own(&self, listener: SocketAddr) {
        self.0.own.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Checks the scheme, the host and the port of the URL, and the address if the host is a literal address. The URL
    /// parser has already normalized the spellings of IPv4 addresses (octal, hexadecimal, short forms).
    pub fn check_url(&self, url: &Url) -> Result<(), Failure> {
        if !matches!(url.scheme(), "http" | "https") {
            let message = format!("the scheme {} cannot be fetched; allowed: http and https", url.scheme());
            return Err(Failure::new(FailureCode::UnsupportedScheme, message));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(Failure::new(FailureCode::BlockedHost, "the URL has no host"));
        };
        self.check_host(&host, port)?;
        match host {
            Host::Ipv4(address) => self.check_address((address, port).into())?,
            Host::Ipv6(address) => self.check_address((address, port).into())?,
            Host::Domain(_) => {}
        }
        self.check_port(port)
    }

    /// Whether this is the host name of a proxy. The operator configured it, so it may resolve to any address; no URL
    /// may use it.
    pub(crate) fn is_proxy_name(&self, name: &str) -> bool {
        let name = canonical(name);
        self.0.proxies.iter().any(|(proxy, _)| *proxy == name && proxy.parse::<IpAddr>().is_err())
    }

    fn check_port(&self, port: u16) -> Result<(), Failure> {
        let allowed = &self.0.allowed_ports;
        let why = match (allowed.is_empty(), allowed.contains(&port)) {
            (true, _) if addresses::OTHER_PROTOCOLS.contains(&port) => "belongs to another protocol",
            (false, false) => "is not on the list of allowed ports",
            _ => return Ok(()),
        };
        let message = format!("port {port} {why}; an operator can allow it with FETCHER__ALLOWED_PORTS");
        Err(Failure::new(FailureCode::BlockedPort, message))
    }

    fn check_host(&self, host: &Host<&str>, port: u16) -> Result<(), Failure> {
        let name = canonical(&host.to_string());
        if name.len() > LONGEST_NAME {
            let message = format!("the host name has more than {LONGEST_NAME} bytes (RFC 1035)");
            return Err(Failure::new(FailureCode::BlockedHost, message));
        }
        if self.is_proxy_name(&name) || self.is_proxy(&name, port) {
            return Err(Failure::new(FailureCode::BlockedHost, "the host is the proxy itself"));
        }
        let listed = |list: &[String]| list.iter().any(|suffix| is_within(&name, suffix));
        if listed(&self.0.blocked_hosts) {
            return Err(Failure::new(FailureCode::BlockedHost, format!("{name} is on the list of blocked hosts")));
        }
        if !self.0.allowed_hosts.is_empty() && !listed(&self.0.allowed_hosts) {
            return Err(Failure::new(FailureCode::BlockedHost, format!("{name} is not on the list of allowed hosts")));
        }
        if let Some(private) = addresses::PRIVATE_NAMES.iter().find(|private| is_within(&name, private.name))
            && !self.is_opened(private)
        {
            let message =
                format!("{name} is {}; an operator can allow its network with FETCHER__ALLOW_NETWORKS", private.what);
            return Err(Failure::new(FailureCode::BlockedAddress, message));
        }
        // If the proxy resolves names, such a name can still lead to this machine, so check the own listeners and the
        // proxies at each of its addresses.
        let private = addresses::PRIVATE_NAMES.iter().filter(|private| is_within(&name, private.name));
        for address in private.flat_map(|private| private.means) {
            self.check_own((*address, port).into())?;
            if self.is_proxy(&address.to_string(), port) {
                return Err(Failure::new(FailureCode::BlockedHost, "the host is the proxy itself"));
            }
        }
        Ok(())
    }

    fn is_proxy(&self, host: &str, port: u16) -> bool {
        self.0.proxies.iter().any(|(proxy, at)| proxy == host && *at == port)
    }

    /// Whether the settings allow a network that can contain an address of this name.
    fn is_opened(&self, private: &PrivateName) -> bool {
        let networks = &self.0.allow_networks;
        match private.means {
            [] => !networks.is_empty(),
            means => networks.iter().any(|network| means.iter().any(|address| network.contains(address))),
        }
    }

    /// Watches the host name of the URL during an HTTP request if its port is a port of this service. While the name
    /// is watched, it must not resolve to an address of this service.
    pub(crate) fn watch(&self, url: &Url) -> Option<Watch> {
        let Some(Host::Domain(name)) = url.host() else { return None };
        let port = url.port_or_known_default()?;
        self.0.own.read().unwrap_or_else(PoisonError::into_inner).iter().find(|own| own.port() == port)?;
        let name = canonical(name);
        *self.watched().entry(name.clone()).or_default() += 1;
        Some(Watch { guard: self.clone(), name })
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the resolver must check this name against the own listeners.
    pub(crate) fn is_watched(&self, name: &str) -> bool {
        self.watched().contains_key(&canonical(name))
    }

    /// Checks an address of a watched name against every port of this service.
    pub(crate) fn check_not_own(&self, ip: IpAddr) -> Result<(), Failure> {
        let own = self.0.own.read().unwrap_or_else(PoisonError::into_inner).clone();
        own.iter().try_for_each(|own| self.check_address((ip, own.port()).into()))
    }

    /// Checks an address before a connection is opened to it.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), Failure> {
        self.check_own(address)?;
        let ip = address.ip();
        match addresses::denied(ip) {
            Some(denied) if !self.0.allow_networks.iter().any(|network| network.contains(&ip)) => {
                let message = format!(
                    "{ip} is {} ({}); an operator can allow it with FETCHER__ALLOW_NETWORKS",
                    denied.what, denied.source
                );
                Err(Failure::new(FailureCode::BlockedAddress, message))
            }
            _ => Ok(()),
        }
    }

    /// Refuses the listeners of this service.
    fn check_own(&self, address: SocketAddr) -> Result<(), Failure> {
        // An IPv4-mapped IPv6 address reaches the same listener.
        let ip = address.ip().to_canonical();
        let own = self.0.own.read().unwrap_or_else(PoisonError::into_inner);
        // A connection to the unspecified address reaches this machine.
        let ours = |own: &SocketAddr| {
            own.ip() == ip || own.ip().is_unspecified() && is_local(ip) || ip.is_unspecified() && is_local(own.ip())
        };
        if own.iter().any(|own| own.port() == address.port() && ours(own)) {
            return Err(Failure::new(FailureCode::BlockedAddress, format!("{address} is this service itself")));
        }
        Ok(())
    }
}

/// Whether this machine has the address: only a local address can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Returns the canonical form of a host name or address, for comparison.
fn canonical(host: &str) -> String {
    HostName::new(host).map_or_else(|| host.to_ascii_lowercase(), |host| host.as_str().to_owned())
}

/// Whether `name` is `suffix` or a subdomain of it.
fn is_within(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(pairs: &[(&str, &str)]) -> Guard {
        let pairs = pairs.iter().copied().chain([("PROFILE", "development")]);
        let settings = settings::Settings::from_pairs(pairs).unwrap();
        Guard::new(&settings.fetcher, &settings.proxy)
    }

    fn code(guard: &Guard, url: &str) -> Option<FailureCode> {
        guard.check_url(&Url::parse(url).unwrap_or_else(|e| panic!("{url}: {e}"))).err().map(|failure| failure.code)
    }

    #[test]
    fn every_way_to_write_a_local_address_is_blocked() {
        let guard = guard(&[]);
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://0/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[fe80::1]/",
            "http://１２７.０.０.１/",
            "http://127。0。0。1/",
            "http://%31%32%37.0.0.1/",
            "http://a@127.0.0.1/",
            "http://example.org@127.0.0.1/",
            "http://169.254.169.254/latest/",
            "http://[fd00:ec2::254]/",
            "http://localhost/",
            "http://LOCALHOST/",
            "http://localhost./",
            "http://a.localhost/",
            "http://localhost.localdomain/",
            "http://ip6-localhost/",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://printer.local/",
            "http://[::FFFF:127.0.0.1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[64:ff9b:1::a00:1]/",
            "http://[2001:0:7f00:1::]/",
            "http://[fec0::1]/",
            "http://0300.0250.1.1/",
            "http://192.168.257/",
            "http://3232235777/",
            "http://0xa9fea9fe/",
            "http:127.0.0.1",
            "http:\\\\127.0.0.1\\",
            "http://127.0.0.1\\@example.org/",
            "http://127.0.0.1\t/",
            "http://①②⑦.⓪.⓪.①/",
            "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
            "http://loc\u{ad}alhost/",
            "https://192.168.1.1:8443/",
            "http://10.0.0.1/",
            "http://100.100.100.200/",
        ] {
            assert_eq!(code(&guard, url), Some(FailureCode::BlockedAddress), "{url}");
        }
    }

    #[test]
    fn public_hosts_and_addresses_are_allowed() {
        let guard = guard(&[]);
        for url in ["http://example.org/", "https://8.8.8.8/", "http://[2a00:1450::1]:8080/", "http://notlocalhost/"] {
            assert_eq!(code(&guard, url), None, "{url}");
        }
    }

    #[test]
    fn malformed_hosts_are_not_urls() {
        for url in ["http://[fe80::1%25eth0]/", "http://[::1%eth0]/", "http://127.0.0.1.256/", "http://0x1ffffffff/"] {
            assert!(Url::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn ports_of_other_protocols_are_blocked_unless_they_are_listed() {
        for (ports, url, expected) in [
            ("", "http://example.org:25/", Some(FailureCode::BlockedPort)),
            ("", "http://example.org:6379/", Some(FailureCode::BlockedPort)),
            ("", "http://example.org:8080/", None),
            ("443,25", "http://example.org:25/", None),
            ("443,25", "https://example.org/", None),
            ("443,25", "http://example.org/", Some(FailureCode::BlockedPort)),
        ] {
            assert_eq!(code(&guard(&[("FETCHER__ALLOWED_PORTS", ports)]), url), expected, "{ports}: {url}");
        }
    }

    #[test]
    fn the_proxy_itself_is_never_fetched_from() {
        let proxies = "socks5://proxy.example:1080,http://[2a00::1]:3128,http://8.8.8.8:3128";
        let guard = guard(&[("PROXY__PROXY_ENABLED", "true"), ("PROXY__URLS", proxies)]);
        for url in ["http://PROXY.example./", "http://[2a00::1]:3128/", "http://8.8.8.8:3128/"] {
            assert_eq!(code(&guard, url), Some(FailureCode::BlockedHost), "{url}");
        }
        assert_eq!(code(&guard, "http://8.8.8.8/"), None);
        assert!(guard.is_proxy_name("Proxy.Example") && !guard.is_proxy_name("8.8.8.8"));
    }

    #[test]
    fn only_http_and_https_are_fetched() {
        let guard = guard(&[]);
        for url in ["ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "data:,x"] {
            assert_eq!(code(&guard, url), Some(FailureCode::UnsupportedScheme), "{url}");
        }
    }

    #[test]
    fn allow_networks_opens_exactly_the_listed_networks() {
        let guard = guard(&[("FETCHER__ALLOW_NETWORKS", "127.0.0.1/32,10.1.0.0/16")]);
        assert_eq!(code(&guard, "http://127.0.0.1:8009/"), None);
        assert_eq!(code(&guard, "http://localhost:8009/"), None);
        assert_eq!(code(&guard, "http://10.1.255.255/"), None);
        for url in [
            "http://127.0.0.2/",
            "http://10.2.0.0/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://metadata.google.internal/",
            "http://instance-data/",
        ] {
            assert_eq!(code(&guard, url), Some(FailureCode::BlockedAddress), "{url}");
        }
        let lan = self::guard(&[("FETCHER__ALLOW_NETWORKS", "10.0.0.0/8")]);
        assert_eq!(code(&lan, "http://localhost/"), Some(FailureCode::BlockedAddress));
        assert_eq!(code(&lan, "http://printer.local/"), None);
    }

    #[test]
    fn our_own_listeners_are_never_fetched_from() {
        let guard = guard(&[("FETCHER__ALLOW_NETWORKS", "127.0.0.0/8")]);
        guard.add_own("127.0.0.1:8000".parse().unwrap());
        guard.add_own("0.0.0.0:6882".parse().unwrap());
        assert_eq!(code(&guard, "http://127.0.0.1:8000/"), Some(FailureCode::BlockedAddress));
        assert_eq!(code(&guard, "http://127.0.0.5:6882/"), Some(FailureCode::BlockedAddress));
        assert_eq!(code(&guard, "http://127.0.0.1:8001/"), None);
        assert_eq!(code(&guard, "http://localhost:8000/"), Some(FailureCode::BlockedAddress));
        let open = self::guard(&[("FETCHER__ALLOW_NETWORKS", "0.0.0.0/0,::/0")]);
        open.add_own("127.0.0.1:8000".parse().unwrap());
        assert_eq!(code(&open, "http://0:8000/"), Some(FailureCode::BlockedAddress));
        assert_eq!(code(&open, "http://0:8001/"), None);
    }

    #[test]
    fn host_lists_are_normalized_like_urls() {
        let guard = guard(&[
            ("FETCHER__BLOCKED_HOSTS", "Bücher.example,*.foo.example,::1,2130706434"),
            ("FETCHER__ALLOW_NETWORKS", "::1/128,127.0.0.0/8"),
        ]);
        for url in ["http://b\u{fc}cher.example/", "http://a.foo.example/", "http://[::1]/", "http://127.0.0.2/"] {
            assert_eq!(code(&guard, url), Some(FailureCode::BlockedHost), "{url}");
        }
        let bad = settings::Settings::from_pairs([("PROFILE", "development"), ("FETCHER__ALLOWED_HOSTS", "a b,c*")]);
        assert!(bad.unwrap_err().to_string().contains("FETCHER__ALLOWED_HOSTS"));
    }

    #[test]
    fn host_lists_match_whole_names_and_subdomains() {
        let guard =
            guard(&[("FETCHER__BLOCKED_HOSTS", "Evil.Example.,x.org"), ("FETCHER__ALLOWED_HOSTS", "org,evil.example")]);
        for (url, expected) in [
            ("http://evil.example/", Some(FailureCode::BlockedHost)),
            ("http://a.EVIL.example./", Some(FailureCode::BlockedHost)),
            ("http://notx.org/", None),
            ("http://a.org/", None),
            ("http://a.com/", Some(FailureCode::BlockedHost)),
            ("http://evilorg/", Some(FailureCode::BlockedHost)),
            (&format!("http://{}.org/", "a.".repeat(126)), Some(FailureCode::BlockedHost)),
        ] {
            assert_eq!(code(&guard, url), expected, "{url}");
        }
    }
}
