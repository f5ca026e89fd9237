//! What people do with the page.

use fantoccini::key::Key;
use proxytorrent_tests::browser::{Browser, DESKTOP, PHONE};
use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::nginx::behind_nginx;
use proxytorrent_tests::{Origin, TestServer, content, eventually, free_port, root};
use reqwest::Method;
use serde_json::{Value, json};

const AUTH: [(&str, &str); 2] =
    [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "alice:alice-token,bob:bob-token")];

/// Returns the requests of a server, newest first.
async fn requests(server: &TestServer) -> Vec<Value> {
    let list = server.json(Method::GET, "/v1/requests", None).await;
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_pasted_url_becomes_a_torrent_that_can_be_downloaded() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    browser.goto(&server.url).await.unwrap();
    browser.sees("No requests yet").await;
    browser.enter("#urls", &origin.file(5000, 1, "report.bin")).await;
    browser.press("Fetch").await;
    browser.sees("report.bin is ready").await;
    let row = requests(&server).await.remove(0);
    let id = row["id"].as_str().unwrap();
    browser.press("Torrent").await;
    let (name, torrent) = browser.downloaded(".torrent").await;
    assert_eq!((name.as_str(), torrent), ("report.bin.torrent", server.torrent(id).await));
    browser.press("Content").await;
    let (name, bytes) = browser.downloaded("report.bin").await;
    assert_eq!((name.as_str(), bytes), ("report.bin", content(5000, 1)));
    browser.press("QR code").await;
    let link = browser.element("#magnet").await.prop("value").await.unwrap().unwrap();
    assert_eq!(link, server.magnet(id).await);
    let picture = browser.element(".qr").await.screenshot().await.unwrap();
    let picture = image::load_from_memory(&picture).unwrap().to_luma8();
    let mut picture = rqrr::PreparedImage::prepare(picture);
    let codes = picture.detect_grids();
    assert_eq!(codes[0].decode().unwrap().1, link);
    browser.press("Close").await;
    assert_eq!(browser.console().await, [""; 0]);
}

#[tokio::test]
async fn the_magnet_link_is_copied() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    let row = server.fetch(&origin.file(100, 1, "a.bin")).await;
    browser.goto(&server.url).await.unwrap();
    let clipboard = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": server.url });
    browser.dev_tools("Browser.grantPermissions", clipboard).await;
    browser.press("Copy magnet").await;
    browser.sees("The magnet link is copied.").await;
    let read = "const done = arguments[arguments.length - 1]; navigator.clipboard.readText().then(done)";
    let copied = browser.execute_async(read, vec![]).await.unwrap();
    assert_eq!(copied, server.magnet(row["id"].as_str().unwrap()).await);
}

#[tokio::test]
async fn several_urls_are_fetched_and_bad_lines_stay_in_the_form() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    browser.goto(&server.url).await.unwrap();
    browser.press("Fetch").await;
    browser.sees("Enter a URL.").await;
    let urls = [origin.file(100, 1, "one.bin"), origin.file(100, 2, "two.bin")];
    browser.enter("#urls", &format!("{}\n{}\nftp://example.org/x", urls[0], urls[1])).await;
    browser.press("Fetch").await;
    browser.sees("“ftp://example.org/x” is not an http or https URL.").await;
    assert_eq!(requests(&server).await.len(), 0, "nothing is created until all lines are URLs");
    browser.enter("#urls", &format!("{}\n{}\nhttp://user:pw@127.0.0.1/", urls[0], urls[1])).await;
    browser.press("Fetch").await;
    browser.sees("Not accepted: http://user:pw@127.0.0.1/").await;
    browser.sees("url must not").await;
    let left = browser.element("#urls").await.prop("value").await.unwrap();
    assert_eq!(left.as_deref(), Some("http://user:pw@127.0.0.1/"));
    browser.sees("one.bin").await;
    browser.sees("two.bin").await;
    assert_eq!(requests(&server).await.len(), 2);
}

#[tokio::test]
async fn the_options_of_the_form_are_those_of_the_request() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    browser.goto(&server.url).await.unwrap();
    browser.enter("#urls", &origin.file(100, 1, "a.bin")).await;
    browser.press("Options").await;
    browser.element("select[name=keep]").await.select_by_value("604800").await.unwrap();
    browser.element("select[name=format]").await.select_by_value("hybrid").await.unwrap();
    browser.element("input[name=fresh]").await.click().await.unwrap();
    browser.enter("input[name=sha256]", &"0".repeat(64)).await;
    browser.press("Fetch").await;
    browser.sees("a.bin has failed.").await;
    browser.sees_in(".request .status", "Failed").await;
    let row = requests(&server).await.remove(0);
    assert_eq!((&row["keep"], &row["format"], &row["ttl"]), (&json!(604_800), &json!("hybrid"), &json!(0)));
    assert_eq!(row["error_code"], "checksum_mismatch");
}

#[tokio::test]
async fn the_progress_is_shown_while_the_content_arrives() {
    for events in [true, false] {
        let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
        if !events {
            // As on AWS, where the page polls.
            let source = "document.addEventListener('readystatechange', () => {
                const settings = document.querySelector('meta[name=proxytorrent]');
                settings.content = settings.content.replace('\"events\":true', '\"events\":false');
            })";
            browser.dev_tools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await;
        }
        browser.goto(&server.url).await.unwrap();
        browser
            .enter("#urls", &format!("{}\n{}", origin.url("/gated/2000000/1"), origin.url("/gated/4000000/2")))
            .await;
        browser.press("Fetch").await;
        browser.sees("1 MB of 2 MB").await;
        browser.sees("2 MB of 4 MB").await;
        browser.sees_in(".request .status", "Fetching").await;
        assert_eq!(browser.script("return document.querySelectorAll('progress').length").await, 2);
        let calls = "return performance.getEntriesByType('resource').map(({ name }) => name).join()";
        let calls = browser.script(calls).await.as_str().unwrap().to_owned();
        assert_eq!(calls.contains("?wait="), !events, "{calls}");
        origin.open_gate();
        eventually("both are ready", async || {
            let ready = browser.script("return document.querySelectorAll('.request.ready').length").await;
            (ready == 2).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_page_goes_on_when_the_server_restarts() {
    let port = free_port().to_string();
    let server = TestServer::with(&[("PORT", &port)]).await;
    let (origin, browser) = (Origin::start().await, Browser::start().await);
    browser.goto(&server.url).await.unwrap();
    browser.enter("#urls", &origin.url("/gated/2000000/1")).await;
    browser.press("Fetch").await;
    browser.sees("Fetching").await;
    let mut server = server;
    server.terminate().await;
    browser.sees_in(".lost", "The server does not respond. Trying again…").await;
    let server = server.restart().await;
    origin.open_gate();
    browser.sees("is ready").await;
    eventually("the notice is gone", async || (!browser.text().await.contains("Trying again")).then_some(())).await;
    assert_eq!(requests(&server).await[0]["status"], "ready");
}

#[tokio::test]
async fn a_request_can_be_cancelled_fetched_again_and_deleted() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    browser.goto(&server.url).await.unwrap();
    browser.enter("#urls", &origin.url("/gated/2000000/1")).await;
    browser.press("Fetch").await;
    browser.press("Cancel").await;
    browser.sees("The fetch stops.").await;
    browser.press("Keep it").await;
    assert_ne!(requests(&server).await[0]["status"], "cancelled");
    browser.press("Cancel").await;
    browser.element("dialog .danger").await.click().await.unwrap();
    browser.sees("No request matches.").await;
    assert_eq!(requests(&server).await[0]["status"], "cancelled");
    browser.element(".list-header select").await.select_by_label("Deleted").await.unwrap();
    origin.open_gate();
    browser.press("Fetch again").await;
    browser.element(".list-header select").await.select_by_label("All").await.unwrap();
    browser.sees_in(".request .status", "Ready").await;
    browser.press("Delete").await;
    browser.sees("Seeding stops").await;
    browser.element("dialog .danger").await.click().await.unwrap();
    browser.sees("No request matches.").await;
    let statuses: Vec<_> = requests(&server).await.into_iter().map(|row| row["status"].clone()).collect();
    assert_eq!(statuses, ["cancelled", "cancelled"]);
}

#[tokio::test]
async fn a_failed_request_can_be_fetched_again_more_than_once() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    let first = server.create(json!({ "url": origin.url("/status/404") })).await;
    server.failed(&first).await;
    browser.goto(&server.url).await.unwrap();
    for count in 2..=3 {
        let oldest = browser.element(".request:last-child .actions button:not(:disabled)").await;
        oldest.click().await.unwrap();
        eventually("a request is created", async || (requests(&server).await.len() == count).then_some(())).await;
        browser.element(&format!(".request.failed:nth-last-child({count})")).await;
    }
}

#[tokio::test]
async fn older_requests_are_loaded_and_searched() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    for seed in 0..60 {
        server.create(json!({ "url": origin.file(10, seed, &format!("file-{seed:02}.bin")) })).await;
    }
    browser.goto(&server.url).await.unwrap();
    browser.sees("file-59.bin").await;
    let count = async || browser.script("return document.querySelectorAll('.request').length").await;
    assert_eq!(count().await, 50);
    browser.enter("input[type=search]", "file-05").await;
    browser.sees("None of the 50 newest requests matches.").await;
    browser.press("Show older requests").await;
    browser.sees("file-05.bin").await;
    assert_eq!(count().await, 1);
    browser.enter("input[type=search]", "").await;
    eventually("all are shown", async || (count().await == 60).then_some(())).await;
}

#[tokio::test]
async fn a_token_is_asked_for_and_kept_for_the_tab_only() {
    let (server, origin) = (TestServer::with(&AUTH).await, Origin::start().await);
    let browser = Browser::start().await;
    browser.goto(&server.url).await.unwrap();
    browser.sees("Enter your token").await;
    browser.enter("#token", "mallory").await;
    browser.press("Continue").await;
    browser.sees("the token or the signature is not valid").await;
    browser.enter("#token", "alice-token").await;
    browser.press("Continue").await;
    browser.has_no_dialog().await;
    browser.sees("No requests yet").await;
    browser.enter("#urls", &origin.file(100, 1, "a.bin")).await;
    browser.press("Fetch").await;
    browser.sees("a.bin is ready").await;
    browser.press("Content").await;
    assert_eq!(browser.downloaded("a.bin").await.1, content(100, 1), "a download link needs no token");
    browser.refresh().await.unwrap();
    browser.sees("a.bin").await;
    browser.has_no_dialog().await;
    let tab = browser.new_window(true).await.unwrap();
    browser.switch_to_window(tab.handle).await.unwrap();
    browser.goto(&server.url).await.unwrap();
    browser.sees("Enter your token").await;
    browser.enter("#token", "токен").await;
    browser.press("Continue").await;
    browser.sees("A token has only letters").await;
    browser.enter("#token", "bob-token").await;
    browser.press("Continue").await;
    browser.has_no_dialog().await;
    browser.sees("No requests yet").await;
    browser.press("Forget the token").await;
    browser.sees("Enter your token").await;
    assert_eq!(browser.script("return sessionStorage.length").await, 0);
}

#[tokio::test]
async fn the_details_have_the_swarm() {
    let server = TestServer::with(&[("SEEDER__SAVE_INTERVAL", "1")]).await;
    let (origin, browser) = (Origin::start().await, Browser::start().await);
    let row = server.fetch(&origin.file(50_000, 1, "a.bin")).await;
    libtorrent(&server.magnet(row["id"].as_str().unwrap()).await, &server.scratch("peer")).await;
    browser.goto(&server.url).await.unwrap();
    browser.press("Details").await;
    browser.sees_in("dd", "1 seeding, 0 downloading").await;
    browser.sees_in("dd", "50 kB sent").await;
    browser.sees_in("dd", row["infohash"].as_str().unwrap()).await;
}

#[tokio::test]
async fn the_form_stops_at_a_limit_and_keeps_the_rest() {
    let limits = [("RATE_LIMIT__RATE_LIMIT_ENABLED", "true"), ("RATE_LIMIT__REQUESTS_PER_MINUTE", "2")];
    let (server, origin) = (TestServer::with(&limits).await, Origin::start().await);
    let browser = Browser::start().await;
    browser.goto(&server.url).await.unwrap();
    let urls: Vec<_> = (0..5).map(|seed| origin.file(10, seed, "a.bin")).collect();
    browser.enter("#urls", &urls.join("\n")).await;
    browser.press("Fetch").await;
    browser.sees_in(".errors", "Try again in").await;
    let left = browser.element("#urls").await.prop("value").await.unwrap().unwrap();
    assert_eq!(left, urls[2..].join("\n"));
    assert_eq!(browser.script("return document.querySelectorAll('.errors li').length").await, 1);
    assert_eq!(browser.axe().await, [""; 0]);
}

#[tokio::test]
async fn the_keyboard_keeps_its_place() {
    let (server, origin, browser) = (TestServer::start().await, Origin::start().await, Browser::start().await);
    let focused = async || browser.script("return document.activeElement.innerText").await;
    browser.goto(&server.url).await.unwrap();
    browser.enter("#urls", &(origin.url("/gated/2000000/1") + &Key::Control + &Key::Enter)).await;
    browser.press("Cancel").await;
    browser.press("Keep it").await;
    browser.has_no_dialog().await;
    assert_eq!(focused().await, "Cancel", "a dialog gives the focus back");
    origin.open_gate();
    browser.sees_in(".request .status", "Ready").await;
    assert_eq!(focused().await, "1", "the heading of the request whose button is gone");
    browser.press("Delete").await;
    browser.element("dialog[open]").await.send_keys(&Key::Escape).await.unwrap();
    browser.has_no_dialog().await;
    assert_eq!(focused().await, "Delete");
    browser.press("Delete").await;
    browser.element("dialog .danger").await.click().await.unwrap();
    browser.sees("No request matches.").await;
    assert_eq!(focused().await, "Your requests");
}

#[tokio::test]
async fn a_link_that_another_app_shares_is_in_the_form() {
    let (server, browser) = (TestServer::start().await, Browser::start().await);
    browser.goto(&format!("{}/?title=News&text=Read%20this:%20https://example.org/a", server.url)).await.unwrap();
    let field = browser.element("#urls").await;
    assert_eq!(field.prop("value").await.unwrap().as_deref(), Some("https://example.org/a"));
    assert_eq!(requests(&server).await.len(), 0, "a link to the page must not create a request");
}

#[tokio::test]
async fn the_page_is_in_the_language_of_the_browser() {
    let (server, origin, browser) =
        (TestServer::start().await, Origin::start().await, Browser::with_language("ru-RU").await);
    browser.goto(&server.url).await.unwrap();
    browser.sees("Запросов пока нет").await;
    browser.enter("#urls", &origin.url("/status/404")).await;
    browser.press("Скачать").await;
    browser.sees("Хост ответил ошибкой.").await;
    browser.sees("404").await;
    assert_eq!(browser.script("return document.documentElement.lang").await, "ru");
    assert_eq!(browser.axe().await, [""; 0]);
}

#[tokio::test]
async fn the_page_is_accessible_in_each_theme_and_size() {
    let port = free_port().to_string();
    let server = TestServer::with(&[("PORT", &port)]).await;
    let (origin, browser) = (Origin::start().await, Browser::start().await);
    for path in ["/bytes/1830500/1/annual-report.pdf", "/bytes/734003/2/conference-talk.mp4"] {
        server.fetch(&origin.url(path)).await;
    }
    let failed = server.create(json!({ "url": origin.url("/nowhere/slides.odp") })).await;
    server.failed(&failed).await;
    server.create(json!({ "url": origin.url("/gated/42000000/3/field-recordings.zip") })).await;
    for (theme, size, name) in
        [("light", DESKTOP, "page-light.png"), ("dark", DESKTOP, "page-dark.png"), ("light", PHONE, "page-phone.png")]
    {
        browser.prefer(theme).await;
        browser.resize(size).await;
        browser.goto(&server.url).await.unwrap();
        browser.sees("21 MB of 42 MB").await;
        assert_eq!(browser.axe().await, [""; 0], "{theme} {size:?}");
        browser.picture(name).await;
        browser.press("Options").await;
        browser.press("Details").await;
        browser.sees_in("dt", "Request").await;
        assert_eq!(browser.axe().await, [""; 0], "{theme} {size:?}, with details");
        let wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.script(wide).await, false, "no horizontal scrolling");
        for (button, closes) in [("QR code", "Close"), ("Delete", "Keep it")] {
            browser.press(button).await;
            browser.element("dialog[open]").await;
            if button == "QR code" {
                browser.element(".qr").await;
            }
            assert_eq!(browser.axe().await, [""; 0], "{theme} {size:?}, {button}");
            browser.press(closes).await;
        }
    }
}

#[tokio::test]
async fn the_page_follows_the_prefix_of_the_api() {
    let server = TestServer::with(&[("API_PREFIX", "/api/v1")]).await;
    let (origin, browser) = (Origin::start().await, Browser::start().await);
    browser.goto(&server.url).await.unwrap();
    browser.enter("#urls", &origin.file(100, 1, "a.bin")).await;
    browser.press("Fetch").await;
    browser.sees("a.bin is ready").await;
}

#[tokio::test]
async fn the_page_works_below_a_path_of_a_reverse_proxy() {
    let (server, _nginx, public) = behind_nginx(&[]).await;
    let (origin, browser) = (Origin::start().await, Browser::start().await);
    browser.goto(&format!("{public}/")).await.unwrap();
    browser.enter("#urls", &origin.file(100, 1, "a.bin")).await;
    browser.press("Fetch").await;
    browser.sees("a.bin is ready").await;
    browser.press("Content").await;
    assert_eq!(browser.downloaded("a.bin").await.1, content(100, 1));
    browser.press("HTTP API").await;
    browser.sees("Fetches a URL through a proxy").await;
    assert_eq!(server.json(Method::GET, "/v1/requests", None).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_libraries_of_the_page_are_built_from_npm() {
    let folder = tempfile::tempdir().unwrap();
    let script = root().join("scripts/build-page").to_string_lossy().into_owned();
    proxytorrent_tests::run(&script, &[folder.path().to_str().unwrap()], &root()).await;
    for name in ["libraries.js", "licenses.txt"] {
        let built = std::fs::read_to_string(folder.path().join(name)).unwrap();
        let served = std::fs::read_to_string(root().join("shared/api/page").join(name)).unwrap();
        assert!(built == served, "shared/api/page/{name} is not what `make page` builds");
    }
}
