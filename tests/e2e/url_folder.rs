//! A folder that is watched for URLs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proxytorrent_tests::{ApiClient, Origin, TestServer, eventually};
use reqwest::Method;
use serde_json::Value;

fn put(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

async fn requests(server: &TestServer) -> Vec<Value> {
    server.json(Method::GET, "/v1/requests", None).await["items"].as_array().unwrap().clone()
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
    // Another list with this name was processed before.
    put(&folder, "list.txt.done", "kept");
    std::os::unix::fs::symlink("/etc/hostname", folder.join("link.txt")).unwrap();
    fs::write(folder.join("large.txt"), vec![b'#'; 300_000]).unwrap();
    // The code page of Windows.
    fs::write(
        folder.join("ansi.url"),
        [b"[InternetShortcut]\nIconFile=C:\\\xe4.ico\nURL=", origin.file(10, 5, "e").as_bytes()].concat(),
    )
    .unwrap();
    put(&folder, "note.md", &origin.file(10, 4, "d"));
    let names = || {
        let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // The id of a file is random.
        let is_id = |part: &str| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let shown = |name: String| {
            let parts = name.split('.').map(|part| if is_id(part) { "ID" } else { part });
            parts.collect::<Vec<_>>().join(".")
        };
        names.map(shown).collect::<BTreeSet<_>>()
    };
    let expected: BTreeSet<_> = [
        "ansi.url.done",
        "empty.url.failed",
        "large.txt.failed",
        "link.txt",
        "list.txt.ID.done",
        "list.txt.done",
        "list.txt.failed",
        "note.md",
        "page.URL.done",
    ]
    .map(str::to_owned)
    .into();
    eventually("the files have their last names", async || (names() == expected).then_some(())).await;
    let rows = alice.json(Method::GET, "/v1/requests", None).await;
    let mut urls: Vec<_> = rows["items"].as_array().unwrap().iter().map(|row| row["url"].as_str().unwrap()).collect();
    urls.sort_unstable();
    let expected = [(1, "a"), (2, "b"), (3, "c"), (5, "e")].map(|(seed, name)| origin.file(10, seed, name));
    assert_eq!(urls, expected);
    for row in rows["items"].as_array().unwrap() {
        alice.ready(row["id"].as_str().unwrap()).await;
    }
    assert_eq!(fs::read_to_string(folder.join("list.txt.done")).unwrap(), "kept");
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
    server.terminate().await;
    // As if the server had been killed before it saved its progress.
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let progress: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "progress")).collect();
    assert_eq!(progress.len(), 1);
    fs::remove_file(&progress[0]).unwrap();
    // What was requested before does not count again: two more are within this limit.
    let server = server.restart_with(&[("RATE_LIMIT__REQUESTS_PER_MINUTE", "4")]).await;
    let done = async || folder.path().join("list.txt.done").exists().then_some(());
    eventually("the list is done", done).await;
    let rows = requests(&server).await;
    let mut created: Vec<_> = rows.iter().map(|row| row["url"].as_str().unwrap()).collect();
    created.sort_unstable();
    assert_eq!(created, urls, "none is created twice");
}
