//! The contract tests of the ports on PostgreSQL, and tests of this backend only.

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

    use domain::{Failure, FailureCode, Status, Step, Transition};
    use ports::contract::{LEASE, NOW, request};
    use ports::{Check, Limit, RateLimiter, Requests};
    use proxytorrent_postgres::OpenError;
    use sql::Driver;
    use sqlx::{Connection, PgConnection};
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
        let limit = Duration::from_secs(60);
        // Without an announcement the row would be read again after ten seconds.
        let recheck = <PgDatabase as Driver>::RECHECK.unwrap();
        let mut waiting = tokio::spawn({
            let (other, row) = (other.clone(), row.clone());
            async move { other.wait_for_change(&row, limit).await }
        });
        // Time for the waiter to read the row as it is.
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        let cancelled = Instant::now();
        one.cancel(row.id, &row.owner, NOW).await.unwrap();
        let seen = waiting.await.unwrap().unwrap().unwrap();
        assert_eq!(seen.status, Status::Cancelled);
        assert!(cancelled.elapsed() < recheck / 2, "{:?}", cancelled.elapsed());
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
    async fn texts_may_have_nul_characters() {
        let (database, _postgres) = database().await;
        let requests = database.requests().await.unwrap();
        let mut row = request("alice", "https://example.org/");
        row.spec.body = Some("a\0b".into());
        requests.create(&row).await.unwrap();
        assert_eq!(requests.get(row.id).await.unwrap().unwrap().spec.body, row.spec.body);
        let claim = requests.claim(row.id, Step::Fetch, NOW, LEASE).await.unwrap().unwrap();
        let failure = Failure::new(FailureCode::TooLarge, "a\0b");
        let failed = Transition::fail(&claim.request, failure, None, NOW);
        let (failed, _) = requests.save(&claim, &failed, NOW).await.unwrap();
        assert_eq!(failed.failure.unwrap().message, "a\u{fffd}b");
        let limit = Limit { key: "a\0b".into(), max: 1, window: LEASE };
        assert!(PgRateLimiter::new(database).acquire(&[limit], NOW).await.unwrap().allowed);
    }

    #[tokio::test]
    async fn a_column_that_a_newer_version_adds_does_not_disturb_older_processes() {
        let (database, postgres) = database().await;
        let requests = database.requests().await.unwrap();
        let row = request("alice", "https://example.org/");
        requests.create(&row).await.unwrap();
        // The statements are prepared on the connections then.
        let read = async || {
            requests.get(row.id).await.unwrap().unwrap();
            assert_eq!(requests.list(&row.owner, None, None, 10).await.unwrap().len(), 1);
            requests.keep(row.id, &row.owner, LEASE, NOW).await.unwrap().unwrap();
        };
        read().await;
        let mut newer = PgConnection::connect(&postgres.url).await.unwrap();
        sqlx::query("ALTER TABLE requests ADD COLUMN new TEXT").execute(&mut newer).await.unwrap();
        read().await;
    }

    #[tokio::test]
    async fn the_fewest_connections_suffice() {
        let postgres = Postgres::start().await;
        let options = PgDatabaseOptions { max_connections: 1, ..PgDatabaseOptions::default() };
        let database = PgDatabase::open(&postgres.url, options).await.unwrap();
        let requests = database.requests().await.unwrap();
        let row = request("alice", "https://example.org/");
        requests.create(&row).await.unwrap();
        assert_eq!(requests.get(row.id).await.unwrap().unwrap().id, row.id);
        requests.check().await.unwrap();
        database.close().await;
        assert!(requests.check().await.is_err());
    }

    #[tokio::test]
    async fn a_parameter_without_effect_is_refused_without_its_value() {
        let url = "postgresql://user@127.0.0.1:1/db?sslpassword=hunter2";
        let error = PgDatabase::open(url, PgDatabaseOptions::default()).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("sslpassword") && text.contains("sslmode") && !text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn an_error_of_the_connection_does_not_have_the_password() {
        let url = "postgresql://user:hunter2@127.0.0.1:1/db";
        let error = PgDatabase::open(url, PgDatabaseOptions::default()).await.unwrap_err();
        assert!(matches!(error, OpenError::Connect(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
