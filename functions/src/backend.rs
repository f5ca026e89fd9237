//! The ports on AWS, on the tables, bucket and queues that the settings name.

use std::sync::Arc;

use aws::{
    Bucket, Clients, DynamoGuards, DynamoRequests, DynamoSeeders, DynamoStatistics, DynamoSwarm, DynamoTorrents,
    Queues, S3Contents, SqsTaskQueue,
};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, ready};
use pipeline::{Fetch, Notify};
use ports::{Clock, Contents, Guards, Requests, Seeders, Statistics, Stores, Swarm, SystemClock, TaskQueue, Torrents};
use settings::{Role, Settings};

use crate::Error;
use crate::denied_port::DeniedPort;

/// The most rows of each kind in one sweep: what a function can process within its minute.
pub const SWEEP_LIMIT: u32 = 2_000;

/// Every how many minutes the sweep looks for orphans. S3 charges as much for a list as for a put, so that lists every
/// minute would be the largest part of what an idle stack costs.
pub const ORPHAN_INTERVAL: i64 = 10;

/// The ports that a function may take, combined with `|`.
pub mod port {
    /// None of them.
    pub const NONE: u16 = 0;
    /// The table of requests.
    pub const REQUESTS: u16 = 1;
    /// The table of torrents, and the bucket.
    pub const TORRENTS: u16 = 1 << 1;
    /// The table of contents, and the bucket.
    pub const CONTENTS: u16 = 1 << 2;
    /// The table of guards.
    pub const GUARDS: u16 = 1 << 3;
    /// The table of peers.
    pub const SWARM: u16 = 1 << 4;
    /// The queue of fetches.
    pub const FETCH_QUEUE: u16 = 1 << 5;
    /// The queue of packaging.
    pub const PACKAGE_QUEUE: u16 = 1 << 6;
    /// The queue of the seeder.
    pub const SEED_QUEUE: u16 = 1 << 7;
    /// The statistics in the table of torrents.
    pub const STATISTICS: u16 = 1 << 8;
    /// The registry of seeders in the table of peers.
    pub const SEEDERS: u16 = 1 << 9;
}
use port::{
    CONTENTS, FETCH_QUEUE, GUARDS, NONE, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, SEEDERS, STATISTICS, SWARM, TORRENTS,
};

const TABLES: u16 = REQUESTS | TORRENTS | STATISTICS | CONTENTS | GUARDS | SWARM | SEEDERS;
const BUCKET: u16 = TORRENTS | CONTENTS;
const QUEUES: u16 = FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE;

/// The stores of one function, created once per container. A port that the function does not take refuses every call, and
/// the linker drops the code of its store.
#[expect(missing_docs, missing_debug_implementations, reason = "the settings and the ports")]
pub struct Backend {
    pub settings: Settings,
    pub stores: Stores,
    pub guards: Arc<dyn Guards>,
    pub swarm: Arc<dyn Swarm>,
    pub seeders: Arc<dyn Seeders>,
    ports: u16,
}

impl Backend {
    /// Reads the settings of this role, starts logging, and creates and connects the clients that these ports need.
    pub async fn load<const PORTS: u16>(role: Role) -> Result<Self, Error> {
        let settings = Settings::load_role(role)?;
        telemetry::start(&settings);
        if let Some(namespace) = &settings.aws.metrics_namespace {
            telemetry::emf::install(namespace)?;
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clients = clients::<PORTS>().await;
        let backend = Self::new::<PORTS>(settings, &clients, Arc::new(SystemClock))?;
        join_all(connections::<PORTS>(&clients, backend.settings.aws.bucket.as_deref().unwrap_or_default())).await;
        Ok(backend)
    }

    /// The backend with these ports, on the stores that the settings name.
    pub fn new<const PORTS: u16>(settings: Settings, clients: &Clients, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let aws = &settings.aws;
        let bucket = || Ok::<_, Error>(Bucket::new(clients.s3(), named("AWS__BUCKET", aws.bucket.as_deref())?));
        let mut requests: Arc<dyn Requests> = Arc::new(DeniedPort);
        if const { PORTS & REQUESTS != 0 } {
            let table = named("AWS__REQUESTS_TABLE", aws.requests_table.as_deref())?;
            requests = Arc::new(DynamoRequests::new(clients.dynamodb(), table));
        }
        let mut torrents: Arc<dyn Torrents> = Arc::new(DeniedPort);
        if const { PORTS & TORRENTS != 0 } {
            let table = named("AWS__TORRENTS_TABLE", aws.torrents_table.as_deref())?;
            torrents = Arc::new(DynamoTorrents::new(clients.dynamodb(), table, bucket()?));
        }
        let mut statistics: Arc<dyn Statistics> = Arc::new(DeniedPort);
        if const { PORTS & STATISTICS != 0 } {
            let table = named("AWS__TORRENTS_TABLE", aws.torrents_table.as_deref())?;
            statistics = Arc::new(DynamoStatistics::new(clients.dynamodb(), table));
        }
        let mut contents: Arc<dyn Contents> = Arc::new(DeniedPort);
        if const { PORTS & CONTENTS != 0 } {
            let (table, memory) =
                (named("AWS__CONTENTS_TABLE", aws.contents_table.as_deref())?, aws.content_memory.get());
            contents = Arc::new(S3Contents::new(bucket()?, clients.dynamodb(), table, memory));
        }
        let mut guards: Arc<dyn Guards> = Arc::new(DeniedPort);
        if const { PORTS & GUARDS != 0 } {
            let table = named("AWS__GUARDS_TABLE", aws.guards_table.as_deref())?;
            guards = Arc::new(DynamoGuards::new(clients.dynamodb(), table));
        }
        let mut swarm: Arc<dyn Swarm> = Arc::new(DeniedPort);
        if const { PORTS & SWARM != 0 } {
            let table = named("AWS__SWARM_TABLE", aws.swarm_table.as_deref())?;
            swarm = Arc::new(DynamoSwarm::new(clients.dynamodb(), table));
        }
        let mut seeders: Arc<dyn Seeders> = Arc::new(DeniedPort);
        if const { PORTS & SEEDERS != 0 } {
            let table = named("AWS__SWARM_TABLE", aws.swarm_table.as_deref())?;
            seeders = Arc::new(DynamoSeeders::new(clients.dynamodb(), table));
        }
        let mut tasks: Arc<dyn TaskQueue> = Arc::new(DeniedPort);
        if const { PORTS & QUEUES != 0 } {
            let queue =
                |port, variable, name| if PORTS & port == 0 { Ok(None) } else { named(variable, name).map(Some) };
            let queues = Queues {
                fetch: queue(FETCH_QUEUE, "AWS__FETCH_QUEUE", aws.fetch_queue.as_deref())?,
                package: queue(PACKAGE_QUEUE, "AWS__PACKAGE_QUEUE", aws.package_queue.as_deref())?,
                seed: queue(SEED_QUEUE, "AWS__SEED_QUEUE", aws.seed_queue.as_deref())?,
            };
            tasks = Arc::new(SqsTaskQueue::new(clients.sqs(), queues));
        }
        let stores = Stores { requests, torrents, statistics, contents, tasks, clock };
        Ok(Self { settings, stores, guards, swarm, seeders, ports: PORTS })
    }

    /// Whether the function takes this port.
    pub(crate) fn takes(&self, port: u16) -> bool {
        self.ports & port != 0
    }

    /// The fetch step and the notify step.
    pub fn fetch(&self) -> Result<(Fetch, Notify), Error> {
        let fetcher = fetcher::Fetcher::new(&self.settings.fetcher, &self.settings.proxy, None)?;
        let public_url = self.settings.server.public_url.clone();
        let notify = Notify::new(&self.stores, &fetcher, &self.settings, public_url, None)?;
        Ok((Fetch::new(&self.stores, fetcher, &self.settings, true), notify))
    }
}

// An `await` would link the code of an unused store, so these functions return boxed futures.

fn clients<const PORTS: u16>() -> BoxFuture<'static, Clients> {
    if const { PORTS == NONE } { ready(Clients::unconfigured()).boxed() } else { Clients::load().boxed() }
}

fn connections<'a, const PORTS: u16>(clients: &'a Clients, bucket: &'a str) -> Vec<BoxFuture<'a, ()>> {
    let mut connections = vec![];
    if const { PORTS & TABLES != 0 } {
        connections.push(clients.connect_dynamodb().boxed());
    }
    if const { PORTS & BUCKET != 0 } {
        connections.push(clients.connect_s3(bucket).boxed());
    }
    if const { PORTS & QUEUES != 0 } {
        connections.push(clients.connect_sqs().boxed());
    }
    connections
}

/// The name of a store from the settings; an error if it is not set.
fn named(variable: &str, name: Option<&str>) -> Result<String, Error> {
    name.map(str::to_owned).ok_or_else(|| format!("{variable} is not set: this function needs it").into())
}
