//! The command line: output, exit codes and error messages.

mod content;
mod get;
mod manual;
mod settings;

use std::path::Path;
use std::process::Output;

use tests::{ApiClient, Origin, TestServer, eventually, free_port, program};
use tokio::process::Command;

use crate::content::STALLING;

async fn proxytorrent(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().envs(environment.iter().copied()).current_dir(folder).kill_on_drop(true);
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn an_id_is_checked_before_it_is_part_of_a_path() {
    let server = TestServer::start().await;
    let wrong = proxytorrent(server.folder(), &["cancel", "../passkeys", "--server", &server.url], &[]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
}

#[tokio::test]
async fn failures_set_the_exit_code_and_print_a_message() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let folder = server.scratch("cwd");
    std::fs::write(folder.join("file"), "").unwrap();
    let good = origin.file(10, 1, "a.bin");
    let missing = origin.url("/status/404");
    let url = server.url.as_str();
    for (arguments, code, part) in [
        (vec!["get", missing.as_str(), "--server", url], 1, "(origin_status)"),
        (vec!["get", "--server", url], 2, "required"),
        (vec!["get", good.as_str(), "--server", "http://127.0.0.1:9"], 3, "cannot be reached"),
        (vec!["get", "example.org/x", "--server", url], 2, "begin it with http://"),
        (vec!["get", good.as_str(), "--server", "127.0.0.1:8000"], 2, "begin it with http://"),
        (vec!["get", good.as_str(), "--server", "localhost:8000"], 2, "begin it with http://"),
        (vec!["get", "ftp://example.org/", "--server", url], 4, "url the scheme ftp cannot be fetched"),
        (vec!["get", good.as_str(), "--server", url, "-o", "file/below"], 5, "cannot write"),
        (vec!["get", good.as_str(), "--server", url, "--ttl", "soon"], 2, "such as 90s, 15m, 2h or 30d"),
        (vec!["get", good.as_str(), "--server", url, "--keep", "500ms"], 2, "not a time"),
        (vec!["get", good.as_str(), "--server", url, "--no-wait", "-o", "out"], 2, "cannot be used with"),
        (vec!["list", "--status", "bogus", "--server", url], 2, "queued, fetching, packaging, seeding, ready"),
        (vec!["list", "-n", "0", "--server", url], 2, "a number from 1"),
        (vec!["status", "nonsense", "--server", url], 2, "invalid value 'nonsense' for '<ID>'"),
        (vec!["status", STALLING, "--server", url], 4, "you have no request with this id"),
        (vec!["get", good.as_str(), "--header", "A: 1", "--header", "a: 2"], 2, "is given twice"),
    ] {
        let output = proxytorrent(&folder, &arguments, &[]).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[tokio::test]
async fn the_server_runs_on_when_its_output_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (port, seeder) = (free_port().to_string(), format!("127.0.0.1:{}", free_port()));
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(program());
    command.args(["serve", "--dev"]).env_clear().env("PORT", &port).env("SEEDER__LISTEN", seeder);
    let mut server = command.current_dir(&folder).stdout(closed).kill_on_drop(true).spawn().unwrap();
    let client = ApiClient::new(format!("http://127.0.0.1:{port}"));
    let health = format!("{}/v1/health", client.url);
    eventually("the API answers", async || client.http.get(&health).send().await.ok()).await;
    assert!(server.try_wait().unwrap().is_none(), "it runs");
}
