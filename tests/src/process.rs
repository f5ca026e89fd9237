//! Programs, ports and conditions.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

/// The timeout for every condition that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The interval at which conditions are checked.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Returns the root folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Returns the path of the Python interpreter with libtorrent and the emulator, which `make setup` installs.
pub fn python() -> PathBuf {
    let path = root().join(".tools/python/bin/python");
    assert!(path.exists(), "{} is missing: run `make setup`", path.display());
    path
}

/// Returns the path of a script in `tests/tools`.
pub fn tool(name: &str) -> PathBuf {
    root().join("tests/tools").join(name)
}

/// Returns a TCP port that is free now, on IPv4 and IPv6.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("[::]:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Returns a port of 127.0.0.1 that is free, as is the next one.
pub fn free_port_pair() -> u16 {
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let ports = std::iter::repeat_with(free_port).take(100);
    ports.filter(|port| *port < u16::MAX).find(|port| is_free(port + 1)).expect("two ports")
}

/// Returns a value of `/proc/PID/status` in MB: `VmRSS` (current) or `VmHWM` (peak).
pub fn memory_mb(pid: u32, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(what)).expect("the line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1000.0
}

/// Returns the CPU time that a process has used so far, in milliseconds.
pub(crate) fn cpu_ms(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<f64> =
        stat.rsplit(')').next().expect("fields").split_whitespace().filter_map(|f| f.parse().ok()).collect();
    // Of the numbers after the state letter, utime and stime are the 11th and 12th (proc(5)), in ticks of 10 ms.
    (fields[10] + fields[11]) * 10.0
}

/// Waits until `check` returns `Some`, and returns the value. Panics after [`PATIENCE`].
pub async fn eventually<T>(what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_every(POLL, what, check).await
}

/// As [`eventually`], with another polling interval.
pub(crate) async fn eventually_every<T>(
    interval: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "timed out waiting for: {what}");
        // The interval of the polls.
        tokio::time::sleep(interval).await;
    }
}

/// Runs a program and returns its standard output. Panics if it fails or takes longer than [`PATIENCE`].
pub async fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {arguments:?} timed out")).expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}
