//! `make bench`: benchmarks of ProxyTorrent against curl, mktorrent and libtorrent in the same run.
//!
//! Compare ratios, not absolute figures: the origin and the clients run on the same machine.

mod api;
mod functions;
mod hashing;
mod proxied;
mod remote;
mod scale;
mod seeding;
mod server;
mod sessions;
mod speed;
mod startup;

use std::time::Instant;

/// Prints a line of the report.
fn report(what: &str, figure: &str) {
    println!("{what:<58} {figure}");
}

/// Runs `work` and returns the time that it took, in seconds.
fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// Returns the median.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    println!("make bench: {cores} cores, {model}\n");
    // `bench speed` runs only that part.
    let part = std::env::args().nth(1);
    let wanted = |name| part.as_ref().is_none_or(|part| part == name);
    if wanted("hashing") {
        hashing::run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        if wanted("speed") {
            speed::run().await;
        }
        if wanted("api") {
            api::run().await;
        }
        if wanted("proxied") {
            proxied::run().await;
        }
        if wanted("seeding") {
            seeding::run().await;
        }
        if wanted("sessions") {
            sessions::run().await;
        }
        if wanted("remote") {
            remote::run().await;
        }
        if wanted("scale") {
            scale::run(std::env::args().nth(2).map(|count| count.parse().expect("a number of torrents"))).await;
        }
        if wanted("functions") {
            functions::run().await;
        }
        if wanted("startup") {
            startup::run().await;
        }
    });
}
