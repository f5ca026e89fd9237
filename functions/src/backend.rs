//! The ports on AWS, as the settings name them.

use std::sync::Arc;

use aws::{Bucket, Clients, DynamoGuards, DynamoRequests, DynamoSwarm, DynamoTorrents, Queues, S3Contents, SqsWakeups};
use pipeline::{Fetch, GiveUp, Notify, Package, Release, Sweep, WebhookKey};
use ports::{Clock, Contents, Guards, Requests, Swarm, SystemClock, Torrents, Wakeups};
use settings::{ExposeSecret, Settings};

use crate::Error;

/// Rows that one sweep looks at, of either kind: what it takes within its minute.
const SWEEP_LIMIT: u32 = 2_000;

/// A port that a function may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The table of requests.
    Requests,
    /// The table of torrents, and the bucket.
    Torrents,
    /// The table of contents, and the bucket.
    Contents,
    /// The table of guards.
    Guards,
    /// The table of peers.
    Swarm,
    /// The queue of fetches.
    FetchQueue,
    /// The queue of packaging.
    PackageQueue,
    /// The queue of the seeder.
    SeedQueue,
}

/// The stores of one function, made once per container.
#[derive(Debug)]
pub struct Backend {
    /// All settings.
    pub settings: Settings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    clients: Clients,
    ports: Vec<Port>,
}

impl Backend {
    /// Reads the settings, begins to log, and makes the clients of these ports.
    pub async fn load(ports: &[Port]) -> Result<Self, Error> {
        let settings = Settings::load(None)?;
        telemetry::start(&settings);
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::new(settings, Clients::load().await, Arc::new(SystemClock), ports)
    }

    /// The stores that these settings name.
    pub fn new(settings: Settings, clients: Clients, clock: Arc<dyn Clock>, ports: &[Port]) -> Result<Self, Error> {
        let backend = Self { settings, clock, clients, ports: ports.to_vec() };
        for port in ports {
            backend.name(*port)?;
        }
        Ok(backend)
    }

    /// Whether the function takes this port.
    pub(crate) fn takes(&self, port: Port) -> bool {
        self.ports.contains(&port)
    }

    /// What the settings call a port that this function takes.
    fn name(&self, port: Port) -> Result<&str, Error> {
        let aws = &self.settings.aws;
        let (variable, name) = match port {
            Port::Requests => ("AWS__REQUESTS_TABLE", &aws.requests_table),
            Port::Torrents => ("AWS__TORRENTS_TABLE", &aws.torrents_table),
            Port::Contents => ("AWS__CONTENTS_TABLE", &aws.contents_table),
            Port::Guards => ("AWS__GUARDS_TABLE", &aws.guards_table),
            Port::Swarm => ("AWS__SWARM_TABLE", &aws.swarm_table),
            Port::FetchQueue => ("AWS__FETCH_QUEUE", &aws.fetch_queue),
            Port::PackageQueue => ("AWS__PACKAGE_QUEUE", &aws.package_queue),
            Port::SeedQueue => ("AWS__SEED_QUEUE", &aws.seed_queue),
        };
        name.as_deref().ok_or_else(|| format!("{variable} is not set: this function needs it").into())
    }

    /// The name of a table, if this function takes the port; else one that no table has.
    fn table(&self, port: Port) -> String {
        self.name(port).ok().filter(|_| self.takes(port)).unwrap_or("not-a-port-of-this-function").to_owned()
    }

    fn queue(&self, port: Port) -> Option<String> {
        self.name(port).ok().filter(|_| self.takes(port)).map(str::to_owned)
    }

    fn bucket(&self) -> Bucket {
        let taken = self.takes(Port::Torrents) || self.takes(Port::Contents);
        let name = self.settings.aws.bucket.as_deref().filter(|_| taken).unwrap_or("not-a-port-of-this-function");
        Bucket::new(self.clients.s3.clone(), name)
    }

    /// The requests.
    pub fn requests(&self) -> Arc<dyn Requests> {
        Arc::new(DynamoRequests::new(self.clients.dynamodb.clone(), self.table(Port::Requests)))
    }

    /// The torrents.
    pub fn torrents(&self) -> Arc<dyn Torrents> {
        Arc::new(DynamoTorrents::new(self.clients.dynamodb.clone(), self.table(Port::Torrents), self.bucket()))
    }

    /// The contents.
    pub fn contents(&self) -> Arc<dyn Contents> {
        let memory = self.settings.aws.content_memory.get();
        let dynamodb = self.clients.dynamodb.clone();
        Arc::new(S3Contents::new(self.bucket(), dynamodb, self.table(Port::Contents), memory))
    }

    /// The guards.
    pub fn guards(&self) -> Arc<dyn Guards> {
        Arc::new(DynamoGuards::new(self.clients.dynamodb.clone(), self.table(Port::Guards)))
    }

    /// The peers.
    pub fn swarm(&self) -> Arc<dyn Swarm> {
        Arc::new(DynamoSwarm::new(self.clients.dynamodb.clone(), self.table(Port::Swarm)))
    }

    /// The queues.
    pub fn wakeups(&self) -> Arc<dyn Wakeups> {
        let queues = Queues {
            fetch: self.queue(Port::FetchQueue),
            package: self.queue(Port::PackageQueue),
            seed: self.queue(Port::SeedQueue),
        };
        Arc::new(SqsWakeups::new(self.clients.sqs.clone(), queues))
    }

    /// The fetch step, and the telling of ends if there is a key to sign it with.
    pub fn fetch(&self) -> Result<(Fetch, Option<Notify>), Error> {
        let fetcher = fetcher::Fetcher::new(&self.settings.fetcher, &self.settings.proxy)?;
        let fetch = Fetch {
            requests: self.requests(),
            contents: self.contents(),
            wakeups: self.wakeups(),
            clock: self.clock.clone(),
            fetcher: fetcher.clone(),
            reuse: self.settings.cache.cache_enabled,
            max_retries: self.settings.fetcher.max_retries.get() as u32,
            bounded: true,
        };
        let Some(secret) = &self.settings.security.webhook_secret else { return Ok((fetch, None)) };
        let key = WebhookKey::new(secret.expose_secret());
        let key = key.ok_or("SECURITY__WEBHOOK_SECRET: what follows whsec_ is not base64")?;
        let (requests, wakeups, clock) = (self.requests(), self.wakeups(), self.clock.clone());
        Ok((fetch, Some(Notify { requests, wakeups, clock, fetcher, key })))
    }

    /// The package step.
    pub fn package(&self) -> Package {
        Package {
            requests: self.requests(),
            torrents: self.torrents(),
            contents: self.contents(),
            wakeups: self.wakeups(),
            clock: self.clock.clone(),
            private: self.settings.torrent.private_tracker,
            piece_length: self.settings.torrent.piece_size.map(settings::PieceLength::get),
            created_by: format!("{}/{}", self.settings.server.app_name, self.settings.server.app_version),
        }
    }

    /// The release step.
    pub fn release(&self) -> Release {
        Release {
            requests: self.requests(),
            torrents: self.torrents(),
            contents: self.contents(),
            wakeups: self.wakeups(),
            clock: self.clock.clone(),
        }
    }

    /// The sweep.
    pub fn sweep(&self) -> Sweep {
        Sweep {
            requests: self.requests(),
            contents: self.contents(),
            wakeups: self.wakeups(),
            clock: self.clock.clone(),
            limit: SWEEP_LIMIT,
        }
    }

    /// The end of what never ends.
    pub fn give_up(&self) -> GiveUp {
        GiveUp { requests: self.requests(), wakeups: self.wakeups(), clock: self.clock.clone() }
    }
}
