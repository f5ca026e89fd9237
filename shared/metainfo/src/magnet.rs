//! Magnet links (BEP 9, BEP 52).

use std::fmt;
use std::net::SocketAddr;

use domain::{InfoHash, InfoHashV2};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that are percent-encoded in a query value: all but the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A magnet link. `Display` writes the URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Magnet {
    /// The v1 infohash (`xt=urn:btih:`).
    pub infohash: InfoHash,
    /// The v2 infohash of a hybrid torrent (`xt=urn:btmh:`).
    pub infohash_v2: Option<InfoHashV2>,
    /// The file name (`dn`).
    pub name: String,
    /// The size in bytes (`xl`).
    pub size: u64,
    /// Tracker URLs (`tr`).
    pub trackers: Vec<String>,
    /// Peer addresses (`x.pe`), which clients contact without a tracker.
    pub peers: Vec<SocketAddr>,
    /// Webseed URLs (`ws`).
    pub webseeds: Vec<String>,
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        write!(f, "magnet:?xt=urn:btih:{}", self.infohash)?;
        if let Some(v2) = self.infohash_v2 {
            // A multihash: 0x12 is the code of SHA-256, 0x20 the length in bytes.
            write!(f, "&xt=urn:btmh:1220{v2}")?;
        }
        write!(f, "&dn={}&xl={}", encode(&self.name), self.size)?;
        self.trackers.iter().try_for_each(|url| write!(f, "&tr={}", encode(url)))?;
        self.peers.iter().try_for_each(|peer| write!(f, "&x.pe={peer}"))?;
        self.webseeds.iter().try_for_each(|url| write!(f, "&ws={}", encode(url)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_written_and_encoded() {
        let magnet = Magnet {
            infohash: InfoHash::new([1; 20]),
            infohash_v2: Some(InfoHashV2::new([2; 32])),
            name: "a b&c=ü.txt".into(),
            size: 5,
            trackers: vec!["http://t/x?y=1".into()],
            peers: vec!["127.0.0.1:6881".parse().unwrap(), "[::1]:6881".parse().unwrap()],
            webseeds: vec!["http://w/".into()],
        };
        assert_eq!(
            magnet.to_string(),
            format!(
                "magnet:?xt=urn:btih:{}&xt=urn:btmh:1220{}&dn=a%20b%26c%3D%C3%BC.txt&xl=5\
                 &tr=http%3A%2F%2Ft%2Fx%3Fy%3D1&x.pe=127.0.0.1:6881&x.pe=[::1]:6881&ws=http%3A%2F%2Fw%2F",
                "01".repeat(20),
                "02".repeat(32),
            )
        );
    }
}
