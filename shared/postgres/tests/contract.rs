//! The contract tests of the durable ports on PostgreSQL, and tests of this backend only.

use proxytorrent_postgres::{
    PgDatabase, PgDatabaseOptions, PgGuards, PgRateLimiter, PgRequests, PgSeeders, PgStatistics, PgSwarm, PgTorrents,
};
use tests::postgres::Postgres;

async fn database() -> (PgDatabase, Postgres) {
    let postgres = Postgres::start().await;
    (open(&postgres).await, postgres)
}

async fn open(postgres: &Postgres) -> PgDatabase {
    PgDatabase::open(&postgres.url, PgDatabaseOptions::default()).await.unwrap()
}

async fn requests() -> (PgRequests, Postgres) {
    let (database, postgres) = database().await;
    (database.requests().await.unwrap(), postgres)
}

async fn torrents() -> (PgTorrents, Postgres) {
    let (database, postgres) = database().await;
    (PgTorrents::new(database), postgres)
}

async fn statistics() -> ((PgTorrents, PgStatistics), Postgres) {
    let (database, postgres) = database().await;
    ((PgTorrents::new(database.clone()), PgStatistics::new(database)), postgres)
}

async fn guards() -> (PgGuards, Postgres) {
    let (database, postgres) = database().await;
    (PgGuards::new(database.clone(), PgRateLimiter::new(database)), postgres)
}

async fn swarm() -> (PgSwarm, Postgres) {
    let (database, postgres) = database().await;
    (PgSwarm::new(database), postgres)
}

async fn seeders() -> (PgSeeders, Postgres) {
    let (database, postgres) = database().await;
    (PgSeeders::new(database), postgres)
}

ports::requests_contract!(requests);
ports::notifications_contract!(requests);
ports::transitions_contract!(requests);
ports::torrents_contract!(torrents);
ports::statistics_contract!(statistics);
ports::guards_contract!(guards);
ports::swarm_contract!(swarm);
ports::seeders_contract!(seeders);

mod this_backend {
    use std::time::Duration;

    use domain::{Status, Step};
    use ports::contract::{LEASE, NOW, request};
    use ports::{Check, Requests};
    use proxytorrent_postgres::OpenError;
    use tests::eventually;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test]
    async fn of_several_processes_one_claims_a_request() {
        let postgres = Postgres::start().await;
        let mut all = vec![];
        // Each has connections of its own, as a process has, and they start at the same time.
        for database in futures::future::join_all((0..4).map(|_| open(&postgres))).await {
            all.push(database.requests().await.unwrap());
        }
        for number in 0..20 {
            let row = request("alice", &format!("https://example.org/{number}"));
            all[0].create(&row).await.unwrap();
            let claims = all.iter().map(|requests| requests.claim(row.id, Step::Fetch, NOW, LEASE));
            let claims = futures::future::join_all(claims).await;
            assert_eq!(claims.into_iter().filter(|claim| claim.as_ref().unwrap().is_some()).count(), 1);
        }
    }

    #[tokio::test]
    async fn a_change_wakes_those_who_wait_in_another_process() {
        let postgres = Postgres::start().await;
        let (one, other) = (open(&postgres).await, open(&postgres).await);
        let (one, other) = (one.requests().await.unwrap(), other.requests().await.unwrap());
        let row = request("alice", "https://example.org/");
        one.create(&row).await.unwrap();
        let (started, limit) = (Instant::now(), Duration::from_secs(60));
        let waiting = tokio::spawn({
            let (other, row) = (other.clone(), row.clone());
            async move { other.wait_for_change(&row, limit).await }
        });
        one.cancel(row.id, &row.owner, NOW).await.unwrap();
        let seen = timeout(limit, waiting).await.unwrap().unwrap().unwrap().unwrap();
        assert_eq!(seen.status, Status::Cancelled);
        // Without an announcement it would be the time of a recheck: ten seconds.
        assert!(started.elapsed() < Duration::from_secs(9));
    }

    #[tokio::test]
    async fn a_restarted_database_keeps_flushed_writes_and_is_used_again() {
        let (database, mut postgres) = database().await;
        let requests = database.requests().await.unwrap();
        let row = request("alice", "https://example.org/");
        requests.create(&row).await.unwrap();
        postgres.crash().await;
        assert!(requests.check().await.is_err(), "health says so");
        postgres.run().await;
        let found = eventually("the database is used again", async || requests.get(row.id).await.ok()).await;
        assert_eq!(found.unwrap().spec, row.spec);
        assert!(requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_lease_of_another_process_is_not_released_by_a_start() {
        let (database, postgres) = database().await;
        let requests = database.requests().await.unwrap();
        let row = request("alice", "https://example.org/");
        requests.create(&row).await.unwrap();
        let claim = requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().unwrap();
        let later = open(&postgres).await.requests().await.unwrap();
        assert!(later.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().is_none());
        requests.heartbeat(&claim, 1.into(), NOW, LEASE).await.unwrap();
        assert!(later.claim(row.id, Step::Fetch, NOW + LEASE, LEASE).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_body_may_have_nul_characters() {
        let (requests, _postgres) = requests().await;
        let mut row = request("alice", "https://example.org/");
        row.spec.body = Some("a\0b".into());
        requests.create(&row).await.unwrap();
        assert_eq!(requests.get(row.id).await.unwrap().unwrap().spec.body, row.spec.body);
    }

    #[tokio::test]
    async fn an_error_of_the_connection_does_not_have_the_password() {
        let url = "postgresql://user:hunter2@127.0.0.1:1/db";
        let error = PgDatabase::open(url, PgDatabaseOptions::default()).await.unwrap_err();
        assert!(matches!(error, OpenError::Connect(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
