//! Tables of denied addresses, private host names and blocked ports (SSRF protection).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// A range of denied addresses.
#[derive(Debug, Clone, Copy)]
pub struct Denied {
    /// The range, in CIDR notation.
    pub network: &'static str,
    /// The kind of address, for error messages.
    pub what: &'static str,
    /// The RFC that reserves the range, or the vendor that uses it.
    pub source: &'static str,
}

const fn row(network: &'static str, what: &'static str, source: &'static str) -> Denied {
    Denied { network, what, source }
}

/// Every range that is not public unicast. The first row that contains an address gives the reason, so narrow ranges
/// come first.
pub const DENIED: &[Denied] = &[
    row("169.254.169.254/32", "a cloud metadata address", "AWS, Azure, Google Cloud and others"),
    row("169.254.170.2/32", "a cloud metadata address", "Amazon ECS task credentials"),
    row("169.254.170.23/32", "a cloud metadata address", "Amazon EKS Pod Identity"),
    row("100.100.100.200/32", "a cloud metadata address", "Alibaba Cloud"),
    row("192.0.0.192/32", "a cloud metadata address", "Oracle Cloud"),
    row("168.63.129.16/32", "a cloud platform address", "Azure's wire server"),
    row("fd00:ec2::254/128", "a cloud metadata address", "AWS"),
    row("fd00:ec2::23/128", "a cloud metadata address", "Amazon EKS Pod Identity"),
    row("fd20:ce::254/128", "a cloud metadata address", "Google Cloud"),
    row("0.0.0.0/8", "an address of \"this network\"", "RFC 791"),
    row("10.0.0.0/8", "a private address", "RFC 1918"),
    row("100.64.0.0/10", "a carrier-grade NAT address", "RFC 6598"),
    row("127.0.0.0/8", "a loopback address", "RFC 1122"),
    row("169.254.0.0/16", "a link-local address", "RFC 3927"),
    row("172.16.0.0/12", "a private address", "RFC 1918"),
    row("192.0.0.0/24", "an IETF protocol address", "RFC 6890"),
    row("192.0.2.0/24", "a documentation address", "RFC 5737"),
    row("192.31.196.0/24", "an AS112 address", "RFC 7535"),
    row("192.52.193.0/24", "an AMT relay address", "RFC 7450"),
    row("192.88.99.0/24", "a 6to4 relay address", "RFC 7526"),
    row("192.168.0.0/16", "a private address", "RFC 1918"),
    row("192.175.48.0/24", "an AS112 address", "RFC 7534"),
    row("198.18.0.0/15", "a benchmarking address", "RFC 2544"),
    row("198.51.100.0/24", "a documentation address", "RFC 5737"),
    row("203.0.113.0/24", "a documentation address", "RFC 5737"),
    row("224.0.0.0/4", "a multicast address", "RFC 1112"),
    row("255.255.255.255/32", "the broadcast address", "RFC 919"),
    row("240.0.0.0/4", "a reserved address", "RFC 1112"),
    row("::/128", "the unspecified address", "RFC 4291"),
    row("::1/128", "the loopback address", "RFC 4291"),
    row("::ffff:0:0/96", "an IPv4-mapped address", "RFC 4291"),
    row("::ffff:0:0:0/96", "an IPv4-translated address", "RFC 2765"),
    row("::/96", "an IPv4-compatible address", "RFC 4291"),
    row("64:ff9b::/96", "a NAT64 address", "RFC 6052"),
    row("64:ff9b:1::/48", "a local NAT64 address", "RFC 8215"),
    row("100::/64", "a discard address", "RFC 6666"),
    row("2001::/32", "a Teredo address", "RFC 4380"),
    row("2001:2::/48", "a benchmarking address", "RFC 5180"),
    row("2001:db8::/32", "a documentation address", "RFC 3849"),
    row("2001::/23", "an IETF protocol address", "RFC 2928"),
    row("2002::/16", "a 6to4 address", "RFC 3056"),
    row("2620:4f:8000::/48", "an AS112 address", "RFC 7534"),
    row("3fff::/20", "a documentation address", "RFC 9637"),
    row("5f00::/16", "a segment routing address", "RFC 9602"),
    row("fc00::/7", "a unique local address", "RFC 4193"),
    row("fe80::/10", "a link-local address", "RFC 4291"),
    row("fec0::/10", "a site-local address", "RFC 3879"),
    row("ff00::/8", "a multicast address", "RFC 4291"),
    // IANA assigns global unicast addresses from 2000::/3 only. These rows cover the rest.
    row("::/3", "an address outside global unicast", "RFC 4291"),
    row("4000::/2", "an address outside global unicast", "RFC 4291"),
    row("8000::/1", "an address outside global unicast", "RFC 4291"),
];

/// A host name that resolves to a private address everywhere. Its subdomains are included. A proxy that resolves
/// names itself (`PROXY__RESOLVE=remote`) would resolve it without an address check, so the name itself is blocked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrivateName {
    pub name: &'static str,
    /// The kind of name, for error messages.
    pub what: &'static str,
    /// The addresses that the name resolves to. Empty if they depend on the network.
    pub means: &'static [IpAddr],
}

const fn name(name: &'static str, what: &'static str, means: &'static [IpAddr]) -> PrivateName {
    PrivateName { name, what, means }
}

const LOOPBACK: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
const METADATA: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254))];

/// Private host names. The first row that matches a name gives the reason.
pub(crate) const PRIVATE_NAMES: &[PrivateName] = &[
    name("localhost", "a loopback name (RFC 6761)", LOOPBACK),
    name("localhost.localdomain", "a loopback name in common hosts files", LOOPBACK),
    name("localhost4", "a loopback name in common hosts files", LOOPBACK),
    name("localhost6", "a loopback name in common hosts files", LOOPBACK),
    name("loopback", "a loopback name in common hosts files", LOOPBACK),
    name("ip6-localhost", "a loopback name in Debian's hosts file", LOOPBACK),
    name("ip6-loopback", "a loopback name in Debian's hosts file", LOOPBACK),
    name("metadata.google.internal", "a name of Google Cloud's metadata service", METADATA),
    name("metadata", "a name of Google Cloud's metadata service", METADATA),
    name("instance-data", "a name of the EC2 metadata service", METADATA),
    name("internal", "a name of private networks (ICANN, 2024)", &[]),
    name("local", "a name of the local link (RFC 6762)", &[]),
    name("home.arpa", "a name of home networks (RFC 8375)", &[]),
    name("localdomain", "a name of private networks", &[]),
];

/// Ports of other protocols, whose servers could interpret the bytes of an HTTP request (cross-protocol attack): the
/// "bad ports" of the Fetch standard (fetch.spec.whatwg.org, 2.9).
pub(crate) const OTHER_PROTOCOLS: &[u16] = &[
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
    540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

static TABLE: LazyLock<Vec<(IpNet, &'static Denied)>> =
    LazyLock::new(|| DENIED.iter().map(|row| (row.network.parse().expect("a network"), row)).collect());

/// Returns the row that denies this address, or `None` if the address is public.
pub(crate) fn denied(address: IpAddr) -> Option<&'static Denied> {
    TABLE.iter().find(|(network, _)| network.contains(&address)).map(|(_, row)| *row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(address: &str) -> Option<&'static str> {
        denied(address.parse().unwrap()).map(|row| row.what)
    }

    #[test]
    fn both_ends_of_every_range_are_denied() {
        for row in DENIED {
            let network: IpNet = row.network.parse().unwrap();
            assert!(denied(network.network()).is_some() && denied(network.broadcast()).is_some(), "{}", row.network);
        }
    }

    #[test]
    fn the_neighbours_of_every_range_are_allowed() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.1.255",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "168.63.129.15",
            "168.63.129.17",
            "2000::",
            "2001:200::",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "2a00:1450::1",
            "3ffe:ffff::",
            "3fff:1000::",
        ] {
            assert_eq!(what(address), None, "{address}");
        }
    }

    #[test]
    fn the_narrowest_range_gives_the_reason() {
        assert_eq!(what("169.254.169.254"), Some("a cloud metadata address"));
        assert_eq!(what("169.254.169.253"), Some("a link-local address"));
        assert_eq!(what("::ffff:8.8.8.8"), Some("an IPv4-mapped address"));
        assert_eq!(what("255.255.255.255"), Some("the broadcast address"));
    }
}
