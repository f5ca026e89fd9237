//! Contract tests of [`Seeders`](crate::Seeders).

use std::time::Duration;

use domain::{InfoHash, RequestId};

use super::NOW;
use crate::{Endpoints, RunningSeeder, Seeders, Task};

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! seeders_contract {
    ($make:path) => {
        $crate::contract_tests!(
            seeders,
            $make,
            registered_seeders_are_listed_in_order,
            a_second_registration_replaces_the_first,
            a_silent_seeder_is_forgotten,
            a_deregistered_seeder_is_forgotten,
            a_seeder_takes_its_tasks_in_order,
        );
    };
}

const KEEP: Duration = Duration::from_secs(60);

fn seeder(id: &str, port: u16) -> RunningSeeder {
    let v6 = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port).into();
    let sessions = vec![vec![([192, 0, 2, 1], port).into(), v6], vec![], vec![([192, 0, 2, 2], port).into()]];
    let endpoints = Endpoints { sessions, hot: vec![InfoHash::new([7; 20]), InfoHash::new([8; 20])] };
    RunningSeeder { id: id.into(), endpoints, torrents: 7, weight: 3, replicas: 2, is_complete: port.is_multiple_of(2) }
}

/// With everything that they registered.
pub async fn registered_seeders_are_listed_in_order<S: Seeders>(seeders: &S) {
    assert_eq!(seeders.running(NOW).await.unwrap(), []);
    for id in ["b", "a"] {
        seeders.register(&seeder(id, 6881), NOW, KEEP).await.unwrap();
    }
    assert_eq!(seeders.running(NOW).await.unwrap(), [seeder("a", 6881), seeder("b", 6881)]);
}

/// It may have other addresses and sessions, or none.
pub async fn a_second_registration_replaces_the_first<S: Seeders>(seeders: &S) {
    let one = Endpoints::of_one_session(vec![([192, 0, 2, 1], 6881).into()]);
    let silent = RunningSeeder { endpoints: Endpoints::of_one_session(vec![]), ..seeder("a", 1) };
    for next in [seeder("a", 1), RunningSeeder { endpoints: one, ..seeder("a", 2) }, silent, seeder("a", 3)] {
        seeders.register(&next, NOW, KEEP).await.unwrap();
        assert_eq!(seeders.running(NOW).await.unwrap(), [next]);
    }
}

/// Unless it registers again in time.
pub async fn a_silent_seeder_is_forgotten<S: Seeders>(seeders: &S) {
    seeders.register(&seeder("a", 1), NOW, KEEP).await.unwrap();
    seeders.register(&seeder("b", 1), NOW, KEEP).await.unwrap();
    let later = NOW + KEEP / 2;
    seeders.register(&seeder("b", 1), later, KEEP).await.unwrap();
    assert_eq!(seeders.running(later).await.unwrap().len(), 2);
    assert_eq!(seeders.running(NOW + KEEP).await.unwrap(), [seeder("b", 1)]);
    assert_eq!(seeders.running(later + KEEP).await.unwrap(), []);
}

/// A second time, too.
pub async fn a_deregistered_seeder_is_forgotten<S: Seeders>(seeders: &S) {
    seeders.register(&seeder("a", 1), NOW, KEEP).await.unwrap();
    for _ in 0..2 {
        seeders.deregister("a").await.unwrap();
        assert_eq!(seeders.running(NOW).await.unwrap(), []);
    }
}

/// Of every kind that a seeder handles.
pub async fn a_seeder_takes_its_tasks_in_order<S: Seeders>(seeders: &S) {
    let infohash = InfoHash::new([7; 20]);
    let tasks = [
        Task::Seed(infohash, Some(RequestId::new())),
        Task::Seed(infohash, None),
        Task::Connect(infohash, ([192, 0, 2, 9], 6881).into()),
        Task::Unseed(infohash),
        // A second one of the same kind.
        Task::Seed(infohash, None),
    ];
    for (task, later) in tasks.into_iter().zip(1..) {
        seeders.send("a", task, NOW + Duration::from_millis(later), KEEP).await.unwrap();
        seeders.send("b", Task::Unseed(InfoHash::new([8; 20])), NOW, KEEP).await.unwrap();
    }
    assert_eq!(seeders.take_tasks("a", 2).await.unwrap(), tasks[..2]);
    assert_eq!(seeders.take_tasks("a", 100).await.unwrap(), tasks[2..]);
    assert_eq!(seeders.take_tasks("a", 100).await.unwrap(), []);
    assert_eq!(seeders.take_tasks("b", 100).await.unwrap().len(), tasks.len());
    assert_eq!(seeders.running(NOW).await.unwrap(), [], "a task is no registration");
}
