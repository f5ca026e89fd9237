//! Where peers reach the sessions of a seeder.

use std::net::SocketAddr;

use domain::InfoHash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The addresses of the libtorrent sessions of one seeder, and which torrents are in which.
///
/// Each torrent has one home session, which depends on its infohash and the number of sessions. A *hot* torrent is in all of
/// them, and each peer is sent to one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The addresses of each session.
    pub sessions: Vec<Vec<SocketAddr>>,
    /// The torrents that all sessions have.
    pub hot: Vec<InfoHash>,
}

impl Endpoints {
    /// The endpoints of a seeder with one session.
    pub fn of_one_session(addresses: Vec<SocketAddr>) -> Self {
        Self { sessions: vec![addresses], hot: vec![] }
    }

    /// Returns the addresses of all sessions.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sessions.iter().flatten().copied()
    }

    /// Returns the number of the session that serves a torrent to a peer. Without a peer it is the home session, which always
    /// has the torrent. Trackers and seeders of any version must compute the same.
    pub fn session(&self, infohash: InfoHash, peer: Option<SocketAddr>) -> usize {
        match peer {
            // The number has nothing in common with that of the home session, so peers of a hot torrent spread evenly.
            Some(peer) if self.hot.contains(&infohash) => {
                let digest = Sha256::new().chain_update(infohash.as_bytes()).chain_update(peer.to_string()).finalize();
                remainder(&digest, self.sessions.len())
            }
            _ => home_session(infohash, self.sessions.len()),
        }
    }

    /// Returns the addresses at which a peer reaches a torrent: those of its [session](Endpoints::session).
    pub fn of(&self, infohash: InfoHash, peer: Option<SocketAddr>) -> &[SocketAddr] {
        self.sessions.get(self.session(infohash, peer)).map_or(&[], Vec::as_slice)
    }
}

/// Returns the number of the home session of a torrent, of so many sessions.
pub fn home_session(infohash: InfoHash, sessions: usize) -> usize {
    remainder(infohash.as_bytes(), sessions)
}

/// Returns the first eight bytes as a number, modulo `divisor`.
fn remainder(bytes: &[u8], divisor: usize) -> usize {
    let number = bytes.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number % divisor.max(1) as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSIONS: u16 = 4;

    fn endpoints(hot: &[InfoHash]) -> Endpoints {
        let sessions = (0..SESSIONS).map(|number| vec![([192, 0, 2, 1], 6881 + number).into()]).collect();
        Endpoints { sessions, hot: hot.to_vec() }
    }

    fn torrent(number: u16) -> InfoHash {
        let digest = Sha256::digest(number.to_be_bytes());
        InfoHash::new(digest[..20].try_into().unwrap())
    }

    fn peer(number: u16) -> SocketAddr {
        ([198, 51, 100, 7], number).into()
    }

    /// Asserts that each session has a fourth of a thousand, within 20 %.
    fn assert_even(sessions: impl Iterator<Item = usize>) {
        let mut counts = [0; SESSIONS as usize];
        sessions.for_each(|session| counts[session] += 1);
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
    }

    #[test]
    fn torrents_are_spread_over_the_sessions() {
        let endpoints = endpoints(&[]);
        assert_even((0..1000).map(|number| endpoints.session(torrent(number), None)));
        for number in 0..100 {
            let home = endpoints.session(torrent(number), None);
            assert_eq!(endpoints.of(torrent(number), Some(peer(number))), endpoints.sessions[home]);
        }
    }

    #[test]
    fn peers_of_a_hot_torrent_are_spread_over_the_sessions() {
        let endpoints = endpoints(&[torrent(1)]);
        assert_even((0..1000).map(|number| endpoints.session(torrent(1), Some(peer(number)))));
        assert_eq!(endpoints.session(torrent(1), None), home_session(torrent(1), usize::from(SESSIONS)));
    }

    /// A change would make trackers and seeders of two versions disagree.
    #[test]
    fn sessions_are_stable() {
        let endpoints = endpoints(&[torrent(1)]);
        let homes: Vec<_> = (0..8).map(|number| endpoints.session(torrent(number), None)).collect();
        let of_peers: Vec<_> = (0..8).map(|number| endpoints.session(torrent(1), Some(peer(number)))).collect();
        assert_eq!((homes, of_peers), (vec![2, 2, 2, 1, 0, 3, 0, 0], vec![2, 3, 3, 1, 1, 2, 2, 1]));
    }

    #[test]
    fn a_seeder_without_sessions_has_no_addresses() {
        assert_eq!(Endpoints::default().of(torrent(1), Some(peer(1))), []);
    }
}
