//! Seeder on AWS: a long-running process that seeds the torrents of the DynamoDB table. Its SQS queue notifies it of
//! changes. It reads contents from S3 with range requests. With the argument `health` it asks the one that runs on this
//! machine for its health.

mod ecs;
mod health;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use api::{HttpLimits, Webseed};
use aws::{
    Bucket, Clients, DynamoRequests, DynamoSeeders, DynamoStatistics, DynamoTorrents, Queues, S3Contents, SqsTaskQueue,
};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::Message;
use futures::future::join_all;
use pipeline::{Scrub, Seed};
use ports::{Contents, Requests, Statistics, Stores, SystemClock, Task, Torrents, UploadLimiter};
use seeder::http::Process;
use seeder::{Reader, Registration, SeedSessions, UploadLimit};
use settings::{ExposeSecret, Role, Settings};
use telemetry::{Recorder, Signals, emf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use url::Url;

use self::ecs::Ec2;

/// The long-poll time of the queue in seconds (SQS allows at most 20).
const POLL_SECONDS: i32 = 20;

/// The back-off after a failed call to the queue.
const PAUSE: Duration = Duration::from_secs(2);

/// How often the metrics are written. CloudWatch keeps one value a minute.
const METRICS: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seeder-container: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Seeds until SIGTERM or SIGINT.
async fn run() -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::load_role(Role::Worker)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("health") => return health::check(settings.seeder.http).await,
        Some(other) => return Err(format!("unknown argument {other}: there is only `health`").into()),
    }
    telemetry::start(&settings);
    let stop = Signals::listen()?.token();
    seeder::raise_open_files();
    let recorder = record_metrics(&settings)?;

    let clients = Clients::load().await;
    if settings.seeder.has_no_public_address()
        && let Some(metadata) = &settings.ecs.v4
    {
        let found = find_addresses(metadata, &clients, &settings.seeder.listen).await;
        settings.seeder.public_address = found.map_err(|error| {
            format!("the address of the task cannot be found: {error}; or set SEEDER__PUBLIC_ADDRESS to it")
        })?;
    }
    let names = &settings.aws;
    let named = |variable: &str, name: &Option<String>| {
        name.clone().ok_or_else(|| format!("{variable} must be set for the seeder"))
    };
    let queue = named("AWS__SEED_QUEUE", &names.seed_queue)?;
    let bucket = Bucket::new(clients.s3(), named("AWS__BUCKET", &names.bucket)?);
    let dynamodb = clients.dynamodb();
    let contents_table = named("AWS__CONTENTS_TABLE", &names.contents_table)?;
    // The reader has a cache of its own.
    let contents: Arc<dyn Contents> = Arc::new(S3Contents::new(bucket.clone(), dynamodb.clone(), contents_table, 0));
    let requests_table = named("AWS__REQUESTS_TABLE", &names.requests_table)?;
    let requests: Arc<dyn Requests> = Arc::new(DynamoRequests::new(dynamodb.clone(), requests_table));
    let torrents_table = named("AWS__TORRENTS_TABLE", &names.torrents_table)?;
    let statistics: Arc<dyn Statistics> = Arc::new(DynamoStatistics::new(dynamodb.clone(), torrents_table.clone()));
    let torrents: Arc<dyn Torrents> = Arc::new(DynamoTorrents::new(dynamodb, torrents_table, bucket));
    let queues =
        Queues { fetch: names.fetch_queue.clone(), package: names.package_queue.clone(), seed: Some(queue.clone()) };

    let reader = Reader::cached(contents.clone(), &settings.seeder).await?;
    let sessions = SeedSessions::start(&settings.seeder, &settings.torrent, reader, statistics.clone()).await?;
    let sessions = Arc::new(sessions);
    let stores = Stores {
        requests,
        torrents,
        statistics,
        contents,
        tasks: Arc::new(SqsTaskQueue::new(clients.sqs(), queues)),
        clock: Arc::new(SystemClock),
    };
    let limit = UploadLimit::new(sessions.clone(), settings.torrent.upload_rate_limit.get_u32());
    let http = listen(settings.seeder.http, "SEEDER__HTTP").await?;
    let address = settings.seeder.webseed.filter(|_| settings.torrent.webseed != Some(false));
    let webseed = match listen(address, "SEEDER__WEBSEED").await? {
        Some(listener) => Some((listener, webseed(&settings, &stores, &sessions, limit.clone())?)),
        None => None,
    };
    // What can fail comes before: the others count on a registered seeder.
    let seeders = Arc::new(DynamoSeeders::new(clients.dynamodb(), named("AWS__SWARM_TABLE", &names.swarm_table)?));
    let registration = Registration::start(sessions.clone(), seeders, Arc::new(SystemClock), &settings.seeder).await?;
    let seed = Seed::new(&stores, sessions.clone(), Some(registration.member()));
    if let Some(listener) = http {
        let router = seeder::http::router(sessions.clone(), process(recorder, &sessions, seed.clone()));
        tokio::spawn(api::serve(listener, router, HttpLimits::new(&settings), stop.clone()));
    }
    if let Some((listener, webseed)) = webseed {
        tokio::spawn(api::serve(listener, webseed.router(), HttpLimits::new(&settings), stop.clone()));
    }
    if let Some(limit) = limit {
        tokio::spawn(limit.divide(stop.clone()));
    }
    let progress = seed.progress.clone();
    let registered = tokio::spawn(registration.keep(stop.clone(), move || progress.passes()));
    if settings.aws.metrics_namespace.is_some() {
        let (sessions, stopping) = (sessions.clone(), stop.clone());
        tokio::spawn(async move { stopping.run_until_cancelled(write_metrics(&sessions)).await });
    }
    tokio::spawn(sessions.clone().spread_hot_torrents(stores.torrents.clone(), stop.clone()));
    seeder::follow_vpn_files(&sessions, &settings.seeder, &stop);
    let addresses: Vec<_> = sessions.endpoints().borrow().addresses().map(|address| address.to_string()).collect();
    let addresses = if addresses.is_empty() { "no public address yet".into() } else { addresses.join(", ") };
    println!("The seeder listens on {addresses}.");
    let (step, stopping) = (seed.clone(), stop.clone());
    tokio::spawn(async move { stopping.run_until_cancelled(step.keep_restored()).await });
    let (step, stopping) = (seed.clone(), stop.clone());
    tokio::spawn(async move { stopping.run_until_cancelled(step.handle_dispatched()).await });
    // A content is reported by a failed read only, and peers wait for it: it is verified at full speed.
    let scrub = Scrub { rate: None, is_remote: true, ..Scrub::new(&stores, &settings.storage) };
    let stopping = stop.clone();
    tokio::spawn(async move { stopping.run_until_cancelled(scrub.verify_reported()).await });
    watch(&clients.sqs(), &queue, &seed, &stop).await;
    let (closed, _) = tokio::join!(sessions.stop(), registered);
    emf::flush();
    info!("seeder stopped");
    if !closed {
        seeder::exit_immediately(0);
    }
    Ok(())
}

/// Installs the recorder of metrics: for CloudWatch, or the one of `/metrics`, which it returns.
fn record_metrics(settings: &Settings) -> Result<Option<Recorder>, Box<dyn Error>> {
    if let Some(namespace) = &settings.aws.metrics_namespace {
        emf::install(namespace).map_err(|error| error.to_string())?;
        return Ok(None);
    }
    let is_served = settings.seeder.http.is_some() && settings.monitoring.metrics_enabled;
    Ok(is_served.then(|| Recorder::install(env!("CARGO_PKG_VERSION"))).transpose()?)
}

/// Returns the addresses of the ECS task of this process, with the ports of the addresses that it listens on.
async fn find_addresses(
    metadata: &Url,
    clients: &Clients,
    listen: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let config = clients.config();
    let region = config.region().ok_or("the region is unknown (AWS_REGION)")?.to_string();
    let endpoint = format!("https://ec2.{region}.amazonaws.com/");
    let credentials = config.credentials_provider().ok_or("there are no AWS credentials")?;
    let credentials = credentials.provide_credentials().await?;
    let endpoint = config.endpoint_url().unwrap_or(&endpoint).parse()?;
    let found = ecs::addresses(metadata, &Ec2 { endpoint, region, credentials }).await?;
    let with_port = |ip: IpAddr| {
        let of_family = |address: &&SocketAddr| address.is_ipv4() == ip.is_ipv4();
        listen.iter().find(of_family).map(|address| SocketAddr::new(ip, address.port()))
    };
    let addresses: Vec<_> = found.iter().filter_map(|ip| with_port(*ip)).collect();
    info!(?addresses, "addresses of the ECS task found");
    if addresses.is_empty() {
        return Err(format!("the task has the addresses {found:?}, on which SEEDER__LISTEN does not listen").into());
    }
    Ok(addresses)
}

/// Listens on the address that this setting has, if it has one.
async fn listen(address: Option<SocketAddr>, setting: &str) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|error| format!("cannot listen on {address} ({setting}): {error}"))
}

/// Returns the webseed on these sessions.
fn webseed(
    settings: &Settings,
    stores: &Stores,
    sessions: &SeedSessions,
    limit: Option<Arc<UploadLimit>>,
) -> Result<Webseed, Box<dyn Error>> {
    let secret = settings.tracker.secret.as_ref().ok_or("TRACKER__SECRET must be set for SEEDER__WEBSEED")?;
    let limiter = limit.map(|limit| -> Arc<dyn UploadLimiter> { limit });
    let reader = Arc::new(sessions.torrent_reader(stores.torrents.clone()));
    Ok(Webseed::new(stores, secret.expose_secret().as_bytes(), reader, limiter, settings))
}

/// What this process adds to the responses of the seeder's HTTP server.
fn process(recorder: Option<Recorder>, sessions: &Arc<SeedSessions>, seed: Seed) -> Process {
    let health = Box::new(move || seed.health());
    let sessions = sessions.clone();
    let metrics = recorder.map(|recorder| -> Box<dyn Fn() -> String + Send + Sync> {
        Box::new(move || {
            seeder::record(&sessions);
            recorder.render()
        })
    });
    Process { health, metrics }
}

/// Writes the metrics for CloudWatch every minute. Runs until it is dropped.
async fn write_metrics(sessions: &SeedSessions) {
    let mut interval = tokio::time::interval(METRICS);
    loop {
        interval.tick().await;
        seeder::record(sessions);
        emf::flush();
    }
}

/// Handles the messages of the queue until `stop` is cancelled.
async fn watch(sqs: &aws_sdk_sqs::Client, queue: &str, seed: &Seed, stop: &CancellationToken) {
    let poll = sqs.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(POLL_SECONDS);
    while let Some(received) = stop.run_until_cancelled(poll.clone().send()).await {
        let messages = match received {
            Ok(received) => received.messages.unwrap_or_default(),
            Err(error) => {
                warn!(error = %DisplayErrorContext(error), "seed queue not polled");
                // Back-off.
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                continue;
            }
        };
        let handled = messages.into_iter().map(|message| async move {
            if let Err(error) = dispatch(&message, seed).await {
                // SQS delivers the message again after its visibility timeout.
                error!(%error, "seed task failed");
                return;
            }
            let done = sqs.delete_message().queue_url(queue).set_receipt_handle(message.receipt_handle);
            if let Err(error) = done.send().await {
                warn!(error = %DisplayErrorContext(error), "message not deleted");
            }
        });
        join_all(handled).await;
    }
}

async fn dispatch(message: &Message, seed: &Seed) -> Result<(), pipeline::StepError> {
    for task in aws::tasks(message.body.as_deref().unwrap_or_default()) {
        match task {
            // On a task of its own: a connection must not delay the seeding of torrents, and nothing depends on its result.
            Task::Connect(infohash, _) => {
                let seed = seed.clone();
                tokio::spawn(async move {
                    if let Err(error) = seed.dispatch(task).await {
                        warn!(%infohash, %error, "peer not connected");
                    }
                });
            }
            _ => seed.dispatch(task).await?,
        }
    }
    Ok(())
}
