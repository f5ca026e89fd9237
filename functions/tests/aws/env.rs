//! Test environment: the functions and the seeder on an emulated AWS, with a manual clock. Each function runs as a
//! simulated process that can be killed at any AWS call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use domain::{FetchRequest, RequestId, Status};
use pipeline::{CollectOrphans, LEASE, Package, Release, Seed, Sweep};
use ports::{Clock, ManualClock, RunningSeeder, Task};
use proxytorrent_functions::port::{
    CONTENTS, FETCH_QUEUE, GUARDS, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, SEEDERS, STATISTICS, SWARM, TORRENTS,
};
use proxytorrent_functions::{Backend, SWEEP_LIMIT, endpoints, routes};
use seeder::{Reader, SeedSessions};
use serde_json::{Value, json};
use settings::Settings;
use sha2::{Digest, Sha256};
use tests::Origin;
use tests::emulator::Account;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::transport::{Fault, FaultPlan, FaultyTransport};

const STORES: u16 = REQUESTS | TORRENTS | STATISTICS | CONTENTS | GUARDS | SWARM | SEEDERS;
const EVERY_PORT: u16 = STORES | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE;

/// How long the seeder stays registered, since tests advance the clock.
const YEARS: Duration = Duration::from_secs(1_000_000_000);

pub struct TestEnv {
    account: Account,
    settings: Settings,
    /// The environment variables of a function.
    pub environment: Vec<(String, String)>,
    pub clock: ManualClock,
    pub sessions: Arc<SeedSessions>,
    pub origin: Origin,
    /// A backend without faults, for the test's own reads and writes.
    pub observer: Backend,
}

/// The outcome of a simulated process: its result, or that it was killed.
pub enum Ended<T> {
    With(T),
    Killed,
}

impl TestEnv {
    pub async fn new() -> Self {
        let account = Box::pin(Account::new()).await;
        let mut environment = account.environment().await;
        let others = [
            ("SEEDER__LISTEN", "127.0.0.1:0"),
            ("SEEDER__CACHE_DISK", "0"),
            // An hour, so that tests reach the end of the retention by advancing the clock by hours.
            ("STORAGE__KEEP", "3600"),
        ];
        environment.extend(others.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let settings = Settings::from_pairs(environment.clone()).unwrap();
        let clock = ManualClock::at(SystemTime::now().into());
        let time = Arc::new(clock.clone());
        let observer = Backend::new::<EVERY_PORT>(settings.clone(), &account.clients, time).unwrap();
        let reader = Reader::cached(observer.stores.contents.clone(), &settings.seeder).await.unwrap();
        let statistics = observer.stores.statistics.clone();
        let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, statistics).await;
        let sessions = Arc::new(sessions.unwrap());
        let endpoints = sessions.endpoints().borrow().clone();
        let seeder =
            RunningSeeder { id: "one".into(), endpoints, torrents: 0, weight: 1, replicas: 1, is_complete: true };
        observer.seeders.register(&seeder, clock.now(), YEARS).await.unwrap();
        Self {
            account,
            environment,
            settings: settings.clone(),
            clock,
            sessions,
            origin: Origin::start().await,
            observer,
        }
    }

    /// Runs `work` as a simulated process with these ports.
    pub async fn process<const PORTS: u16, T, F>(
        &self,
        plan: &Arc<FaultPlan>,
        work: impl FnOnce(Backend) -> F,
    ) -> Ended<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let transport = FaultyTransport::new(plan);
        let clients = self.account.clients_by(transport.client()).await;
        let clock = Arc::new(self.clock.clone());
        let work = tokio::spawn(work(Backend::new::<PORTS>(self.settings.clone(), &clients, clock).unwrap()));
        let abort = work.abort_handle();
        let ended = tokio::select! {
            biased;
            () = transport.killed.cancelled() => Ended::Killed,
            done = work => Ended::With(done.unwrap()),
        };
        abort.abort();
        transport.buried.cancel();
        ended
    }

    /// Calls an endpoint as a user. Returns the status and the JSON of the response, unless the process was killed.
    pub async fn call<const PORTS: u16>(
        &self,
        plan: &Arc<FaultPlan>,
        endpoint: endpoints::Endpoint,
        request: http::request::Builder,
        body: Option<Value>,
    ) -> Ended<(u16, Value)> {
        let request = request.header("authorization", "Bearer emulated").header("content-type", "application/json");
        // The source address, as the API Gateway event contains it.
        let request = request.extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 0))));
        let request = request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap();
        self.process::<PORTS, _, _>(plan, |backend| async move {
            let answer = routes(endpoint, &backend).unwrap().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        })
        .await
    }

    /// Creates a request like a client that retries with the same idempotency key until it gets a response.
    pub async fn create(&self, plan: &Arc<FaultPlan>, path: &str) -> RequestId {
        self.create_url(plan, &self.origin.url(&format!("/{path}"))).await
    }

    /// As [`TestEnv::create`], for an absolute URL.
    pub async fn create_url(&self, plan: &Arc<FaultPlan>, url: &str) -> RequestId {
        let key = format!("{:032x}", rand::random::<u128>());
        loop {
            let request = http::Request::post("/v1/requests").header("idempotency-key", &key);
            let body = json!({ "url": url });
            match self
                .call::<{ REQUESTS | GUARDS | FETCH_QUEUE }>(plan, endpoints::create_request(), request, Some(body))
                .await
            {
                Ended::With((201, created)) => return created["id"].as_str().unwrap().parse().unwrap(),
                Ended::Killed | Ended::With((409 | 503, _)) => {}
                Ended::With((status, problem)) => panic!("{status}: {problem}"),
            }
            self.clock.advance(LEASE);
        }
    }

    /// Returns the URL of a queue.
    fn queue(&self, name: &str) -> &str {
        let aws = &self.settings.aws;
        let url = match name {
            "fetch" => &aws.fetch_queue,
            "package" => &aws.package_queue,
            _ => &aws.seed_queue,
        };
        url.as_deref().unwrap()
    }

    /// Receives up to ten messages of a queue. They stay in the queue until they are deleted.
    async fn messages(&self, queue: &str) -> Vec<aws_sdk_sqs::types::Message> {
        let url = self.queue(queue);
        let receive = self.account.clients.sqs().receive_message().queue_url(url).max_number_of_messages(10);
        receive.visibility_timeout(0).send().await.unwrap().messages.unwrap_or_default()
    }

    async fn delete(&self, queue: &str, message: &aws_sdk_sqs::types::Message) {
        let url = self.queue(queue);
        let delete = self.account.clients.sqs().delete_message().queue_url(url);
        // An error is ignored: the message may already have been deleted with an earlier receipt handle.
        let _ = delete.receipt_handle(message.receipt_handle.as_deref().unwrap()).send().await;
    }

    /// Handles a task in a simulated process, like its function. Returns whether it succeeded, so that its message
    /// can be deleted.
    pub async fn handle(&self, plan: &Arc<FaultPlan>, task: Task, stopping: CancellationToken) -> bool {
        let sessions = self.sessions.clone();
        let ended = match task {
            Task::Fetch(id) => {
                self.process::<{ REQUESTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE }, _, _>(
                    plan,
                    |backend| async move {
                        let (fetch, _) = backend.fetch().unwrap();
                        fetch.run(id, &stopping).await.map(drop).map_err(|error| error.to_string())
                    },
                )
                .await
            }
            Task::Package(id) | Task::Release(id) => {
                self.process::<{ REQUESTS | TORRENTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }, _, _>(
                    plan,
                    move |backend| async move {
                        let done = match task {
                            Task::Package(_) => Package::new(&backend.stores, &backend.settings).run(id).await,
                            _ => Release::new(&backend.stores).run(id).await,
                        };
                        done.map(drop).map_err(|error| error.to_string())
                    },
                )
                .await
            }
            Task::Seed(infohash, _) | Task::Unseed(infohash) => {
                self.process::<{ REQUESTS | TORRENTS | FETCH_QUEUE | PACKAGE_QUEUE }, _, _>(
                    plan,
                    move |backend| async move {
                        let seed = Seed::new(&backend.stores, sessions, None);
                        let done = match task {
                            Task::Seed(_, request) => seed.run(infohash, request).await,
                            _ => seed.unseed(infohash).await,
                        };
                        done.map_err(|error| error.to_string())
                    },
                )
                .await
            }
            Task::Notify(_) | Task::Connect(..) => Ended::With(Ok(())),
        };
        matches!(ended, Ended::With(Ok(())))
    }

    /// Delivers the messages of the queues, each `deliveries` times and in random order, advances the clock and runs
    /// the sweep, until the request is ready or has ended. Returns its row.
    pub async fn settle(&self, plan: &Arc<FaultPlan>, id: RequestId, deliveries: usize) -> FetchRequest {
        for _ in 0..30 {
            while self.deliver(plan, deliveries).await {}
            let row = self.row(id).await;
            if row.status == Status::Ready || row.status.is_final() {
                return row;
            }
            self.clock.advance(LEASE + Duration::from_secs(1));
            // Errors are ignored: on AWS the schedule runs the sweep again in a minute.
            self.process::<{ REQUESTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE }, _, _>(
                plan,
                |backend| async move { drop(Sweep::new(&backend.stores, SWEEP_LIMIT).run().await) },
            )
            .await;
        }
        panic!("the request does not end: {:#?}", self.row(id).await)
    }

    /// Cancels a request as its owner.
    pub async fn cancel(&self, id: RequestId) {
        let row = self.row(id).await;
        self.observer.stores.requests.cancel(id, &row.owner, self.clock.now()).await.unwrap();
        self.observer.stores.tasks.enqueue(Task::Release(id), Duration::ZERO).await.unwrap();
    }

    /// Delivers all messages and runs the sweep, four times, so that all due work is done.
    pub async fn run_down(&self, plan: &Arc<FaultPlan>) {
        for _ in 0..4 {
            while self.deliver(plan, 1).await {}
            self.clock.advance(LEASE + Duration::from_secs(1));
            Sweep::new(&self.observer.stores, SWEEP_LIMIT).run().await.unwrap();
        }
    }

    /// Collects orphans in all 256 parts of the key space.
    pub async fn collect_orphans(&self) {
        self.clock.advance(Duration::from_secs(2 * 3600));
        for _ in 0..256 {
            self.clock.advance(Duration::from_secs(60));
            CollectOrphans::new(&self.observer.stores, 1).run().await.unwrap();
        }
    }

    /// Runs the sweep and the collection of orphans in a simulated process, like the scheduled
    /// function, but collects orphans every minute.
    pub async fn sweep(&self, plan: &Arc<FaultPlan>) {
        const PORTS: u16 = REQUESTS | TORRENTS | CONTENTS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE;
        self.process::<PORTS, _, _>(plan, |backend| async move {
            Sweep::new(&backend.stores, SWEEP_LIMIT).run().await.unwrap();
            CollectOrphans::new(&backend.stores, 1).run().await.unwrap();
        })
        .await;
    }

    /// Stores an orphaned content: no request refers to it.
    pub async fn abandon(&self) {
        let mut staged = self.observer.stores.contents.stage(RequestId::new()).await.unwrap();
        staged.write(vec![7; 1_000].into()).await.unwrap();
        let hash = domain::ContentHash::new(Sha256::digest([7; 1_000]).into());
        staged.commit(hash, self.clock.now() - Duration::from_secs(2 * 3600)).await.unwrap();
    }

    /// Deletes an object behind the back of the stores.
    pub async fn delete_object(&self, key: &str) {
        self.account.clients.s3().delete_object().bucket("test").key(key).send().await.unwrap();
    }

    /// Returns the keys of all objects in the bucket, and all records of contents.
    pub async fn stored(&self) -> Vec<String> {
        let objects = self.account.clients.s3().list_objects_v2().bucket("test").send().await.unwrap();
        let records = self.account.clients.dynamodb().scan().table_name("test-contents").send().await.unwrap();
        let keys = objects.contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
        keys.chain(records.items.unwrap_or_default().iter().map(|record| format!("{record:?}"))).collect()
    }

    /// Delivers the current messages of all queues, each `deliveries` times. Returns whether any succeeded.
    pub async fn deliver(&self, plan: &Arc<FaultPlan>, deliveries: usize) -> bool {
        let mut found = vec![];
        for queue in ["fetch", "package", "seed"] {
            for message in self.messages(queue).await {
                found.push((queue, message));
            }
        }
        let mut schedule: Vec<_> = (0..found.len()).flat_map(|i| std::iter::repeat_n(i, deliveries)).collect();
        for i in (1..schedule.len()).rev() {
            schedule.swap(i, rand::random_range(0..=i));
        }
        let mut failed = vec![false; found.len()];
        for i in schedule {
            for task in aws::tasks(found[i].1.body.as_deref().unwrap()) {
                failed[i] |= !self.handle(plan, task, CancellationToken::new()).await;
            }
        }
        for ((queue, message), _) in found.iter().zip(&failed).filter(|(_, failed)| !**failed) {
            self.delete(queue, message).await;
        }
        // A failed message stays in the queue and is delivered again, here after the next sweep.
        failed.contains(&false)
    }

    pub async fn row(&self, id: RequestId) -> FetchRequest {
        self.observer.stores.requests.get(id).await.unwrap().unwrap()
    }

    /// Asserts that the request is ready, its content is complete, and its torrent is seeded.
    pub async fn assert_ready(&self, row: &FetchRequest, expected: &[u8], context: &str) {
        assert_eq!(row.status, Status::Ready, "{context}: {row:#?}");
        let stored = row.content.as_ref().unwrap();
        assert_eq!(hex::encode(stored.hash.as_bytes()), hex::encode(Sha256::digest(expected)), "{context}");
        let mut bytes = vec![0; expected.len()];
        self.observer.stores.contents.read_at(stored.hash, 0, &mut bytes).await.unwrap();
        assert!(bytes == expected, "{context}: wrong content");
        let torrent = self.observer.stores.torrents.get(row.infohash.unwrap()).await.unwrap().unwrap();
        assert_eq!(torrent.state, domain::TorrentState::Seeding, "{context}");
        assert!(self.observer.stores.torrents.metainfo(torrent.infohash).await.unwrap().is_some(), "{context}");
    }

    /// Asserts that no staged upload is left after the sweep has tidied up.
    pub async fn assert_nothing_staged(&self, context: &str) {
        CollectOrphans::new(&self.observer.stores, 1).tidy().await.unwrap();
        assert_eq!(self.staged().await, 0, "{context}");
    }

    /// Returns the number of objects under `staging/` and of multipart uploads in progress.
    pub async fn staged(&self) -> usize {
        let s3 = self.account.clients.s3();
        let objects = s3.list_objects_v2().bucket("test").prefix("staging/").send().await.unwrap();
        let uploads = s3.list_multipart_uploads().bucket("test").send().await.unwrap();
        objects.contents.unwrap_or_default().len() + uploads.uploads.unwrap_or_default().len()
    }

    pub async fn stop(self) {
        self.sessions.stop().await;
    }
}

/// Returns a plan without faults.
pub fn undisturbed() -> Arc<FaultPlan> {
    FaultPlan::new(Fault::None)
}
