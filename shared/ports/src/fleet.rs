//! The fleet: the running seeders, and how they share the torrents.

use std::cmp::{Ordering, Reverse};
use std::net::SocketAddr;
use std::sync::Arc;

use domain::InfoHash;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{RunningSeeder, Seeders, SwarmCounts};

/// The running seeders, which share the torrents by rendezvous hashing (highest random weight).
///
/// Each torrent ranks the seeders. Those with the highest ranks, as many as there are replicas, are *assigned* to it. So a
/// seeder that joins takes its share from all others, and nothing moves between those; when one leaves, its share goes to
/// all others.
///
/// An assigned seeder that has just started may not have the torrent yet. So the *holders* go down the ranks until they include as
/// many [complete](RunningSeeder::is_complete) seeders as there are replicas. Peers are sent to the holders, and only the
/// others release the torrent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    seeders: Vec<RunningSeeder>,
}

impl Fleet {
    /// The fleet of these seeders.
    pub fn new(seeders: Vec<RunningSeeder>) -> Self {
        Self { seeders }
    }

    /// Returns the seeders.
    pub fn seeders(&self) -> &[RunningSeeder] {
        &self.seeders
    }

    /// Returns the seeders that are assigned to a torrent, the highest rank first.
    pub fn assigned(&self, infohash: InfoHash) -> Vec<&RunningSeeder> {
        let mut seeders = self.ranked(infohash);
        seeders.truncate(self.replicas());
        seeders
    }

    /// Returns the holders of a torrent, the highest rank first.
    pub fn holders(&self, infohash: InfoHash) -> Vec<&RunningSeeder> {
        let mut seeders = self.ranked(infohash);
        let mut complete = seeders.iter().enumerate().filter(|(_, seeder)| seeder.is_complete);
        if let Some((last, _)) = complete.nth(self.replicas() - 1) {
            seeders.truncate(last + 1);
        }
        seeders
    }

    /// Returns what the torrent is to the seeder with this id.
    pub fn place(&self, id: &str, infohash: InfoHash) -> Place {
        let holders = self.holders(infohash);
        match holders.iter().position(|seeder| seeder.id == id) {
            Some(rank) if rank < self.replicas() => Place::Assigned,
            Some(_) => Place::Kept,
            None => Place::Other,
        }
    }

    /// Returns the addresses at which a peer reaches the holders of a torrent. Without a peer they are valid for all.
    pub fn addresses(&self, infohash: InfoHash, peer: Option<SocketAddr>) -> Vec<SocketAddr> {
        let holders = self.holders(infohash).into_iter();
        holders.flat_map(|seeder| seeder.endpoints.of(infohash, peer).iter().copied()).collect()
    }

    /// Returns these counts of announced peers with the seeders of a torrent added, which do not announce.
    pub fn added_to(&self, counts: SwarmCounts) -> SwarmCounts {
        let seeders = u32::try_from(self.replicas().min(self.seeders.len())).unwrap_or(u32::MAX);
        SwarmCounts { seeds: counts.seeds + seeders, ..counts }
    }

    /// Whether the torrents have the same assigned seeders and holders in both fleets.
    pub fn shares_as(&self, other: &Self) -> bool {
        let share = |seeder: &RunningSeeder| (seeder.id.clone(), seeder.weight, seeder.replicas, seeder.is_complete);
        self.seeders.iter().map(share).eq(other.seeders.iter().map(share))
    }

    /// Returns by how many seeders each torrent is seeded. While seeders with different settings run, the highest counts.
    fn replicas(&self) -> usize {
        self.seeders.iter().map(|seeder| seeder.replicas).max().unwrap_or(1).max(1) as usize
    }

    fn ranked(&self, infohash: InfoHash) -> Vec<&RunningSeeder> {
        let mut seeders: Vec<_> = self.seeders.iter().collect();
        seeders.sort_by_cached_key(|seeder| Reverse(Rank::of(seeder, infohash)));
        seeders
    }
}

/// What a torrent is to a seeder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The seeder is assigned to it, and must have it.
    Assigned,
    /// The seeder is a holder: it keeps the torrent if it has it.
    Kept,
    /// Other seeders have it.
    Other,
}

/// One seeder of a fleet, and what it sees of the others.
#[derive(Clone)]
pub struct FleetMember {
    /// The id of the seeder.
    pub id: Arc<str>,
    /// The fleet, of which the seeder is a part. Changes when torrents get other holders.
    pub fleet: watch::Receiver<Arc<Fleet>>,
    /// The registry, through which the seeders send tasks to each other.
    pub seeders: Arc<dyn Seeders>,
}

impl std::fmt::Debug for FleetMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetMember").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The rank of a seeder for a torrent. Seeders of any version must compute the same.
#[derive(Debug, PartialEq)]
struct Rank(f64);

impl Rank {
    /// Returns a random number in proportion to the weight: weight / -ln(h), where h is a hash between 0 and 1 (Schindelhauer
    /// and Schomaker, "Weighted distributed hash tables").
    #[expect(clippy::cast_precision_loss, reason = "53 bits of the hash are used")]
    fn of(seeder: &RunningSeeder, infohash: InfoHash) -> Self {
        let digest = Sha256::new().chain_update(&seeder.id).chain_update(infohash.as_bytes()).finalize();
        let bits = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let hash = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        Self(f64::from(seeder.weight.max(1)) / -hash.ln())
    }
}

impl Eq for Rank {}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoints;

    const TORRENTS: u32 = 10_000;

    fn seeder(id: &str) -> RunningSeeder {
        let endpoints = Endpoints::of_one_session(vec![([192, 0, 2, id.as_bytes()[0]], 6881).into()]);
        RunningSeeder { id: id.into(), endpoints, torrents: 0, weight: 1, replicas: 2, is_complete: true }
    }

    fn fleet(ids: &[&str]) -> Fleet {
        Fleet::new(ids.iter().map(|id| seeder(id)).collect())
    }

    fn torrents() -> impl Iterator<Item = InfoHash> {
        (0..TORRENTS).map(|number| {
            let mut bytes = [7; 20];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            InfoHash::new(bytes)
        })
    }

    fn share(fleet: &Fleet, id: &str) -> usize {
        torrents().filter(|torrent| fleet.place(id, *torrent) == Place::Assigned).count()
    }

    fn assigned(fleet: &Fleet, torrent: InfoHash) -> Vec<&str> {
        fleet.assigned(torrent).into_iter().map(|seeder| seeder.id.as_str()).collect()
    }

    #[test]
    fn every_torrent_is_assigned_to_as_many_seeders_as_replicas() {
        for (ids, expected) in [(&[][..], 0), (&["a"], 1), (&["a", "b"], 2), (&["a", "b", "c", "d"], 2)] {
            let fleet = fleet(ids);
            assert!(torrents().all(|torrent| fleet.assigned(torrent).len() == expected), "{ids:?}");
        }
    }

    /// Within 5 %: the standard deviation of the share is 0.5 %.
    #[test]
    fn shares_are_in_proportion_to_the_weights() {
        let members = [("heavy", 2), ("a", 1), ("b", 1)];
        let members = members.map(|(id, weight)| RunningSeeder { weight, replicas: 1, ..seeder(id) });
        let fleet = Fleet::new(members.to_vec());
        for (id, expected) in [("heavy", 5_000_i64), ("a", 2_500), ("b", 2_500)] {
            let share = i64::try_from(share(&fleet, id)).unwrap();
            assert!((share - expected).abs() < 250, "{id} has {share} instead of {expected}");
        }
    }

    #[test]
    fn nothing_moves_between_the_others_when_a_seeder_joins_or_leaves() {
        let (before, after) = (fleet(&["a", "b", "c"]), fleet(&["a", "b", "c", "d"]));
        let mut taken = 0;
        for torrent in torrents() {
            let (before, after) = (assigned(&before, torrent), assigned(&after, torrent));
            if after.contains(&"d") {
                taken += 1;
                assert!(before.contains(after.iter().find(|id| **id != "d").unwrap()));
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((4_500..5_500).contains(&taken), "d has {taken} of {} copies", 2 * TORRENTS);
    }

    /// Until then peers are sent to those that have the torrents, too, and these keep them.
    #[test]
    fn holders_include_enough_complete_seeders() {
        let mut members = ["a", "b", "c", "d"].map(seeder);
        members[3].is_complete = false;
        let (fleet, without) = (Fleet::new(members.to_vec()), Fleet::new(members[..3].to_vec()));
        for torrent in torrents() {
            let holders: Vec<_> = fleet.holders(torrent).into_iter().map(|seeder| seeder.id.as_str()).collect();
            assert!(assigned(&without, torrent).iter().all(|id| holders.contains(id)));
            let is_assigned = fleet.place("d", torrent) == Place::Assigned;
            assert_eq!((holders.len(), holders.contains(&"d")), if is_assigned { (3, true) } else { (2, false) });
            let kept = holders.iter().filter(|id| fleet.place(id, torrent) == Place::Kept).count();
            assert_eq!(kept, usize::from(is_assigned));
        }
        members[3].is_complete = true;
        let fleet = Fleet::new(members.to_vec());
        assert!(torrents().all(|torrent| fleet.holders(torrent) == fleet.assigned(torrent)));
    }

    #[test]
    fn seeders_that_all_have_just_started_are_named() {
        let members = ["a", "b", "c"].map(|id| RunningSeeder { is_complete: false, ..seeder(id) });
        let fleet = Fleet::new(members.to_vec());
        let torrent = InfoHash::new([1; 20]);
        assert_eq!((fleet.holders(torrent).len(), fleet.assigned(torrent).len()), (3, 2));
        assert_eq!(fleet.addresses(torrent, None).len(), 3);
    }

    #[test]
    fn the_seeders_of_a_torrent_are_seeds() {
        let counts = SwarmCounts { seeds: 3, leechers: 5 };
        for (ids, expected) in [(&[][..], 3), (&["a"], 4), (&["a", "b", "c"], 5)] {
            assert_eq!(fleet(ids).added_to(counts), SwarmCounts { seeds: expected, leechers: 5 });
        }
    }

    /// A change would make seeders of two versions disagree.
    #[test]
    fn ranks_are_stable() {
        let fleet = fleet(&["a", "b", "c", "d"]);
        let seen: Vec<_> = torrents().take(4).map(|torrent| assigned(&fleet, torrent).concat()).collect();
        assert_eq!(seen, ["ac", "bd", "cd", "ac"]);
    }
}
