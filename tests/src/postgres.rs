//! A PostgreSQL server for a test, in a folder of its own, without a port.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{eventually, root};

/// Returns the path of a program of PostgreSQL.
fn program(name: &str) -> PathBuf {
    Path::new("/usr/lib/postgresql/15/bin").join(name)
}

/// A running server, which only a socket in its folder reaches. It is killed when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    /// The URL of its database.
    pub url: String,
    process: Child,
    folder: TempDir,
}

impl Postgres {
    /// Creates an empty database, and starts a server on it.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The server may run as another user.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("set");
        let empty = root().join(".tools/postgres");
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(empty).arg(folder.path().join("data")).status().await.expect("it runs");
        assert!(copied.success(), "scripts/setup test creates .tools/postgres");
        let process = spawn(folder.path());
        let socket = folder.path().display().to_string().replace('/', "%2F");
        let url = format!("postgresql://proxytorrent@{socket}/postgres");
        let mut postgres = Self { url, process, folder };
        postgres.answers().await;
        postgres
    }

    /// Kills the server. Its other processes end by themselves. What it has written is not lost.
    pub async fn crash(&mut self) {
        self.process.start_kill().expect("it runs");
        self.process.wait().await.expect("it ends");
    }

    /// Starts the server again.
    pub async fn run(&mut self) {
        self.process = spawn(self.folder.path());
        self.answers().await;
    }

    async fn answers(&mut self) {
        let folder = self.folder.path().to_owned();
        let process = &mut self.process;
        eventually("the database answers", async || {
            // It refuses to start while processes of the last one use their memory.
            if process.try_wait().expect("it runs").is_some() {
                *process = spawn(&folder);
            }
            let ready = Command::new(program("pg_isready")).arg("--quiet").arg("--host").arg(&folder).status().await;
            ready.expect("it runs").success().then_some(())
        })
        .await;
    }
}

fn spawn(folder: &Path) -> Child {
    let mut server = as_postgres("postgres");
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    // A crash of the machine is not tested.
    server.args(["-c", "listen_addresses=", "-c", "fsync=off"]).current_dir(folder);
    server.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("PostgreSQL starts")
}

/// Returns a command of PostgreSQL, which refuses to run as root.
fn as_postgres(name: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]).arg(program(name));
    command
}
