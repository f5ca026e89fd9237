//! AWS calls and cost of a request. The calls are recorded in `calls.txt` and must be allowed by the policies of the
//! template; the cost table is in the README.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use aws::schema::TABLES;
use pipeline::{Scrub, Seed};
use ports::{Clock, Endpoints, RunningSeeder, Seeder, Task, Transferred};
use proxytorrent_functions::port::{
    CONTENTS, FETCH_QUEUE, GUARDS, PACKAGE_QUEUE, REQUESTS, SEED_QUEUE, SEEDERS, STATISTICS, TORRENTS,
};
use proxytorrent_functions::{ORPHAN_INTERVAL, endpoints};
use serde::Deserialize;
use tests::documents::{keep_file, keep_part};
use tokio_util::sync::CancellationToken;

use crate::env::{Ended, TestEnv, undisturbed};
use crate::template::Template;
use crate::transport::{Call, FaultPlan};

/// The AWS calls that one function makes for a request.
struct Step {
    /// The name in the table.
    name: &'static str,
    /// The function that makes the calls, or `None` for the seeder.
    function: Option<&'static str>,
    /// Whether the function is called through API Gateway.
    asked: bool,
    calls: Vec<Call>,
    /// The index entries that the calls write.
    entries: usize,
}

/// The attributes that each item has, by table and key.
#[derive(Default)]
struct Items(HashMap<(String, String), BTreeSet<String>>);

impl Items {
    /// Applies a write. Returns the number of index entries that it writes: one for each entry that appears, disappears or
    /// changes, and two for one that moves within its index. A key that is set counts as one that has another value.
    fn apply(&mut self, call: &Call) -> usize {
        if call.action != "dynamodb:UpdateItem" {
            return 0;
        }
        let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
        let expression = body["UpdateExpression"].as_str().unwrap();
        let (set, removed) = expression.split_once(" REMOVE ").unwrap_or((expression, ""));
        let (removed, added) = removed.split_once(" ADD ").unwrap_or((removed, ""));
        let names = |text: &str| -> BTreeSet<String> {
            let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '#'));
            words.filter_map(|word| word.strip_prefix('#')).map(str::to_owned).collect()
        };
        let (set, removed) = (names(&format!("{set} {added}")), names(removed));
        let key = body["Key"].as_object().unwrap();
        let before = self.0.entry((call.resource.clone(), body["Key"].to_string())).or_default();
        let mut after: BTreeSet<_> = before.union(&set).cloned().chain(key.keys().cloned()).collect();
        after.retain(|name| !removed.contains(name));
        let changed: BTreeSet<_> = removed.intersection(before).chain(&set).map(String::as_str).collect();
        let table = TABLES.iter().find(|(name, ..)| call.resource.ends_with(name)).unwrap();
        let written = table.2.iter().map(|(_, keys, others)| {
            let is_in = |item: &BTreeSet<String>| keys.iter().all(|name| item.contains(*name));
            match (is_in(before), is_in(&after)) {
                (false, false) => 0,
                (true, true) if keys.iter().any(|name| changed.contains(name)) => 2,
                (true, true) => {
                    usize::from(changed.iter().any(|name| others.is_none_or(|others| others.contains(name))))
                }
                _ => 1,
            }
        });
        let written = written.sum();
        *before = after;
        written
    }
}

/// `prices.json`: prices, and durations in milliseconds.
#[derive(Deserialize)]
struct Prices {
    usd_per_million: HashMap<String, f64>,
    call_milliseconds: HashMap<String, f64>,
    /// By step.
    cpu_milliseconds: HashMap<String, f64>,
    /// How long Lambda's polls of an empty queue take.
    poll_seconds: usize,
    /// How many polls of a queue Lambda has at once.
    polls_at_once: usize,
}

impl Prices {
    fn read() -> Self {
        serde_json::from_str(include_str!("prices.json")).unwrap()
    }

    fn usd(&self, what: &str, count: usize) -> f64 {
        self.usd_per_million[what] * count as f64
    }

    /// The price of reads: half a unit from an index, which is eventually consistent, else one.
    fn usd_for_reads(&self, calls: &[Call]) -> f64 {
        let of_index = |call: &&Call| call.resource.contains("/index/");
        let half = calls.iter().filter(|call| is_read(call)).filter(of_index).count();
        let whole = calls.iter().filter(|call| is_read(call)).count() - half;
        self.usd_per_million["dynamodb_read"] * (whole as f64 + half as f64 / 2.0)
    }
}

fn is_read(call: &Call) -> bool {
    ["dynamodb:GetItem", "dynamodb:Query"].contains(&call.action.as_str())
}

/// How long origins take to respond, in seconds, for the columns of the table.
const ORIGINS: [f64; 3] = [0.2, 2.0, 20.0];

/// A function with this much memory, in MB, has one core.
const MEMORY_OF_ONE_CORE: f64 = 1769.0;

/// Runs a request for a small content, with one read of its status and one download of its `.torrent` file. Returns
/// the calls of each step.
async fn steps(env: &TestEnv) -> Vec<Step> {
    let mut steps = vec![];
    let plan = undisturbed();
    let mut step = |plan: &FaultPlan, name, function, asked| {
        steps.push(Step { name, function, asked, calls: plan.take(), entries: 0 });
    };
    let id = env.create(&plan, "1000/1").await;
    // Ignores the call for the idempotency key, which the test's client sends and most clients do not.
    let reservation = |call: &Call| call.body.contains("idempotency:");
    plan.calls.lock().unwrap().retain(|call| !reservation(call));
    step(&plan, "create", Some("CreateRequest"), true);
    assert!(env.handle(&plan, Task::Fetch(id), CancellationToken::new()).await);
    step(&plan, "fetch", Some("FetchContent"), false);
    assert!(env.handle(&plan, Task::Package(id), CancellationToken::new()).await);
    step(&plan, "package", Some("PackageTorrent"), false);
    let infohash = env.row(id).await.infohash.unwrap();
    assert!(env.handle(&plan, Task::Seed(infohash, Some(id)), CancellationToken::new()).await);
    step(&plan, "seed", None, false);
    let status = http::Request::get(format!("/v1/requests/{id}"));
    let answer = env.call::<{ REQUESTS | GUARDS }>(&plan, endpoints::get_request(), status, None).await;
    assert!(matches!(answer, Ended::With((200, _))));
    step(&plan, "status", Some("GetRequest"), true);
    let torrent = http::Request::get(format!("/v1/requests/{id}/torrent"));
    let answer = env.call::<{ REQUESTS | TORRENTS | GUARDS }>(&plan, endpoints::get_torrent(), torrent, None).await;
    assert!(matches!(answer, Ended::With((200, _))));
    step(&plan, "torrent", Some("GetTorrent"), true);
    let mut items = Items::default();
    for step in &mut steps {
        step.entries = step.calls.iter().map(|call| items.apply(call)).sum();
    }
    steps
}

impl Step {
    fn count(&self, wanted: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| wanted(call)).count()
    }

    fn writes(&self) -> usize {
        self.count(|call| ["dynamodb:UpdateItem", "dynamodb:DeleteItem"].contains(&call.action.as_str()))
    }

    fn reads(&self) -> usize {
        self.count(is_read)
    }

    fn puts(&self) -> usize {
        self.count(|call| call.action == "s3:PutObject")
    }

    fn gets(&self) -> usize {
        self.count(|call| call.action == "s3:GetObject")
    }

    fn messages(&self) -> usize {
        self.count(|call| call.action == "sqs:SendMessage")
    }

    /// The price of a million of these steps, without the time of the function.
    fn usd_for_calls(&self, prices: &Prices) -> f64 {
        prices.usd("dynamodb_write", self.writes() + self.entries)
            + prices.usd_for_reads(&self.calls)
            + prices.usd("s3_put", self.puts())
            + prices.usd("s3_get", self.gets())
            // Each message costs three calls: send, receive, delete.
            + prices.usd("sqs_call", self.messages() * 3)
            + prices.usd("lambda_invocation", usize::from(self.function.is_some()))
            + prices.usd("api_call", usize::from(self.asked))
    }

    /// The price of the time of the function for a million of these steps, for an origin that responds after `wait`
    /// seconds: the calls one after the other, and its CPU time on its part of a core.
    fn usd_for_time(&self, template: &Template, prices: &Prices, wait: f64) -> f64 {
        let Some(function) = self.function else { return 0.0 };
        let calls = self.calls.iter().map(|call| prices.call_milliseconds[call.action.split(':').next().unwrap()]);
        let memory = template.memory(function);
        let cpu = prices.cpu_milliseconds[self.name] * (MEMORY_OF_ONE_CORE / memory).max(1.0);
        let wait = if self.name == "fetch" { wait } else { 0.0 };
        prices.usd_per_million["lambda_gb_second"] * memory / 1024.0 * (wait + (calls.sum::<f64>() + cpu) / 1000.0)
    }
}

fn listing(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        writeln!(text, "{} ({} calls)", step.name, step.calls.len()).unwrap();
        for call in &step.calls {
            // Hashes and ids differ in each run.
            let resource: Vec<_> =
                call.resource.split('/').map(|part| if part.len() > 30 { "…" } else { part }).collect();
            let resource = resource.join("/").replace("test-", "");
            let hashed = resource.starts_with("content/") || resource.starts_with("staging/");
            let resource = if hashed { resource.split('/').next().unwrap().to_owned() + "/…" } else { resource };
            writeln!(text, "  {} {resource}", call.action).unwrap();
        }
    }
    text
}

fn table(steps: &[Step], template: &Template, prices: &Prices) -> String {
    let mut text = String::from(
        "| Step | AWS calls | DynamoDB writes + index entries, reads | S3 puts, gets | messages \
         | USD | 0.2 s | 2 s | 20 s |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut totals = [0.0; 1 + ORIGINS.len()];
    for step in steps {
        let (writes, entries, reads) = (step.writes(), step.entries, step.reads());
        let (calls, puts, gets) = (step.calls.len(), step.puts(), step.gets());
        let (name, messages) = (step.name, step.messages());
        let time = ORIGINS.map(|wait| step.usd_for_time(template, prices, wait));
        let usd = [step.usd_for_calls(prices), time[0], time[1], time[2]];
        totals = std::array::from_fn(|i| totals[i] + usd[i]);
        let row = format!("| {name} | {calls} | {writes} + {entries}, {reads} | {puts}, {gets} | {messages} |");
        writeln!(text, "{row} {} |", usd.map(|usd| format!("{usd:.2}")).join(" | ")).unwrap();
    }
    let calls: usize = steps.iter().map(|step| step.calls.len()).sum();
    writeln!(text, "| all | {calls} | | | | {} |", totals.map(|usd| format!("{usd:.2}")).join(" | ")).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_calls_of_a_request_match_the_record_and_are_allowed() {
    let env = TestEnv::new().await;
    let steps = steps(&env).await;
    env.stop().await;
    let (template, seeders) = (Template::read(), Template::of_seeders());
    for step in &steps {
        let (template, name) = step.function.map_or((&seeders, "TaskRole"), |function| (&template, function));
        for call in step.calls.iter().collect::<BTreeSet<_>>() {
            assert!(template.allows(name, call), "{name} has no permission for {call:?}");
        }
    }
    keep_file("functions/tests/aws/calls.txt", &listing(&steps));
    keep_part("README.md", "calls", &table(&steps, &template, &Prices::read()));
}

/// Without seeders, alarms and contents.
#[tokio::test(flavor = "multi_thread")]
async fn the_price_of_an_idle_month_is_in_the_docs() {
    let (env, plan) = (TestEnv::new().await, undisturbed());
    env.sweep(&plan).await;
    let calls = plan.take();
    env.stop().await;
    let (template, prices) = (Template::read(), Prices::read());
    let (reads, lists): (Vec<_>, Vec<_>) = calls.into_iter().partition(is_read);
    assert!(lists.iter().all(|call| call.action.starts_with("s3:ListBucket")), "{lists:?}");
    let minutes = 30 * 24 * 60;
    let polls = minutes * 60 / prices.poll_seconds * prices.polls_at_once * template.event_sources();
    let lists = minutes / usize::try_from(ORPHAN_INTERVAL).unwrap() * lists.len();
    let latency = |service: &str, calls: usize| prices.call_milliseconds[service] * calls as f64;
    let milliseconds = latency("dynamodb", minutes * reads.len()) + latency("s3", lists);
    let gigabytes = template.memory("Sweep") / 1024.0;
    let time = prices.usd_per_million["lambda_gb_second"] * gigabytes * milliseconds / 1000.0;
    let parts = [
        ("The secret", prices.usd_per_million["secret_month"]),
        ("Lambda polls its queues", prices.usd("sqs_call", polls)),
        ("The sweep: invocations and time", prices.usd("lambda_invocation", minutes) + time),
        ("The sweep: queries", prices.usd_for_reads(&reads) * minutes as f64),
        ("The sweep: lists of S3", prices.usd("s3_put", lists)),
    ];
    let mut text = String::from("| Part | USD a month |\n|---|---|\n");
    for (part, usd) in parts {
        writeln!(text, "| {part} | {:.2} |", usd / 1e6).unwrap();
    }
    writeln!(text, "| all | {:.2} |", parts.iter().map(|(_, usd)| usd).sum::<f64>() / 1e6).unwrap();
    keep_part("docs/aws.md", "idle", &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_aws_calls_of_the_sweep_are_allowed() {
    let (env, plan) = (TestEnv::new().await, undisturbed());
    // Requests that are due, requests that have expired, and an orphaned content.
    for seed in 1..=3 {
        let id = env.create(&plan, &format!("1000/{seed}")).await;
        env.settle(&plan, id, 1).await;
    }
    env.create(&plan, "1000/4").await;
    env.clock.advance(std::time::Duration::from_secs(3 * 3600));
    env.abandon().await;
    plan.take();
    for _ in 0..256 {
        env.clock.advance(std::time::Duration::from_secs(60));
        env.sweep(&plan).await;
    }
    let (calls, template) = (plan.take(), Template::read());
    for call in calls.iter().collect::<BTreeSet<_>>() {
        assert!(template.allows("Sweep", call), "Sweep has no permission for {call:?}");
    }
    for action in ["dynamodb:DeleteItem", "s3:DeleteObject", "sqs:SendMessage", "dynamodb:GetItem"] {
        assert!(calls.iter().any(|call| call.action == action), "the sweep made no call of {action}");
    }
    env.stop().await;
}

/// The role of the seeder allows nothing else. The calls of its process to SQS and EC2 are listed by hand.
#[tokio::test(flavor = "multi_thread")]
async fn all_aws_calls_of_the_seeder_are_allowed() {
    const PORTS: u16 = REQUESTS | TORRENTS | CONTENTS | STATISTICS | SEEDERS | FETCH_QUEUE | PACKAGE_QUEUE | SEED_QUEUE;
    let (env, plan) = (TestEnv::new().await, undisturbed());
    let mut rows = vec![];
    for seed in 1..=3 {
        let id = env.create(&plan, &format!("1000/{seed}")).await;
        rows.push(env.settle(&plan, id, 1).await);
    }
    let [retired, kept, damaged] = [0, 1, 2].map(|row: usize| rows[row].infohash.unwrap());
    let torrents = &env.observer.stores.torrents;
    let version = torrents.get(retired).await.unwrap().unwrap().version;
    assert!(torrents.retire(retired, version, env.clock.now()).await.unwrap());
    // Requests whose torrent file is gone must be packaged again.
    env.delete_object(&format!("torrents/{damaged}.torrent")).await;
    let unpackaged = env.create(&plan, "1000/4").await;
    for task in [Task::Fetch(unpackaged), Task::Package(unpackaged)] {
        assert!(env.handle(&plan, task, CancellationToken::new()).await);
    }
    let lost = env.row(unpackaged).await.infohash.unwrap();
    env.delete_object(&format!("torrents/{lost}.torrent")).await;
    let content = rows[1].content.as_ref().unwrap().hash;
    let name = content.to_string();
    env.delete_object(&format!("content/{}/{}/{name}", &name[..2], &name[2..4])).await;
    plan.take();
    let (sessions, now) = (env.sessions.clone(), env.clock.now());
    let ended = env.process::<PORTS, _, _>(&plan, move |backend| async move {
        let keep = std::time::Duration::from_secs(60);
        let seeder = RunningSeeder {
            id: "two".into(),
            endpoints: Endpoints::default(),
            torrents: 0,
            weight: 1,
            replicas: 1,
            is_complete: true,
        };
        backend.seeders.register(&seeder, now, keep).await.unwrap();
        backend.seeders.send("two", Task::Seed(kept, None), now, keep).await.unwrap();
        assert_eq!(backend.seeders.take_tasks("two", 10).await.unwrap().len(), 1);
        assert_eq!(backend.seeders.running(now).await.unwrap().len(), 2);
        backend.seeders.deregister("two").await.unwrap();
        let seed = Seed::new(&backend.stores, sessions.clone(), None);
        seed.unseed(retired).await.unwrap();
        seed.run(lost, Some(unpackaged)).await.unwrap();
        for infohash in [kept, damaged] {
            sessions.remove(infohash).await.unwrap();
        }
        // Both torrents without a file.
        assert_eq!(seed.restore().await.unwrap().failed, 2);
        let more = Transferred { uploaded_bytes: 1, completed: 0 };
        backend.stores.statistics.add(kept, more).await.unwrap();
        let scrub = Scrub { rate: None, is_remote: true, ..Scrub::new(&backend.stores, &backend.settings.storage) };
        scrub.verify(content, None).await.unwrap();
    });
    assert!(matches!(ended.await, Ended::With(())));
    let (mut calls, template) = (plan.take(), Template::of_seeders());
    // The calls of the process in `seeder/container`.
    for action in ["sqs:ReceiveMessage", "sqs:DeleteMessage"] {
        calls.push(Call { action: action.into(), resource: "seed".into(), body: String::new() });
    }
    for call in calls.iter().collect::<BTreeSet<_>>() {
        assert!(template.allows("TaskRole", call), "the seeder has no permission for {call:?}");
    }
    // S3 requires it for its answer 404.
    calls.push(Call { action: "s3:ListBucket".into(), resource: String::new(), body: String::new() });
    // The rest is in `seeder/container/src/ecs.rs`.
    let unneeded = template.unneeded("TaskRole", &calls);
    assert_eq!(unneeded, [("ec2:DescribeNetworkInterfaces".to_owned(), "*".to_owned())]);
    env.stop().await;
}
