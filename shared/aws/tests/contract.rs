//! The contract tests of all ports on an emulated AWS, over HTTP.

use proxytorrent_aws::{
    Bucket, DynamoGuards, DynamoRequests, DynamoSeeders, DynamoStatistics, DynamoSwarm, DynamoTorrents, S3Contents,
};

use tests::emulator::Account;

async fn requests() -> (DynamoRequests, Account) {
    let account = Account::new().await;
    (DynamoRequests::new(account.clients.dynamodb(), "test-requests"), account)
}

async fn torrents() -> (DynamoTorrents, Account) {
    let account = Account::new().await;
    let bucket = Bucket::new(account.clients.s3(), "test");
    (DynamoTorrents::new(account.clients.dynamodb(), "test-torrents", bucket), account)
}

async fn statistics() -> ((DynamoTorrents, DynamoStatistics), Account) {
    let (torrents, account) = torrents().await;
    ((torrents, DynamoStatistics::new(account.clients.dynamodb(), "test-torrents")), account)
}

async fn contents() -> (S3Contents, Account) {
    let account = Account::new().await;
    let bucket = Bucket::new(account.clients.s3(), "test");
    (S3Contents::new(bucket, account.clients.dynamodb(), "test-contents", 64 << 20), account)
}

async fn guards() -> (DynamoGuards, Account) {
    let account = Account::new().await;
    (DynamoGuards::new(account.clients.dynamodb(), "test-guards"), account)
}

async fn swarm() -> (DynamoSwarm, Account) {
    let account = Account::new().await;
    (DynamoSwarm::new(account.clients.dynamodb(), "test-swarm"), account)
}

async fn seeders() -> (DynamoSeeders, Account) {
    let account = Account::new().await;
    (DynamoSeeders::new(account.clients.dynamodb(), "test-swarm"), account)
}

ports::requests_contract!(requests);
ports::notifications_contract!(requests);
ports::transitions_contract!(requests);
ports::torrents_contract!(torrents);
ports::statistics_contract!(statistics);
ports::contents_contract!(contents);
ports::guards_contract!(guards);
ports::swarm_contract!(swarm);
ports::seeders_contract!(seeders);
