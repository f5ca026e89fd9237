//! Contract tests of [`Swarm`](crate::Swarm).

use std::time::Duration;

use domain::InfoHash;

use super::NOW;
use crate::{Announce, MAX_PEERS_PER_ADDRESS, Peer, Swarm, SwarmCounts};

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! swarm_contract {
    ($make:path) => {
        $crate::contract_tests!(
            swarm,
            $make,
            an_announce_returns_the_other_peers_of_the_torrent,
            a_peer_that_stops_or_times_out_is_removed,
            a_peer_that_completes_is_a_seed,
            no_more_peers_are_returned_than_requested,
            the_number_of_peers_per_address_is_limited,
            many_seeds_do_not_hide_other_peers,
        );
    };
}

const KEEP: Duration = Duration::from_secs(1800);
const TORRENT: InfoHash = InfoHash::new([1; 20]);

fn peer(port: u16) -> Peer {
    Peer { id: [port.to_le_bytes()[0]; 20], address: ([127, 0, 0, 1], port).into(), seed: false }
}

async fn present<S: Swarm>(swarm: &S, peer: Peer) -> (Vec<Peer>, SwarmCounts) {
    swarm.announce(TORRENT, Announce::Present(peer), 50, NOW, KEEP).await.unwrap()
}

/// Leechers are still returned when there are many seeds, even with many addresses of one network.
pub async fn many_seeds_do_not_hide_other_peers<S: Swarm>(swarm: &S) {
    let honest = peer(1);
    present(swarm, honest).await;
    for n in 0..u16::try_from(MAX_PEERS_PER_ADDRESS).unwrap() + 20 {
        let mut id = [7; 20];
        id[..2].copy_from_slice(&n.to_be_bytes());
        let address = ([0x2001, 0xdb8, 0, 0, n, 0, 0, 1], 6881).into();
        present(swarm, Peer { id, address, seed: true }).await;
    }
    let (told, counts) = present(swarm, peer(2)).await;
    assert!(told.contains(&honest), "{told:?}");
    assert_eq!(counts, SwarmCounts { seeds: u32::try_from(MAX_PEERS_PER_ADDRESS).unwrap(), leechers: 2 });
}

/// It does not return the peer itself, nor peers of another torrent.
pub async fn an_announce_returns_the_other_peers_of_the_torrent<S: Swarm>(swarm: &S) {
    assert_eq!(present(swarm, peer(1)).await, (vec![], SwarmCounts { seeds: 0, leechers: 1 }));
    assert_eq!(present(swarm, peer(2)).await.0, [peer(1)]);
    assert_eq!(present(swarm, peer(1)).await.0, [peer(2)]);
    let other = InfoHash::new([2; 20]);
    let (peers, _) = swarm.announce(other, Announce::Present(peer(3)), 50, NOW, KEEP).await.unwrap();
    assert_eq!(peers, []);
}

/// At once when it stops, or after `KEEP` without an announce.
pub async fn a_peer_that_stops_or_times_out_is_removed<S: Swarm>(swarm: &S) {
    present(swarm, peer(1)).await;
    present(swarm, peer(2)).await;
    swarm.announce(TORRENT, Announce::Stopped(peer(2)), 50, NOW, KEEP).await.unwrap();
    assert_eq!(swarm.counts(TORRENT, NOW).await.unwrap(), SwarmCounts { seeds: 0, leechers: 1 });
    assert_eq!(swarm.counts(TORRENT, NOW + KEEP).await.unwrap(), SwarmCounts::default());
    let (peers, _) = swarm.announce(TORRENT, Announce::Present(peer(3)), 50, NOW + KEEP, KEEP).await.unwrap();
    assert_eq!(peers, []);
}

/// It is counted once, and returned before leechers.
pub async fn a_peer_that_completes_is_a_seed<S: Swarm>(swarm: &S) {
    present(swarm, peer(1)).await;
    present(swarm, peer(2)).await;
    let seed = Peer { seed: true, ..peer(2) };
    present(swarm, seed).await;
    let (peers, counts) = present(swarm, peer(3)).await;
    assert_eq!(counts, SwarmCounts { seeds: 1, leechers: 2 });
    assert_eq!(peers, [seed, peer(1)]);
}

/// And no fewer than there are.
pub async fn no_more_peers_are_returned_than_requested<S: Swarm>(swarm: &S) {
    for port in 1..=20 {
        present(swarm, peer(port)).await;
    }
    let (peers, counts) = swarm.announce(TORRENT, Announce::Present(peer(1)), 5, NOW, KEEP).await.unwrap();
    assert_eq!((peers.len(), counts.leechers), (5, 20));
    assert_eq!(present(swarm, peer(1)).await.0.len(), 19);
}

/// The oldest peer of the address is removed. Peers of other addresses stay.
pub async fn the_number_of_peers_per_address_is_limited<S: Swarm>(swarm: &S) {
    let other = Peer { address: ([127, 0, 0, 2], 1).into(), id: [255; 20], seed: false };
    present(swarm, other).await;
    let share = u16::try_from(MAX_PEERS_PER_ADDRESS).unwrap();
    for port in 1..=share {
        let now = NOW + Duration::from_secs(port.into());
        swarm.announce(TORRENT, Announce::Present(peer(port)), 0, now, KEEP).await.unwrap();
    }
    let now = NOW + Duration::from_secs(u64::from(share) + 1);
    let newcomer = Announce::Present(peer(share + 1));
    let (peers, counts) = swarm.announce(TORRENT, newcomer, 200, now, KEEP).await.unwrap();
    assert_eq!(counts.leechers, u32::from(share) + 1);
    assert!(peers.contains(&other) && peers.contains(&peer(2)) && !peers.contains(&peer(1)), "{peers:?}");
}
