//! What the tests of this crate share: the embedded stores, and a libtorrent session on them.

use std::path::Path;
use std::sync::Arc;

use embedded::{
    Database, DatabaseOptions, FolderContents, SpaceLimits, SqliteRequests, SqliteStatistics, SqliteTorrents,
    TaskReceiver,
};
use ports::{Clock, Stores};
use seeder::{Reader, SeedSessions};
use settings::Settings;

/// Opens the stores in this folder. Returns them with the receiver of their tasks.
pub async fn stores(folder: &Path, clock: Arc<dyn Clock>) -> (Stores, TaskReceiver) {
    let path = |name: &str| folder.join(name);
    let database = Database::open(&path("db"), DatabaseOptions::default()).await.unwrap();
    let (sender, tasks) = embedded::channel();
    let stores = Stores {
        requests: Arc::new(SqliteRequests::open(database.clone()).await.unwrap()),
        torrents: Arc::new(SqliteTorrents::open(database.clone(), path("torrents")).unwrap()),
        statistics: Arc::new(SqliteStatistics::new(database)),
        contents: Arc::new(FolderContents::open(path("content"), SpaceLimits::default()).unwrap()),
        tasks: Arc::new(sender),
        clock,
    };
    (stores, tasks)
}

/// Returns settings of the development profile, with a free port for the seeder.
pub fn settings() -> Settings {
    Settings::from_pairs([("PROFILE", "development"), ("SEEDER__LISTEN", "127.0.0.1:0")]).unwrap()
}

/// Starts a session that seeds from these stores.
pub async fn session(stores: &Stores) -> Arc<SeedSessions> {
    let (settings, reader) = (settings(), Reader::local(stores.contents.clone()));
    let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, stores.statistics.clone()).await;
    Arc::new(sessions.unwrap())
}
