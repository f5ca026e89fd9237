//! The command blocks of README and `docs/`, run as a reader would run them. Ports and paths are replaced, and so is
//! `make run`: the server under test is the one that cargo built. Request signing is in `signatures`, nginx in
//! `reverse_proxy`, and the deployment to AWS in the tests of `seeder/container` and `functions`.

use std::path::Path;
use std::process::Stdio;

use proxytorrent_tests::documents::{code_blocks, commands, shows};
use proxytorrent_tests::{ApiClient, Origin, PATIENCE, TestServer, content, eventually, free_port, program, sha256};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The program as the documents write it.
const PROGRAM: &str = "target/release/proxytorrent";

/// Returns the block with the documented path of the program replaced.
fn with_program(block: &str) -> String {
    block.replace(PROGRAM, program().to_str().unwrap())
}

/// A token of the tests.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Starts a server that accepts this token only.
async fn server_with_token() -> TestServer {
    let tokens = format!("alice:{TOKEN}");
    TestServer::with(&[("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", &tokens)]).await
}

/// A shell in this folder, with nothing but PATH in its environment.
fn shell(folder: &Path, commands: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-ec", commands]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs commands to their end and returns what they print.
async fn printed(folder: &Path, server: &str, commands: &str) -> String {
    let mut command = shell(folder, &format!("exec 2>&1\n{commands}"));
    let output = tokio::time::timeout(PATIENCE, command.env("CLIENT__SERVER", server).output());
    let output = output.await.unwrap_or_else(|_| panic!("{commands} timed out")).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{commands}: {text}");
    text
}

#[tokio::test]
async fn the_tour_of_the_readme_works_as_it_is_shown() {
    let blocks = code_blocks("README.md", "console");
    let [start, tour] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    let webseed = [("TORRENT__WEBSEED", "true")];
    let server = TestServer::with(&webseed).await;
    let (folder, origin) = (server.scratch("tour"), free_port().to_string());
    let port = server.url.rsplit(':').next().unwrap();
    let here = |text: &str| with_program(&text.replace("9000", &origin).replace("8000", port));

    let started = commands(start);
    let [make_file, serve_file, make_run] = started.as_slice() else { panic!("{} commands", started.len()) };
    assert_eq!(make_run.line, "FETCHER__ALLOW_NETWORKS=127.0.0.1/32 make run");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        here(&make_run.output[0]).split(" and ").next(),
        Some(&*format!("ProxyTorrent {version} serves {}", server.url))
    );
    printed(&folder, &server.url, &make_file.line).await;
    let serve_file = here(serve_file.line.strip_suffix(" &").expect("in the background"));
    let mut python = shell(&folder, &format!("exec {serve_file}"));
    let _origin = python.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let file = format!("http://127.0.0.1:{origin}/hello.txt");
    eventually("the origin serves", async || server.http.get(&file).send().await.ok()).await;

    let tour = commands(tour);
    let documented_id = tour.iter().find_map(|command| command.line.strip_prefix("id=")).expect("the id");
    let (mut variables, mut id) = (String::new(), String::new());
    for command in &tour {
        let line = here(&command.line).replace(documented_id, &id);
        if line.starts_with("id=") || line.starts_with("url=") {
            variables = format!("{variables}{line}\n");
            continue;
        }
        let script = format!("{variables}{line}");
        let attempt = async || {
            let output = printed(&folder, &server.url, &script).await;
            let is_shown = |expected: &String| {
                let actual_id = output.strip_prefix("{\"id\":\"").and_then(|rest| rest.get(..36)).unwrap_or_default();
                let (shortened, actual_start) = (&documented_id[..9], actual_id.get(..9).unwrap_or_default());
                shows(&output, &here(expected).replace(documented_id, actual_id).replace(shortened, actual_start))
            };
            let missing = command.output.iter().find(|expected| !is_shown(expected));
            match missing {
                None => Some(output.clone()),
                Some(_) if command.comment.starts_with("repeat") => None,
                Some(missing) => panic!("{line} shows\n{output}\nand not\n{missing}"),
            }
        };
        let output = eventually(&line, attempt).await;
        if let Ok(created) = serde_json::from_str::<Value>(&output) {
            created["id"].as_str().expect("an id").clone_into(&mut id);
        }
    }
    assert_eq!(std::fs::read_to_string(folder.join("down/hello.txt")).unwrap(), "Hello, swarm.\n");
    assert!(std::fs::read(folder.join("from-curl.torrent")).unwrap().starts_with(b"d8:announce"));
}

/// A server that a documented block started: its URL, and the lines that were printed before.
struct Started {
    _process: Child,
    url: String,
    before: Vec<String>,
}

/// Runs a block whose last command is `serve`.
async fn started(folder: &TempDir, block: &str) -> Started {
    // The shell must become the server, so that it ends with the test.
    let block = with_program(&block.replace(&format!("{PROGRAM} serve"), &format!("exec {PROGRAM} serve")));
    let mut command = shell(folder.path(), &block);
    command.env("PORT", "0").env("SEEDER__LISTEN", "127.0.0.1:0").stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut before = vec![];
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap().expect("a line");
        if let Some((_, rest)) = line.split_once(" serves ") {
            let url = rest.split(' ').next().unwrap().into();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Started { _process: process, url, before };
        }
        before.push(line);
    }
}

async fn assert_only_token_is_accepted(url: &str, token: &str) {
    let list = ApiClient::new(url.into()).http.get(format!("{url}/v1/requests"));
    assert_eq!(list.try_clone().unwrap().send().await.unwrap().status(), 401);
    assert_eq!(list.bearer_auth(token).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_env_file_of_the_readme_configures_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let generate = code_blocks("README.md", "sh").into_iter().find(|block| block.contains("cargo build --release"));
    let generate = generate.expect("the block").lines().last().unwrap().to_owned();
    let token = printed(folder.path(), "", &generate).await.trim().to_owned();
    let file = code_blocks("README.md", "ini").remove(0);
    std::fs::write(folder.path().join(".env"), file.replace("replace-this-with-your-token", &token)).unwrap();
    let server = started(&folder, &format!("{PROGRAM} serve")).await;
    assert_only_token_is_accepted(&server.url, &token).await;
}

#[tokio::test]
async fn the_shell_commands_of_the_readme_start_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let block = code_blocks("README.md", "sh").into_iter().find(|block| block.contains("export PROXY__"));
    let server = started(&folder, &block.expect("the block")).await;
    let token = server.before.iter().find_map(|line| line.strip_prefix("CLIENT__TOKEN=")).expect("the token");
    assert_only_token_is_accepted(&server.url, token).await;
}

#[tokio::test]
async fn the_example_of_a_notification_service_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let service = code_blocks("docs/notifications.md", "ini").remove(0);
    let security = code_blocks("README.md", "ini").remove(0).replace("replace-this-with-your-token", TOKEN);
    std::fs::write(folder.path().join(".env"), format!("{security}{service}")).unwrap();
    let server = started(&folder, &format!("{PROGRAM} serve")).await;
    assert_only_token_is_accepted(&server.url, TOKEN).await;
}

#[tokio::test]
async fn the_example_in_the_configuration_guide_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let addresses = code_blocks("docs/configuration.md", "ini").remove(0);
    let security = code_blocks("README.md", "ini").remove(0).replace("replace-this-with-your-token", TOKEN);
    let jwt = code_blocks("docs/http-api.md", "ini").remove(0);
    // The last value of a name counts.
    let tor = code_blocks("docs/tor.md", "ini").remove(0);
    let login = code_blocks("docs/operations.md", "ini").remove(0);
    std::fs::write(folder.path().join(".env"), format!("{security}{addresses}{jwt}{login}{tor}")).unwrap();
    let shown = printed(folder.path(), "", &with_program(&format!("{PROGRAM} config"))).await;
    for setting in [addresses, jwt, login, tor].iter().flat_map(|block| block.lines()) {
        let value = setting.split_once('=').expect("a setting").1.trim_end_matches('/');
        assert!(shown.contains(value), "{setting}: {shown}");
    }
}

#[tokio::test]
async fn the_settings_of_several_instances_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let settings = code_blocks("docs/several-instances.md", "ini").remove(0);
    let security = code_blocks("README.md", "ini").remove(0).replace("replace-this-with-your-token", TOKEN);
    let settings = settings.replace("PASSWORD", "hidden-password");
    std::fs::write(folder.path().join(".env"), format!("{security}{settings}")).unwrap();
    let shown = printed(folder.path(), "", &with_program(&format!("{PROGRAM} config"))).await;
    for setting in settings.lines().filter(|line| !line.contains("hidden-password")) {
        assert!(shown.contains(setting.trim_end_matches('/')), "{setting}: {shown}");
    }
    assert!(!shown.contains("hidden-password"), "{shown}");
}

#[tokio::test]
async fn the_settings_of_the_container_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let block = code_blocks("docs/one-machine.md", "sh").into_iter().find(|block| block.contains("docker run"));
    let block = block.expect("the block").replace("you:TOKEN", &format!("you:{TOKEN}"));
    let words: Vec<_> = block.split_whitespace().collect();
    let settings: Vec<_> = words.windows(2).filter(|pair| pair[0] == "--env").map(|pair| pair[1]).collect();
    assert_eq!(settings.len(), 4, "{block}");
    // The image sets HOST.
    std::fs::write(folder.path().join(".env"), settings.join("\n") + "\nHOST=0.0.0.0\n").unwrap();
    let shown = printed(folder.path(), "", &with_program(&format!("{PROGRAM} config"))).await;
    for setting in &settings[..2] {
        assert!(shown.contains(setting), "{setting}: {shown}");
    }
}

/// A folder with the settings of a server in the development profile on free ports, for `doctor`.
fn development() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ports = format!("PORT={}\nSEEDER__LISTEN=127.0.0.1:{}\n", free_port(), free_port());
    std::fs::write(folder.path().join(".env"), format!("PROFILE=development\n{ports}")).unwrap();
    folder
}

/// Returns a block that calls `proxytorrent` so that it calls the program under test.
fn with_command(block: &str) -> String {
    format!("proxytorrent() {{ {} \"$@\"; }}\n{block}", program().display())
}

#[tokio::test]
async fn the_examples_of_the_command_work() {
    let (server, origin, folder) = (TestServer::start().await, Origin::start().await, development());
    let block = code_blocks("docs/command-line.md", "sh").remove(0);
    let [report, page] = ["https://example.org/report.pdf", "https://example.org/a"];
    let block = block.replace(report, &origin.file(1000, 1, "report.pdf")).replace(page, &origin.file(1000, 2, "a"));
    let shown = printed(folder.path(), &server.url, &with_command(&block)).await;
    assert!(shown.contains("magnet:?xt=urn:btih:") && shown.contains("ok       clock"), "{shown}");
    assert!(folder.path().join("report.pdf.torrent").exists());
    assert_eq!(std::fs::read(folder.path().join("down/a")).unwrap(), content(1000, 2));
}

#[tokio::test]
async fn the_example_of_a_configuration_file_gives_the_command_its_server_and_token() {
    let server = server_with_token().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".config/proxytorrent/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let block = code_blocks("docs/command-line.md", "toml").remove(0);
    let list = with_command(&format!("export HOME={}\nproxytorrent list", folder.path().display()));
    let list = async || shell(folder.path(), &list).output().await.unwrap();
    std::fs::write(&file, block.replace("https://files.example.org", &server.url)).unwrap();
    assert_eq!(list().await.status.code(), Some(4), "the server refuses the token of the example");
    let example = "the token, without the name of the user";
    std::fs::write(&file, block.replace("https://files.example.org", &server.url).replace(example, TOKEN)).unwrap();
    assert_eq!(list().await.status.code(), Some(0));
}

#[tokio::test]
async fn doctor_reads_the_settings_of_the_debian_package_as_documented() {
    let folder = development();
    let block = code_blocks("docs/command-line.md", "sh").remove(1);
    std::fs::rename(folder.path().join(".env"), folder.path().join("proxytorrent.env")).unwrap();
    let here = folder.path().to_str().unwrap();
    let block = block.replace("sudo ", "").replace("/etc/proxytorrent", here).replace("/var/lib", here);
    let block = block.replace(" proxytorrent doctor", &format!(" {} doctor", program().display()));
    let shown = printed(folder.path(), "", &block).await;
    assert!(shown.contains(&format!("ok       storage   {here}/proxytorrent takes files")), "{shown}");
}

#[tokio::test]
async fn the_example_of_a_batch_creates_a_request_for_each_line() {
    let (server, origin, folder) = (TestServer::start().await, Origin::start().await, tempfile::tempdir().unwrap());
    let urls = [origin.file(10, 1, "a"), "# a comment".to_owned(), origin.file(10, 2, "b")];
    std::fs::write(folder.path().join("urls.txt"), urls.join("\n")).unwrap();
    let block = code_blocks("docs/http-api.md", "bash").remove(0);
    let block = block.replace("localhost:8000", server.url.trim_start_matches("http://"));
    let created = printed(folder.path(), "", &format!("TOKEN=unused\n{}", block.replace("curl ", "curl -s "))).await;
    let created: Value = serde_json::from_str(&created).expect("JSON");
    let items = created["items"].as_array().expect("items");
    assert!(items.len() == 2 && items.iter().all(|item| item["request"]["id"].is_string()), "{created}");
}

#[tokio::test]
async fn prometheus_reads_the_metrics_with_the_documented_configuration() {
    let server = server_with_token().await;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let block = code_blocks("docs/one-machine.md", "yaml").remove(0).replace("TOKEN", TOKEN);
    let config = block.replace("127.0.0.1:8000", server.url.trim_start_matches("http://"));
    std::fs::write(folder.path().join("prometheus.yml"), format!("global: {{ scrape_interval: 1s }}\n{config}"))
        .unwrap();
    let start = format!("exec prometheus --config.file=prometheus.yml --web.listen-address=127.0.0.1:{port}");
    let _prometheus = shell(folder.path(), &start).stderr(Stdio::null()).spawn().unwrap();
    let query = format!("http://127.0.0.1:{port}/api/v1/query?query=up%3D%3D1");
    let result = eventually("prometheus reads them", async || {
        let response = server.http.get(&query).send().await.ok()?.bytes().await.ok()?;
        let answer: Value = serde_json::from_slice(&response).ok()?;
        answer["data"]["result"].as_array().filter(|result| !result.is_empty()).cloned()
    });
    assert_eq!(result.await[0]["metric"]["job"], "proxytorrent");
}

/// Makes a backup with the block at this index, while the server runs or not, and serves a content from it.
async fn restored_from_backup(index: usize, running: bool) {
    let (mut server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(100_000, 4, "kept.bin")).await;
    let folder = server.data().parent().unwrap().to_owned();
    let backup = code_blocks("docs/operations.md", "sh").remove(index);
    if running {
        printed(&folder, "", &backup).await;
        server.terminate().await;
    } else {
        server.terminate().await;
        printed(&folder, "", &backup).await;
    }
    std::fs::remove_dir_all(server.data()).unwrap();
    std::fs::rename(folder.join("backup"), server.data()).unwrap();
    let server = server.restart().await;
    let path = format!("/v1/requests/{}/content", row["id"].as_str().unwrap());
    let body = server.call(Method::GET, &path, None).await.bytes().await.unwrap();
    assert_eq!(sha256(&body), sha256(&content(100_000, 4)));
}

#[tokio::test]
async fn a_copy_of_the_data_folder_of_a_stopped_server_restores_it() {
    restored_from_backup(0, false).await;
}

#[tokio::test]
async fn a_backup_of_a_running_server_restores_it() {
    restored_from_backup(1, true).await;
}
