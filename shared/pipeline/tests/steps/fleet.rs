//! The seed step of several seeders that share one table of torrents, each with sessions of libtorrent. The test says
//! which of them run.

use std::sync::Arc;
use std::time::Duration;

use domain::{ContentHash, FileName, InfoHash, Torrent, TorrentState};
use embedded::MemorySeeders;
use metainfo::{Pieces, TorrentBuilder, TorrentFormat};
use ports::contract::NOW;
use ports::{Endpoints, Fleet, FleetMember, ManualClock, Place, RunningSeeder, Seeder, Seeders, Stores, Task};
use proxytorrent_pipeline::{Restored, Seed};
use seeder::SeedSessions;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::common;

const TORRENTS: u8 = 60;

/// The seeders are "0", "1" and so on.
struct TestFleet {
    stores: Stores,
    seeders: Arc<MemorySeeders>,
    members: Vec<Member>,
    fleet: watch::Sender<Arc<Fleet>>,
    _folder: TempDir,
}

struct Member {
    sessions: Arc<SeedSessions>,
    seed: Seed,
}

impl TestFleet {
    async fn new(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (stores, _) = common::stores(folder.path(), Arc::new(ManualClock::at(NOW))).await;
        let (seeders, fleet) = (Arc::new(MemorySeeders::default()), watch::Sender::default());
        let mut members = vec![];
        for number in 0..count {
            let sessions = common::session(&stores).await;
            let id = number.to_string().into();
            let member = FleetMember { id, fleet: fleet.subscribe(), seeders: seeders.clone() };
            members.push(Member { seed: Seed::new(&stores, sessions.clone(), Some(member)), sessions });
        }
        let env = Self { stores, seeders, members, fleet, _folder: folder };
        for number in 1..=TORRENTS {
            env.store(number).await;
        }
        env
    }

    async fn store(&self, number: u8) -> InfoHash {
        let builder = TorrentBuilder {
            name: number.to_string(),
            private: true,
            source: None,
            created_by: None,
            creation_date: None,
        };
        let metainfo = builder.build(Pieces::of(TorrentFormat::V1, 16384, &[number; 5])).unwrap();
        let torrent = Torrent {
            infohash: metainfo.infohash(),
            infohash_v2: None,
            content_hash: ContentHash::new([number; 32]),
            name: FileName::default(),
            size: 5,
            piece_length: 16384,
            state: TorrentState::Adding,
            version: 0,
            created_at: NOW,
        };
        self.stores.torrents.store(&torrent, metainfo.as_bytes()).await.unwrap();
        torrent.infohash
    }

    /// The fleet now consists of these seeders, each complete or not.
    fn run(&self, running: &[(usize, bool)]) {
        let seeders = running.iter().map(|(number, is_complete)| RunningSeeder {
            id: number.to_string(),
            endpoints: Endpoints::default(),
            torrents: 0,
            weight: 1,
            replicas: 2,
            is_complete: *is_complete,
        });
        self.fleet.send_replace(Arc::new(Fleet::new(seeders.collect())));
    }

    async fn restore(&self, number: usize) -> Restored {
        self.members[number].seed.restore().await.unwrap()
    }

    fn count(&self, number: usize) -> u64 {
        self.members[number].sessions.seeding()
    }

    /// Returns how many of these seeders have the torrent.
    fn copies(&self, infohash: InfoHash, numbers: std::ops::Range<usize>) -> usize {
        numbers.filter(|number| self.members[*number].sessions.has(infohash)).count()
    }

    async fn torrents(&self) -> Vec<InfoHash> {
        let torrents = self.stores.torrents.live(None, 1000).await.unwrap();
        torrents.into_iter().map(|torrent| torrent.infohash).collect()
    }
}

#[tokio::test]
async fn seeders_that_start_together_share_the_torrents() {
    let env = TestFleet::new(3).await;
    env.run(&[(0, false), (1, false), (2, false)]);
    let mut all = 0;
    for number in 0..3 {
        all += env.restore(number).await.added;
        assert!((25..56).contains(&env.count(number)), "{}", env.count(number));
    }
    assert_eq!(all, 2 * u64::from(TORRENTS));
    for torrent in env.torrents().await {
        assert_eq!(env.copies(torrent, 0..3), 2);
    }
}

#[tokio::test]
async fn a_joining_seeder_takes_its_share_before_the_others_leave_it() {
    let env = TestFleet::new(3).await;
    env.run(&[(0, true), (1, true)]);
    for number in 0..2 {
        assert_eq!(env.restore(number).await.added, u64::from(TORRENTS));
    }
    env.run(&[(0, true), (1, true), (2, false)]);
    let taken = env.restore(2).await.added;
    assert!((25..56).contains(&taken), "{taken}");
    for number in 0..2 {
        env.restore(number).await;
        assert_eq!(env.count(number), u64::from(TORRENTS), "the new seeder may not have them yet");
    }
    env.run(&[(0, true), (1, true), (2, true)]);
    for number in 0..3 {
        assert_eq!(env.restore(number).await.added, 0);
    }
    assert_eq!(env.count(2), taken);
    for torrent in env.torrents().await {
        assert_eq!(env.copies(torrent, 0..3), 2);
    }
}

#[tokio::test]
async fn the_share_of_a_killed_seeder_is_seeded_by_the_others() {
    let env = TestFleet::new(3).await;
    env.run(&[(0, true), (1, true), (2, true)]);
    for number in 0..3 {
        env.restore(number).await;
    }
    let share = env.count(2);
    env.run(&[(0, true), (1, true)]);
    assert_eq!(env.restore(0).await.added + env.restore(1).await.added, share);
    for torrent in env.torrents().await {
        assert_eq!(env.copies(torrent, 0..2), 2);
    }
}

/// Without waiting for the next comparison.
#[tokio::test]
async fn a_seeder_follows_a_change_of_the_fleet_at_once() {
    let env = TestFleet::new(3).await;
    env.run(&[(0, true), (1, true), (2, true)]);
    let seed = env.members[0].seed.clone();
    let restoring = tokio::spawn(async move { seed.keep_restored().await });
    let wait_for = async |count| {
        let reached = async {
            while env.count(0) != count {
                // The interval of the polls.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Less than the time until the next comparison.
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("the seeder has its share");
    };
    let share = async {
        let fleet = env.fleet.borrow().clone();
        env.torrents().await.into_iter().filter(|torrent| fleet.place("0", *torrent) == Place::Assigned).count() as u64
    };
    wait_for(share.await).await;
    env.run(&[(0, true)]);
    wait_for(TORRENTS.into()).await;
    assert!(env.members[0].seed.progress.passes() >= 1);
    restoring.abort();
}

/// Whichever seeder receives its task.
#[tokio::test]
async fn a_new_torrent_is_seeded_by_its_holders_and_removed_by_all() {
    let env = TestFleet::new(4).await;
    env.run(&[(0, true), (1, true), (2, true), (3, true)]);
    let handle_all = async || {
        for member in &env.members {
            member.seed.take_dispatched().await.unwrap();
        }
    };
    for (infohash, receiver) in env.torrents().await.into_iter().zip((0..4).cycle()) {
        env.members[receiver].seed.dispatch(Task::Seed(infohash, None)).await.unwrap();
        handle_all().await;
        assert_eq!(env.copies(infohash, 0..4), 2);
        let fleet = env.fleet.borrow().clone();
        assert!(
            fleet
                .assigned(infohash)
                .iter()
                .all(|seeder| { env.members[seeder.id.parse::<usize>().unwrap()].sessions.has(infohash) })
        );

        // Exactly one holder connects to a peer.
        let peer = ([127, 0, 0, 1], 1).into();
        env.members[receiver].seed.dispatch(Task::Connect(infohash, peer)).await.unwrap();
        let mut sent = vec![];
        for number in 0..4 {
            let tasks = env.seeders.take_tasks(&number.to_string(), 100).await.unwrap();
            sent.extend(tasks.into_iter().map(|task| (number, task)));
        }
        if env.members[receiver].sessions.has(infohash) {
            assert_eq!(sent, []);
        } else {
            assert!(matches!(sent[..], [(holder, Task::Connect(..))] if env.members[holder].sessions.has(infohash)));
        }

        // One that has been left with it although it is no holder.
        let metainfo = env.stores.torrents.metainfo_file(infohash).await.unwrap().unwrap();
        env.members[3].sessions.add(infohash, ContentHash::new([0; 32]), &metainfo).await.unwrap();
        let version = env.stores.torrents.get(infohash).await.unwrap().unwrap().version;
        assert!(env.stores.torrents.retire(infohash, version, env.stores.clock.now()).await.unwrap());
        env.members[receiver].seed.dispatch(Task::Unseed(infohash)).await.unwrap();
        handle_all().await;
        assert_eq!(env.copies(infohash, 0..4), 0);
        assert_eq!(env.stores.torrents.get(infohash).await.unwrap(), None);
    }
}

#[tokio::test]
async fn tasks_of_other_seeders_are_handled_while_it_runs() {
    let env = TestFleet::new(1).await;
    env.run(&[(0, true)]);
    let seed = env.members[0].seed.clone();
    let handling = tokio::spawn(async move { seed.handle_dispatched().await });
    // More than are taken at once.
    for torrent in env.torrents().await.into_iter().cycle().take(250) {
        env.seeders.send("0", Task::Seed(torrent, None), NOW, Duration::from_secs(60)).await.unwrap();
    }
    let seeded = async {
        while env.count(0) != u64::from(TORRENTS) {
            // The interval of the polls.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seeded).await.expect("all are seeded");
    handling.abort();
}
