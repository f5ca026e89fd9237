//! The page with hostile names and URLs.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use proxytorrent_tests::browser::Browser;
use proxytorrent_tests::{TestServer, eventually};
use serde_json::json;
use tokio::net::TcpListener;

/// File names that would run a script if the page took them as HTML, or that look like something else.
const NAMES: [&str; 5] = [
    "<img src=x onerror=window.hacked=1>.pdf",
    "\"><script>window.hacked=1<'script'>.txt",
    "{{constructor.constructor('window.hacked=1')()}}.txt",
    "${window.hacked=1}.txt",
    "javascript:window.hacked=1.txt",
];

#[tokio::test]
async fn names_and_urls_of_strangers_are_only_text() {
    let respond = async |axum::extract::Path(n): axum::extract::Path<usize>| {
        let name = percent_encoding::utf8_percent_encode(NAMES[n], percent_encoding::NON_ALPHANUMERIC);
        let disposition = HeaderValue::from_str(&format!("attachment; filename*=UTF-8''{name}")).unwrap();
        let content_type = HeaderValue::from_static("text/html");
        ([(CONTENT_DISPOSITION, disposition), (CONTENT_TYPE, content_type)], format!("<script>{n}</script>"))
            .into_response()
    };
    let router = Router::new().route("/{n}", get(respond));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (server, browser) = (TestServer::start().await, Browser::start().await);
    let mut names = vec![];
    for n in 0..NAMES.len() {
        let row = server.fetch(&format!("http://{address}/{n}?q=%3Cimg%20src=x%20onerror=window.hacked=1%3E")).await;
        names.push(row["file_name"].as_str().unwrap().to_owned());
    }
    let odd = format!("http://{address}/9\"><img src=x onerror=window.hacked=1>");
    server.create(json!({ "url": odd })).await;
    browser.goto(&server.url).await.unwrap();
    for name in &names {
        browser.sees(name).await;
    }
    assert!(names.iter().any(|name| name.contains("onerror=window.hacked=1")), "{names:?}");
    for button in browser.find_all(fantoccini::Locator::Css(".request [aria-expanded]")).await.unwrap() {
        button.click().await.unwrap();
    }
    browser.sees("SHA-256").await;
    browser.press("QR code").await;
    browser.sees("Magnet link of").await;
    browser.press("Close").await;
    browser.press("Delete").await;
    browser.sees("cannot be undone").await;
    browser.press("Keep it").await;
    assert_eq!(browser.script("return window.hacked ?? null").await, serde_json::Value::Null);
    let added = "return document.querySelectorAll('#app img, #app script').length";
    assert_eq!(browser.script(added).await, 1, "the logo only");
    assert_eq!(browser.console().await, [""; 0]);
}

#[tokio::test]
async fn the_policy_of_the_page_stops_scripts_that_are_not_its_own() {
    let (server, browser) = (TestServer::start().await, Browser::start().await);
    browser.goto(&server.url).await.unwrap();
    browser.sees("No requests yet").await;
    let inject = "const image = document.createElement('img');
        try { image.setAttribute('onerror', 'window.hacked = 1') } catch { window.trusted = true }
        image.src = 'page/nothing';
        document.body.append(image);
        const script = document.createElement('script');
        try { script.textContent = 'window.hacked = 2' } catch {}
        document.body.append(script);
        fetch('http://127.0.0.1:9/').catch(() => { window.refused = true })";
    browser.script(inject).await;
    eventually("a call to another server is refused", async || {
        (browser.script("return window.refused ?? false").await == true).then_some(())
    })
    .await;
    let refusals = eventually("the refusals are reported", async || {
        let all = browser.console().await.join("\n");
        all.contains("Content Security Policy").then_some(all)
    })
    .await;
    assert!(refusals.contains("127.0.0.1:9"), "{refusals}");
    assert_eq!(browser.script("return window.trusted ?? false").await, true, "texts do not become scripts");
    assert_eq!(browser.script("return window.hacked ?? null").await, serde_json::Value::Null);
}
