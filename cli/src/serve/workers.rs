//! The workers. Each kind of task has a lane, so that no kind waits for another.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::{RequestId, Timestamp};
use embedded::{Delivery, TaskReceiver};
use futures::future::join_all;
use metrics::{counter, gauge};
use pipeline::{CollectOrphans, Fetch, Notify, Package, Release, Scrub, Seed, Sweep};
use ports::{Guards, Requests, Share, Task};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::fair_queue::{Bounds, FairQueue};

/// How often the sweep runs.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The most torrents that are added to the seeder, or removed from it, at once.
const SEEDING: usize = 8;

/// The most requests in one look-up of shares.
const LOOKUPS: usize = 64;

/// The most requests whose receivers are notified at once.
const NOTIFICATIONS: usize = 64;

/// How long interrupted fetches may take to be suspended or requeued.
const REQUEUE: Duration = Duration::from_secs(5);

/// The steps that the workers run.
pub(super) struct Steps {
    pub fetch: Fetch,
    pub package: Package,
    pub seed: Seed,
    pub release: Release,
    pub sweep: Sweep,
    pub collect_orphans: CollectOrphans,
    pub scrub: Scrub,
    pub notify: Notify,
}

/// The queues of requests that wait for a worker, one for each step.
#[derive(Debug, Clone)]
pub(super) struct Queues {
    pub fetch: Arc<FairQueue>,
    package: Arc<FairQueue>,
    release: Arc<FairQueue>,
    notify: Arc<FairQueue>,
}

impl Queues {
    fn new(fetches: Bounds) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Slow receivers of one owner must not delay the notifications of others.
        let notifications = Bounds { all: NOTIFICATIONS, owner: NOTIFICATIONS / 2, host: NOTIFICATIONS };
        Self {
            fetch: FairQueue::new(fetches),
            package: in_turn(cores),
            release: in_turn(4),
            notify: FairQueue::new(notifications),
        }
    }

    /// Each queue with the name of its step.
    pub fn by_step(&self) -> [(&'static str, &FairQueue); 4] {
        [("fetch", &self.fetch), ("package", &self.package), ("release", &self.release), ("notify", &self.notify)]
    }
}

/// The running workers.
pub(super) struct Workers {
    tasks: TaskTracker,
    /// Cancelled when the workers take no new tasks.
    closing: CancellationToken,
    /// Cancelled when running fetches must stop.
    interrupt: CancellationToken,
    /// The queues of requests that wait for a worker.
    pub queues: Queues,
}

impl Workers {
    /// Starts the lanes, the dispatcher, the scrub and the sweep, whose first run finds what the last process left.
    /// If `turns` is given, other instances share the stores, and one of them sweeps in each minute.
    pub fn start(mut queue: TaskReceiver, steps: Steps, bounds: Bounds, turns: Option<Arc<dyn Guards>>) -> Self {
        let requests = steps.fetch.requests.clone();
        let Steps { fetch, package, seed, release, sweep, collect_orphans, scrub, notify } = steps;
        let workers = Self {
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            interrupt: CancellationToken::new(),
            queues: Queues::new(bounds),
        };
        let interrupt = workers.interrupt.clone();
        // A fetch that waits on a network costs a Tokio task, not a thread, so there may be many.
        let fetching = workers.fair_lane(workers.queues.fetch.clone(), move |id| {
            let (fetch, interrupt) = (fetch.clone(), interrupt.clone());
            measured("fetch", async move { fetch.run(id, &interrupt).await.map(drop) })
        });
        let packaging = workers.fair_lane(workers.queues.package.clone(), move |id| {
            let package = package.clone();
            measured("package", async move { package.run(id).await.map(drop) })
        });
        let releasing = workers.fair_lane(workers.queues.release.clone(), move |id| {
            let release = release.clone();
            measured("release", async move { release.run(id).await.map(drop) })
        });
        let notifying = workers.fair_lane(workers.queues.notify.clone(), move |id| {
            let notify = notify.clone();
            measured("notify", async move { notify.run(id).await.map(drop) })
        });
        let step = seed.clone();
        let seeding = workers.lane(SEEDING, move |task: Task| {
            let seed = step.clone();
            async move {
                measured(task.step(), seed.dispatch(task)).await;
            }
        });
        let (step, closing) = (seed.clone(), workers.closing.clone());
        workers.tasks.spawn(async move { closing.run_until_cancelled(step.keep_restored()).await });
        if seed.member.is_some() {
            let (step, closing) = (seed.clone(), workers.closing.clone());
            workers.tasks.spawn(async move { closing.run_until_cancelled(step.handle_dispatched()).await });
        }
        let connecting = workers.connector(seed);
        let unknown = workers.look_up_shares(requests);

        let closing = workers.closing.clone();
        workers.tasks.spawn(async move {
            while let Some(Some(Delivery { task, share })) = closing.run_until_cancelled(queue.recv()).await {
                let (queue, id) = match task {
                    Task::Fetch(id) => (&fetching, id),
                    Task::Package(id) => (&packaging, id),
                    Task::Release(id) => (&releasing, id),
                    Task::Notify(id) => (&notifying, id),
                    Task::Seed(..) | Task::Unseed(_) => {
                        let _ = seeding.send(task);
                        continue;
                    }
                    Task::Connect(..) => {
                        if connecting.try_send(task).is_err() {
                            counter!("proxytorrent_peers_not_connected_total").increment(1);
                        }
                        continue;
                    }
                };
                if queue.is_waiting(id) {
                    continue;
                }
                match share {
                    Some(share) => queue.push(share, id),
                    // Looked up by another task: the many tasks of a sweep must not delay new requests.
                    None => drop(unknown.send((queue.clone(), id))),
                }
            }
        });

        let closing = workers.closing.clone();
        workers.tasks.spawn(async move {
            let mut interval = tokio::time::interval(SWEEP_INTERVAL);
            let mut is_first = true;
            while closing.run_until_cancelled(interval.tick()).await.is_some() {
                // The first sweep finds what the last process on this machine left.
                if let Some(guards) = &turns
                    && !has_turn(&**guards, sweep.clock.now()).await
                    && !is_first
                {
                    continue;
                }
                is_first = false;
                measured("sweep", async { sweep.run().await.map(drop) }).await;
                measured("collect_orphans", async { collect_orphans.run().await.map(drop) }).await;
            }
        });

        let closing = workers.closing.clone();
        workers.tasks.spawn(async move {
            Box::pin(closing.run_until_cancelled(scrub.run())).await;
        });
        workers
    }

    /// Starts a lane that runs `work` for the requests of a queue, in the order that the queue gives.
    fn fair_lane<F>(&self, queue: Arc<FairQueue>, work: impl Fn(RequestId) -> F + Send + 'static) -> Arc<FairQueue>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, closing, waiting) = (self.tasks.clone(), self.closing.clone(), queue.clone());
        self.tasks.spawn(async move {
            while let Some(turn) = closing.run_until_cancelled(waiting.next()).await {
                let work = work(turn.id);
                tasks.spawn(async move {
                    work.await;
                    drop(turn);
                });
            }
        });
        queue
    }

    /// Starts the look-up of shares: reads the owner and host of requests, and puts them into their queues.
    fn look_up_shares(&self, requests: Arc<dyn Requests>) -> mpsc::UnboundedSender<(Arc<FairQueue>, RequestId)> {
        let (sender, mut unknown) = mpsc::unbounded_channel::<(Arc<FairQueue>, RequestId)>();
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            let mut batch = vec![];
            while closing.run_until_cancelled(unknown.recv_many(&mut batch, LOOKUPS)).await.is_some_and(|n| n > 0) {
                let rows = join_all(batch.iter().map(|(_, id)| requests.get(*id))).await;
                for ((queue, id), row) in batch.drain(..).zip(rows) {
                    match row {
                        Ok(Some(row)) => queue.push(Share::from(&row), id),
                        Ok(None) => {}
                        // The sweep finds the request again.
                        Err(error) => error!(request.id = %id, %error, "task dropped"),
                    }
                }
            }
        });
        sender
    }

    /// Starts the lane of peers that the seeder connects to, with a bounded queue.
    fn connector(&self, seed: Seed) -> mpsc::Sender<Task> {
        let (sender, mut queue) = mpsc::channel::<Task>(PEERS_WAITING);
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            while let Some(Some(task)) = closing.run_until_cancelled(queue.recv()).await {
                measured(task.step(), seed.dispatch(task)).await;
            }
        });
        sender
    }

    /// Starts a lane that runs `work` for items in order, up to `at_once` at a time.
    fn lane<T, F>(&self, at_once: usize, work: impl Fn(T) -> F + Send + 'static) -> mpsc::UnboundedSender<T>
    where
        T: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, mut queue) = mpsc::unbounded_channel();
        let (tasks, closing) = (self.tasks.clone(), self.closing.clone());
        let places = Arc::new(Semaphore::new(at_once));
        self.tasks.spawn(async move {
            while let Some(Ok(place)) = closing.run_until_cancelled(places.clone().acquire_owned()).await {
                let Some(Some(item)) = closing.run_until_cancelled(queue.recv()).await else { break };
                let work = work(item);
                tasks.spawn(async move {
                    work.await;
                    drop(place);
                });
            }
        });
        sender
    }

    /// Takes no new tasks, waits `grace` for running steps, and then interrupts them.
    pub async fn stop(self, grace: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return;
        }
        self.interrupt.cancel();
        if tokio::time::timeout(REQUEUE, self.tasks.wait()).await.is_err() {
            warn!(tasks = self.tasks.len(), "steps did not end in time, the next start resumes them");
        }
    }
}

/// A queue that serves owners in turn, without a limit per owner.
fn in_turn(places: usize) -> Arc<FairQueue> {
    FairQueue::new(Bounds { all: places, owner: places, host: places })
}

/// Whether this instance sweeps in this minute: the first of the instances that asks.
async fn has_turn(guards: &dyn Guards, now: Timestamp) -> bool {
    let minute = now.as_millis() / i64::try_from(SWEEP_INTERVAL.as_millis()).expect("small");
    match guards.reserve(&format!("sweep:{minute}"), "", now, now + 2 * SWEEP_INTERVAL).await {
        Ok(earlier) => earlier.is_none(),
        Err(error) => {
            error!(%error, "sweep skipped");
            false
        }
    }
}

/// The most peers that wait for the seeder to connect. More are dropped: they connect by themselves.
const PEERS_WAITING: usize = 256;

/// Runs a step and measures it. The sweep retries a step that fails here.
async fn measured<E: std::fmt::Display>(step: &'static str, work: impl Future<Output = Result<(), E>>) {
    let running = gauge!("proxytorrent_steps_running", "step" => step);
    running.increment(1);
    let result = pipeline::measured(step, work).await;
    running.decrement(1);
    if let Err(error) = result {
        error!(step, %error, "step failed");
    }
}
