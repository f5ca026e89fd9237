//! A folder that is watched for URLs.

use std::fs;
use std::path::Path;

use proxytorrent_tests::{ApiClient, Origin, TestServer, eventually};
use reqwest::Method;
use serde_json::Value;

/// Moves a file into the folder: a program that writes it slowly would be the same, a second later.
fn put(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

async fn requests(server: &TestServer) -> Vec<Value> {
    server.json(Method::GET, "/v1/requests", None).await["items"].as_array().unwrap().clone()
}

async fn is_processed(folder: &Path, name: &str) {
    let gone = async || (!folder.join(name).exists()).then_some(());
    eventually("the file is processed", gone).await;
}

#[tokio::test]
async fn lists_and_internet_shortcuts_become_requests() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let folder = folder.path().join("urls");
    let settings = [
        ("URL_FOLDER__PATH", folder.to_str().unwrap()),
        ("URL_FOLDER__OWNER", "alice"),
        ("SECURITY__AUTH_ENABLED", "true"),
        ("SECURITY__BEARER_TOKENS", "alice:a-long-enough-token,bob:another-long-token"),
    ];
    let server = TestServer::with(&settings).await;
    let alice = ApiClient::new(server.url.clone()).with_token("a-long-enough-token");
    let list = format!("# two\r\n{}\r\nftp://h/\r\n{}\r\n", origin.file(10, 1, "a"), origin.file(10, 2, "b"));
    put(&folder, "list.txt", &list);
    put(&folder, "page.URL", &format!("[InternetShortcut]\r\nURL={}\r\n", origin.file(10, 3, "c")));
    put(&folder, "empty.url", "[InternetShortcut]\n");
    put(&folder, "note.md", &origin.file(10, 4, "d"));
    for name in ["list.txt", "page.URL", "empty.url"] {
        is_processed(&folder, name).await;
    }
    let rows = alice.json(Method::GET, "/v1/requests", None).await;
    let mut urls: Vec<_> = rows["items"].as_array().unwrap().iter().map(|row| row["url"].as_str().unwrap()).collect();
    urls.sort_unstable();
    assert_eq!(urls, [origin.file(10, 1, "a"), origin.file(10, 2, "b"), origin.file(10, 3, "c")]);
    for row in rows["items"].as_array().unwrap() {
        alice.ready(row["id"].as_str().unwrap()).await;
    }
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["empty.url.failed", "list.txt.done", "list.txt.failed", "note.md", "page.URL.done"]);
    // The refused URLs are a list, too, with the reason above each.
    let refused = fs::read_to_string(folder.join("list.txt.failed")).unwrap();
    let [reason, url] = refused.lines().collect::<Vec<_>>()[..] else { panic!("{refused}") };
    assert!(reason.starts_with("# url ") && url == "ftp://h/", "{refused}");
}

#[tokio::test]
async fn a_list_that_reaches_a_limit_is_continued_after_a_restart() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let path = folder.path().to_str().unwrap();
    let settings = [
        ("URL_FOLDER__PATH", path),
        ("RATE_LIMIT__RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT__REQUESTS_PER_MINUTE", "2"),
    ];
    let mut server = TestServer::with(&settings).await;
    let urls = [1, 2, 3, 4].map(|seed| origin.file(10, seed, "a"));
    put(folder.path(), "list.txt", &urls.join("\n"));
    eventually("two are created", async || (requests(&server).await.len() == 2).then_some(())).await;
    assert!(folder.path().join("list.txt").exists());

    server.terminate().await;
    let server = server.restart_with(&[("RATE_LIMIT__RATE_LIMIT_ENABLED", "false")]).await;
    is_processed(folder.path(), "list.txt").await;
    let rows = requests(&server).await;
    let mut created: Vec<_> = rows.iter().map(|row| row["url"].as_str().unwrap()).collect();
    created.sort_unstable();
    assert_eq!(created, urls, "none is created twice");
}
