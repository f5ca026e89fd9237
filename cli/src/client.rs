//! The client of the API.

use std::time::{Duration, SystemTime};

use domain::{ContentHash, RequestId};
use reqwest::header::{LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Body, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use settings::ExposeSecret;
use url::Url;

use crate::error::CommandError;
use crate::output::printable;

/// How long the server may send nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The server option of the client commands.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Server {
    /// The server's URL [default: CLIENT__SERVER or http://127.0.0.1:8000]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    server: Option<Url>,
}

/// A URL with a host. `host:8000` would read as a URL with the scheme `host`.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        // The server decides about other schemes.
        Ok(url) if url.has_host() => Ok(url),
        Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) => {
            Err(format!("it has no scheme: begin it with http:// or https:// (http://{text})"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The fields of a request that the commands use.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub id: RequestId,
    pub status: domain::Status,
    pub progress: u8,
    #[serde(default)]
    pub received_bytes: u64,
    pub total_bytes: Option<u64>,
    #[serde(default)]
    pub retry_count: u32,
    pub content_hash: Option<ContentHash>,
    pub content_size: Option<u64>,
    pub file_name: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub waiting: Option<Waiting>,
}

/// Why a queued request waits.
#[derive(Debug, Deserialize)]
pub(crate) struct Waiting {
    pub reason: String,
    pub until: Option<String>,
    pub ahead: Option<u64>,
}

impl Request {
    /// Returns why the request waits, in words; `None` if it does not, or not for long.
    pub fn why_it_waits(&self) -> Option<String> {
        let waiting = self.waiting.as_ref()?;
        match (waiting.reason.as_str(), waiting.ahead) {
            ("retry", _) => {
                let until = waiting.until.as_deref().unwrap_or("later");
                let code = self.error_code.as_deref().unwrap_or("unknown");
                let why = printable(self.error_message.as_deref().unwrap_or_default());
                Some(format!("waits until {until} to try again: {why} ({code})"))
            }
            ("identical_request", _) => Some("waits for an identical request that is being fetched".into()),
            ("turn", Some(ahead)) if ahead > 0 => Some(format!("waits for its turn behind {ahead} of your requests")),
            _ => None,
        }
    }
}

/// A page of requests, each as JSON.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub items: Vec<Value>,
    pub next_cursor: Option<String>,
}

/// The body of an error response (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Deserialize)]
struct FieldError {
    field: String,
    detail: String,
}

/// A client of one server.
pub(crate) struct Client {
    http: reqwest::Client,
    /// The URL of the API, with `/` at the end.
    base: Url,
    credentials: settings::Client,
}

impl Client {
    /// A client of this server, with the token or the key of the settings.
    pub fn new(server: Server) -> Result<Self, CommandError> {
        let settings = settings::Client::load()?;
        let mut base = server.server.unwrap_or_else(|| settings.server.clone());
        let prefix = settings.api_prefix.trim_matches('/');
        let path = format!("{}/{prefix}", base.path().trim_end_matches('/'));
        base.set_path(&format!("{}/", path.trim_end_matches('/')));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(10));
        let http = http.read_timeout(READ_TIMEOUT).redirect(Policy::none()).build();
        let http = http.map_err(|e| CommandError::Start(e.to_string()))?;
        Ok(Self { http, base, credentials: settings })
    }

    /// Creates a request. Returns its id.
    pub async fn create(&self, body: &Value) -> Result<RequestId, CommandError> {
        #[derive(Deserialize)]
        struct Created {
            id: RequestId,
        }
        let created: Created = json(self.send(Method::POST, "", Some(body)).await?).await?;
        Ok(created.id)
    }

    /// Returns a request.
    pub async fn get(&self, id: RequestId) -> Result<Request, CommandError> {
        json(self.send(Method::GET, &format!("/{id}"), None).await?).await
    }

    /// Returns a request as JSON.
    pub async fn get_json(&self, id: RequestId) -> Result<Value, CommandError> {
        json(self.send(Method::GET, &format!("/{id}"), None).await?).await
    }

    /// Returns the `.torrent` file of a ready request.
    pub async fn torrent(&self, id: RequestId) -> Result<Vec<u8>, CommandError> {
        let response = self.send(Method::GET, &format!("/{id}/torrent"), None).await?;
        Ok(response.bytes().await.map_err(|e| unreachable(&e))?.to_vec())
    }

    /// Returns the response with the content of a ready request from this offset on, or with the whole.
    pub async fn content(&self, id: RequestId, from: u64) -> Result<Response, CommandError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let path = format!("requests/{id}/content");
        let response = self.call_with(Method::GET, &path, None, range.as_deref()).await?;
        let Some(link) = location(&response) else { return Ok(response) };
        // A presigned link, such as of S3: without the credentials of this server.
        let mut request = self.http.get(link);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(CommandError::Unavailable(format!("the store of the contents answered {}", response.status())))
    }

    /// Returns the magnet link of a ready request.
    pub async fn magnet(&self, id: RequestId) -> Result<String, CommandError> {
        #[derive(Deserialize)]
        struct Magnet {
            magnet_link: String,
        }
        let magnet: Magnet = json(self.send(Method::GET, &format!("/{id}/magnet"), None).await?).await?;
        Ok(printable(&magnet.magnet_link))
    }

    /// Returns a page of the caller's requests, newest first.
    pub async fn list(&self, query: &str) -> Result<Page, CommandError> {
        json(self.send(Method::GET, &format!("?{query}"), None).await?).await
    }

    /// Cancels a request.
    pub async fn cancel(&self, id: RequestId) -> Result<(), CommandError> {
        self.send(Method::DELETE, &format!("/{id}"), None).await.map(drop)
    }

    /// Revokes the tracker passkeys in all torrents that the caller got so far.
    pub async fn revoke_passkeys(&self) -> Result<(), CommandError> {
        self.call(Method::DELETE, "passkeys", None).await.map(drop)
    }

    /// Returns the health of the server, healthy or not.
    pub async fn health(&self) -> Result<Value, CommandError> {
        let url = self.url("health")?;
        json(self.http.get(url).send().await.map_err(|e| unreachable(&e))?).await
    }

    fn url(&self, path: &str) -> Result<Url, CommandError> {
        self.base.join(path).map_err(|e| CommandError::Start(e.to_string()))
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, CommandError> {
        self.call(method, &format!("requests{path}"), body).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, CommandError> {
        let response = self.call_with(method, path, body, None).await?;
        match location(&response) {
            None => Ok(response),
            // Credentials are for one server only.
            Some(url) => Err(CommandError::Refused(format!("it redirects to {url}: set CLIENT__SERVER to its URL"))),
        }
    }

    /// Calls the API. Returns the response if it is a success or a redirect.
    async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        range: Option<&str>,
    ) -> Result<Response, CommandError> {
        let url = self.url(path)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = self.http.request(method.clone(), url.clone());
        let Self { credentials, .. } = self;
        if let Some(token) = &credentials.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(secret) = &credentials.key_secret {
            let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
            let nonce = hex::encode(rand::random::<[u8; 16]>());
            let signed = (&method, target, body.as_bytes());
            let headers = api::sign(secret, credentials.key_id.as_deref(), signed, SystemTime::now().into(), &nonce);
            request = request.headers(headers.map_err(|e| CommandError::Start(format!("CLIENT__KEY_ID: {e}")))?);
        }
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(Body::from(body));
        }
        let response = request.send().await.map_err(|e| unreachable(&e))?;
        if response.status().is_success() || location(&response).is_some() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let why = match serde_json::from_str::<Problem>(&text) {
            Ok(problem) if problem.errors.is_empty() => problem.detail,
            Ok(problem) => {
                let errors: Vec<_> = problem.errors.iter().map(|e| format!("{} {}", e.field, e.detail)).collect();
                errors.join("; ")
            }
            Err(_) => format!("it answered {status}"),
        };
        let is_passing = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        let why = printable(&why);
        Err(if is_passing.contains(&status) { CommandError::Unavailable(why) } else { CommandError::Refused(why) })
    }
}

/// Returns where a response redirects to, or `None` if it does not redirect.
fn location(response: &Response) -> Option<Url> {
    let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    response.url().join(location.to_str().ok()?).ok()
}

pub(crate) fn unreachable(error: &reqwest::Error) -> CommandError {
    let mut why = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        why = error.to_string();
        source = error.source();
    }
    CommandError::Unreachable(why)
}

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, CommandError> {
    let bytes = response.bytes().await.map_err(|e| unreachable(&e))?;
    serde_json::from_slice(&bytes).map_err(|_| CommandError::Refused("its answer is not ProxyTorrent's".into()))
}
