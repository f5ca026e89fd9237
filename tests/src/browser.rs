//! Headless Chromium with an empty profile, which a test drives over WebDriver.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::Stdio;

use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::{ParseError, Url};

use crate::process::{PATIENCE, eventually, root};

/// The size of the window of a desktop.
pub const DESKTOP: (u32, u32) = (1100, 900);

/// The size of the screen of a phone.
pub const PHONE: (u32, u32) = (390, 844);

/// A running browser. It is stopped when it is dropped.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    /// Its home folder.
    folder: TempDir,
    driver: Child,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is in the process group of its driver, and would outlive it.
        let group = self.driver.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Deref for Browser {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A command of the Chrome DevTools Protocol.
#[derive(Debug)]
struct DevTools(&'static str, Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "cmd": self.0, "params": self.1 }).to_string()))
    }
}

/// Asks for the messages on the console, and removes them.
#[derive(Debug)]
struct Console;

impl WebDriverCompatibleCommand for Console {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

impl Browser {
    /// Starts a browser whose user reads English.
    pub async fn start() -> Self {
        Self::with_language("en-GB").await
    }

    /// Starts a browser whose user reads this language.
    pub async fn with_language(language: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .env("HOME", folder.path())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = loop {
            let line = lines.next_line().await.expect("text").expect("the line with the port");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let capabilities = json!({
            "goog:chromeOptions": {
                // Root cannot use the sandbox.
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    "--no-first-run", "--disable-background-networking", format!("--accept-lang={language}"),
                    format!("--window-size={},{}", DESKTOP.0, DESKTOP.1),
                ],
                "prefs": { "intl.accept_languages": language },
            },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object") };
        let capabilities: Capabilities = capabilities.into_iter().collect();
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("the browser starts");
        let browser = Self { client, folder, driver };
        let behavior = json!({ "behavior": "allow", "downloadPath": browser.folder.path().join("downloads") });
        browser.dev_tools("Browser.setDownloadBehavior", behavior).await;
        browser
    }

    /// Runs a command of the Chrome DevTools Protocol.
    pub async fn dev_tools(&self, command: &'static str, parameters: Value) -> Value {
        self.issue_cmd(DevTools(command, parameters)).await.expect(command)
    }

    /// Sets the theme that its user prefers: `light` or `dark`.
    pub async fn prefer(&self, theme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.dev_tools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Sets the size of the page's area, in CSS pixels.
    pub async fn resize(&self, (width, height): (u32, u32)) {
        let mobile = (width, height) == PHONE;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.dev_tools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Waits for an element and returns it.
    pub async fn element(&self, css: &str) -> Element {
        let found = self.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Waits for a button or link with this text that can be clicked, and clicks it.
    pub async fn press(&self, text: &str) {
        let xpath = format!("//*[self::button or self::a or self::summary][normalize-space()='{text}']");
        eventually(&format!("a button {text}"), async || {
            for button in self.find_all(Locator::XPath(&xpath)).await.ok()? {
                if button.click().await.is_ok() {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// Enters a text into a field, in place of what it has.
    pub async fn enter(&self, css: &str, text: &str) {
        let select_all = Key::Control + "a";
        let keys = format!("{select_all}{}{}{text}", Key::Null, Key::Backspace);
        self.element(css).await.send_keys(&keys).await.expect("entered");
    }

    /// Waits until the page shows this text.
    pub async fn sees(&self, text: &str) {
        eventually(text, async || self.text().await.contains(text).then_some(())).await;
    }

    /// Waits until an element that this selects shows this text.
    pub async fn sees_in(&self, css: &str, text: &str) {
        let script = "const [css, text] = arguments;
            return [...document.querySelectorAll(css)].some((element) => element.innerText.includes(text))";
        eventually(&format!("{text} in {css}"), async || {
            let found = self.execute(script, vec![json!(css), json!(text)]).await.ok()?;
            (found == true).then_some(())
        })
        .await;
    }

    /// Waits until no dialog is open.
    pub async fn has_no_dialog(&self) {
        eventually("no dialog is open", async || {
            (self.script("return document.querySelector('dialog[open]')").await == Value::Null).then_some(())
        })
        .await;
    }

    /// Returns the text that the page shows.
    pub async fn text(&self) -> String {
        self.script("return document.body.innerText").await.as_str().expect("text").to_owned()
    }

    /// Runs a script in the page and returns its value.
    pub async fn script(&self, script: &str) -> Value {
        self.execute(script, vec![]).await.expect(script)
    }

    /// Waits for a downloaded file and returns its name and bytes.
    pub async fn downloaded(&self, end_of_name: &str) -> (String, Vec<u8>) {
        let path = eventually(end_of_name, async || {
            let files = std::fs::read_dir(self.folder.path().join("downloads")).ok()?;
            let mut paths = files.map(|entry| entry.expect("an entry").path());
            paths.find(|path| path.is_file() && path.to_string_lossy().ends_with(end_of_name))
        })
        .await;
        let bytes = std::fs::read(&path).expect("read");
        (path.file_name().expect("a name").to_string_lossy().into_owned(), bytes)
    }

    /// Returns the errors and warnings on the console since the last call. Failed calls of the API are among them.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.issue_cmd(Console).await.expect("the log");
        let entries = entries.as_array().expect("a list").iter();
        let bad = entries.filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        bad.map(|entry| entry["message"].as_str().expect("a message").to_owned()).collect()
    }

    /// Returns what axe finds wrong with the accessibility of the page: rule, impact and elements.
    pub async fn axe(&self) -> Vec<String> {
        let source = std::fs::read_to_string(root().join(".tools/node/node_modules/axe-core/axe.min.js"));
        // By the driver, and so not under the content security policy of the page.
        self.execute(&source.expect("`make setup` installs axe-core"), vec![]).await.expect("axe");
        let run = "const done = arguments[arguments.length - 1]; axe.run().then(({ violations }) => done(violations))";
        let violations = self.client.execute_async(run, vec![]).await.expect("axe runs");
        let violations = violations.as_array().expect("a list").iter();
        let line = |violation: &Value| {
            let nodes = violation["nodes"].as_array().expect("a list").iter();
            let nodes: Vec<_> = nodes.map(|node| format!("{} {}", node["html"], node["failureSummary"])).collect();
            format!("{} ({}): {}", violation["id"], violation["impact"], nodes.join("; "))
        };
        violations.map(line).collect()
    }

    /// Saves a picture of the page to `target/screenshots`, and returns its path.
    pub async fn picture(&self, name: &str) -> PathBuf {
        let folder = root().join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(name);
        std::fs::write(&path, self.screenshot().await.expect("a picture")).expect("written");
        path
    }
}
