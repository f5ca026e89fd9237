//! BitTorrent clients that take torrents over HTTP, or from a folder that they watch.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::api_client::ApiClient;
use crate::process::{eventually, free_port, root};

/// The user name of the clients' web interfaces.
const USER: &str = "admin";

/// The password.
const PASSWORD: &str = "adminadmin";

/// The password as qBittorrent stores it: salt and PBKDF2-HMAC-SHA512, 100,000 rounds.
const PASSWORD_PBKDF2: &str = "@ByteArray(ARQ77eY1NUZaQsuDHbIMCA==:0WMRkYTUWVT9wVvdDtHAjU9b3b7uB8NR1Gur2hmQCvCDpm39Q+PsJRJPaCU\
    51dEiz+dTzh8qbPsL8WkFljQYFQ==)";

/// A running client on loopback, with DHT, local peer discovery and port mapping off. It is stopped when it is dropped.
#[derive(Debug)]
pub struct DownloadClient {
    _process: Child,
    http: Client,
    port: u16,
    folder: TempDir,
}

impl DownloadClient {
    fn start(folder: TempDir, port: u16, command: &mut Command) -> Self {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let process = process.env("HOME", folder.path()).spawn().expect("the client");
        Self { _process: process, http: ApiClient::new(String::new()).http, port, folder }
    }

    /// Starts qBittorrent, and waits until its web interface responds.
    pub async fn qbittorrent() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let config = folder.path().join("qBittorrent/config");
        fs::create_dir_all(&config).expect("created");
        let (downloads, peers) = (folder.path().join("downloads"), free_port());
        let text = format!(
            "[LegalNotice]\nAccepted=true\n\
             [BitTorrent]\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n\
             Session\\Port={peers}\nSession\\Interface=lo\nSession\\InterfaceName=lo\n\
             Session\\InterfaceAddress=127.0.0.1\nSession\\DefaultSavePath={}\n\
             [Network]\nPortForwardingEnabled=false\n\
             [Preferences]\nWebUI\\Address=127.0.0.1\nWebUI\\Port={port}\nWebUI\\UseUPnP=false\n\
             WebUI\\Password_PBKDF2=\"{PASSWORD_PBKDF2}\"\n",
            downloads.display()
        );
        fs::write(config.join("qBittorrent.conf"), text).expect("written");
        let mut command = Command::new("qbittorrent-nox");
        command.arg(format!("--profile={}", folder.path().display()));
        let client = Self::start(folder, port, &mut command);
        let url = format!("http://127.0.0.1:{port}");
        eventually("qBittorrent responds", async || client.http.get(&url).send().await.ok()).await;
        client
    }

    /// Starts Transmission. It watches [`DownloadClient::watched`].
    pub fn transmission() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("watched")).expect("created");
        let (rpc, peers) = (port.to_string(), free_port().to_string());
        let mut command = Command::new("transmission-daemon");
        command.args(["--foreground", "--no-dht", "--no-lpd", "--no-portmap", "--bind-address-ipv4", "127.0.0.1"]);
        command.args(["--rpc-bind-address", "127.0.0.1", "--port", &rpc, "--peerport", &peers]);
        command.args(["--auth", "--username", USER, "--password", PASSWORD]);
        command.arg("--config-dir").arg(path("config")).arg("--download-dir").arg(path("downloads"));
        command.arg("--watch-dir").arg(path("watched"));
        Self::start(folder, port, &mut command)
    }

    /// Starts rqbit.
    pub fn rqbit() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let mut command = Command::new(root().join(".tools/cargo/bin/rqbit"));
        command.env("RQBIT_HTTP_BASIC_AUTH_USERPASS", format!("{USER}:{PASSWORD}"));
        command.args(["--http-api-listen-addr", &format!("127.0.0.1:{port}"), "--disable-dht"]);
        command.args(["--disable-upnp-port-forward", "--disable-tcp-listen", "server", "start"]);
        command.arg("--disable-persistence").arg(folder.path().join("downloads"));
        Self::start(folder, port, &mut command)
    }

    /// Returns the URL of the web interface, with user name and password.
    pub fn url(&self) -> String {
        format!("http://{USER}:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Returns the folder that the client watches for `.torrent` files.
    pub fn watched(&self) -> PathBuf {
        self.folder.path().join("watched")
    }

    /// Waits until a file is downloaded and has this content. `name` is its path in the folder of downloads.
    pub async fn has_downloaded(&self, name: &str, content: &[u8]) {
        let path = self.folder.path().join("downloads").join(name);
        let complete = async || fs::read(&path).ok().filter(|bytes| bytes == content);
        eventually("the client downloads the file", complete).await;
    }

    /// Returns the infohashes of the torrents in Transmission, with the URLs of their trackers; `None` if it does not
    /// respond.
    pub async fn transmission_torrents(&self) -> Option<Vec<(String, String)>> {
        let body = json!({ "method": "torrent-get", "arguments": { "fields": ["hashString", "trackers"] } });
        let call = |session: String| {
            let call = self.http.post(format!("http://127.0.0.1:{}/transmission/rpc", self.port));
            let call = call.basic_auth(USER, Some(PASSWORD)).header("x-transmission-session-id", session);
            call.body(body.to_string()).send()
        };
        let refused = call(String::new()).await.ok()?;
        let session = refused.headers().get("x-transmission-session-id")?.to_str().ok()?.to_owned();
        let response: Value = serde_json::from_str(&call(session).await.ok()?.text().await.ok()?).ok()?;
        let torrents = response["arguments"]["torrents"].as_array()?.iter().map(|torrent| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&torrent["hashString"]), text(&torrent["trackers"][0]["announce"]))
        });
        Some(torrents.collect())
    }
}
