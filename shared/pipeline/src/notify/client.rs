//! Hand-over of torrents to a BitTorrent client, by its HTTP API.

use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::FetchRequest;
use fetcher::DirectClient;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use settings::{ClientProgram, ExposeSecret, SecretString};
use url::{Url, form_urlencoded};

use super::{BadReceiver, TIMEOUT, basic_authorization};

/// The header of Transmission against cross-site requests.
const TRANSMISSION_SESSION: HeaderName = HeaderName::from_static("x-transmission-session-id");

/// A BitTorrent client that takes torrents over HTTP.
pub(super) struct DownloadClient {
    program: ClientProgram,
    /// Without user name and password.
    url: Url,
    user: Option<(String, SecretString)>,
    authorization: Option<HeaderValue>,
    http: DirectClient,
    /// The session that the client has begun: the cookie of qBittorrent, the session id of Transmission.
    session: Mutex<Option<String>>,
}

impl DownloadClient {
    /// Returns the client of these settings, if there is one.
    pub fn new(settings: &settings::DownloadClient) -> Result<Option<Self>, BadReceiver> {
        let (Some(program), Some(url)) = (settings.program, &settings.url) else { return Ok(None) };
        Ok(Some(Self {
            program,
            url: url.without_user(),
            user: url.user(),
            authorization: basic_authorization(url),
            http: DirectClient::new(TIMEOUT)?,
            session: Mutex::default(),
        }))
    }

    /// Adds a torrent, unless the client has it already. The error says why it was not added.
    pub async fn add(&self, request: &FetchRequest, torrent_file: &[u8]) -> Result<(), String> {
        match self.program {
            ClientProgram::Qbittorrent => self.add_to_qbittorrent(request, torrent_file).await,
            ClientProgram::Transmission => self.add_to_transmission(torrent_file).await,
            ClientProgram::Rqbit => self.add_to_rqbit(request, torrent_file).await,
        }
    }

    /// Calls `torrents/add` (qBittorrent's Web API 2, since 4.1).
    async fn add_to_qbittorrent(&self, request: &FetchRequest, torrent_file: &[u8]) -> Result<(), String> {
        let boundary = format!("proxytorrent-{}", hex::encode(rand::random::<[u8; 16]>()));
        let head = "Content-Disposition: form-data; name=\"torrents\"; filename=\"a.torrent\"\r\n\
                    Content-Type: application/x-bittorrent";
        let mut form = format!("--{boundary}\r\n{head}\r\n\r\n").into_bytes();
        form.extend_from_slice(torrent_file);
        form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let form_type = format!("multipart/form-data; boundary={boundary}");
        let added = self.call_qbittorrent(Method::POST, "torrents/add", &form_type, form).await?;
        if added.status().is_success() && added.body() != b"Fails." {
            return Ok(());
        }
        // A torrent that it has already is refused, too. It calls a hybrid torrent by the truncated v2 infohash.
        let v1 = request.infohash.map(|hash| hash.to_string());
        let v2 = request.infohash_v2.map(|hash| hash.to_string()[..40].to_owned());
        let hashes: Vec<_> = v1.into_iter().chain(v2).collect();
        let known = format!("torrents/info?hashes={}", hashes.join("%7C"));
        let known = self.call_qbittorrent(Method::GET, &known, "", vec![]).await?;
        match serde_json::from_slice::<Vec<Value>>(known.body()) {
            Ok(torrents) if !torrents.is_empty() => Ok(()),
            _ => Err(format!("qBittorrent refused the torrent: {}", described(&added))),
        }
    }

    /// Calls qBittorrent in a session. Logs in if there is none, or if it has expired.
    async fn call_qbittorrent(
        &self,
        method: Method,
        path: &str,
        body_type: &str,
        body: Vec<u8>,
    ) -> Result<Response<Vec<u8>>, String> {
        let call = async |cookie: Option<&str>| {
            let mut call = Request::builder().method(method.clone()).uri(self.at(&format!("api/v2/{path}")));
            if !body_type.is_empty() {
                call = call.header(CONTENT_TYPE, body_type);
            }
            if let Some(cookie) = cookie {
                call = call.header(COOKIE, cookie);
            }
            self.send(call.body(body.clone())).await
        };
        let Some((name, password)) = &self.user else { return call(None).await };
        if let Some(cookie) = self.session() {
            let response = call(Some(&cookie)).await?;
            if response.status() != StatusCode::FORBIDDEN {
                return Ok(response);
            }
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", name)
            .append_pair("password", password.expose_secret())
            .finish();
        let login = Request::post(self.at("api/v2/auth/login"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_bytes());
        let response = self.send(login).await?;
        let cookie = response.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).filter(|_| response.status().is_success());
        let Some(cookie) = cookie else {
            return Err(format!("qBittorrent refused the user name or password: {}", described(&response)));
        };
        self.remember(cookie);
        call(Some(cookie)).await
    }

    /// Calls `torrent-add` (Transmission's RPC). Adding a torrent again succeeds, too.
    async fn add_to_transmission(&self, torrent_file: &[u8]) -> Result<(), String> {
        let arguments = json!({ "metainfo": STANDARD.encode(torrent_file) });
        let body = json!({ "method": "torrent-add", "arguments": arguments }).to_string();
        let path = if self.url.path() == "/" { "transmission/rpc" } else { "" };
        let call = async |session: Option<&str>| {
            let call = self.authorized(Request::post(self.at(path))).header(CONTENT_TYPE, "application/json");
            let session = session.unwrap_or_default();
            self.send(call.header(TRANSMISSION_SESSION, session).body(body.clone().into_bytes())).await
        };
        let mut response = call(self.session().as_deref()).await?;
        if response.status() == StatusCode::CONFLICT {
            let session = response.headers().get(TRANSMISSION_SESSION).and_then(|session| session.to_str().ok());
            let session = session.ok_or("the receiver is no Transmission: it sent no session id")?.to_owned();
            self.remember(&session);
            response = call(Some(&session)).await?;
        }
        let result = serde_json::from_slice::<Value>(response.body());
        match result.as_ref().ok().and_then(|result| result["result"].as_str()) {
            Some("success") => Ok(()),
            _ => Err(format!("Transmission refused the torrent: {}", described(&response))),
        }
    }

    /// Calls `POST /torrents` of rqbit. Adding a torrent again succeeds, too. Each torrent has a folder: rqbit would
    /// write two files with one name into each other.
    async fn add_to_rqbit(&self, request: &FetchRequest, torrent_file: &[u8]) -> Result<(), String> {
        let folder = request.infohash.map(|hash| hash.to_string()).unwrap_or_default();
        let call = self.authorized(Request::post(self.at(&format!("torrents?overwrite=true&sub_folder={folder}"))));
        let response = self.send(call.body(torrent_file.to_vec())).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(format!("rqbit refused the torrent: {}", described(&response)))
    }

    fn at(&self, path: &str) -> String {
        match path {
            "" => self.url.to_string(),
            path => format!("{}/{path}", self.url.as_str().trim_end_matches('/')),
        }
    }

    fn authorized(&self, call: http::request::Builder) -> http::request::Builder {
        match &self.authorization {
            Some(authorization) => call.header(AUTHORIZATION, authorization),
            None => call,
        }
    }

    async fn send(&self, call: http::Result<Request<Vec<u8>>>) -> Result<Response<Vec<u8>>, String> {
        self.http.send(call.map_err(|error| error.to_string())?).await.map_err(|error| error.to_string())
    }

    fn session(&self) -> Option<String> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, session: &str) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.to_owned());
    }
}

/// Returns the status and the start of the body of a response, for the log.
fn described(response: &Response<Vec<u8>>) -> String {
    let text = String::from_utf8_lossy(response.body());
    let line = text.lines().next().unwrap_or_default();
    format!("{} {}", response.status().as_u16(), line.chars().take(100).collect::<String>())
}
