//! Messages to people, by a notification service: ntfy, Gotify, Discord or Apprise.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{FetchRequest, Status};
use fetcher::{DirectClient, Fetcher};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request};
use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::{Value, json};
use settings::{ExposeSecret, NotificationService, SecretUrl};
use url::Url;

use super::{BadReceiver, TIMEOUT, announced, check_status};

/// The message without `NOTIFY__TEMPLATE`. It has no URL: whoever runs the service would learn more than necessary.
const DEFAULT_TEMPLATE: &str = "{% if status == 'ready' %}{{ file_name }} ({{ size|filesizeformat }})\
    {% else %}{{ host }}: {{ error_message }}{% endif %}";

/// The most characters of a message: Discord refuses more than 2000.
const LONGEST: usize = 1900;

/// A notification service.
#[derive(Debug)]
pub(super) struct MessageService {
    kind: NotificationService,
    /// Without user name and password.
    url: Url,
    headers: HeaderMap,
    /// The topic of ntfy.
    topic: String,
    template: Environment<'static>,
    route: Route,
    public_url: Option<Url>,
}

/// How the service is reached.
#[derive(Debug)]
enum Route {
    /// Through the guard and the proxy.
    Fetcher(Fetcher),
    Direct(DirectClient),
}

impl MessageService {
    /// Returns the service of these settings, if there is one.
    pub fn new(
        settings: &settings::Notify,
        fetcher: &Fetcher,
        public_url: Option<Url>,
    ) -> Result<Option<Self>, BadReceiver> {
        let (Some(kind), Some(secret_url)) = (settings.service, &settings.url) else { return Ok(None) };
        let mut url = secret_url.without_user();
        let mut topic = String::new();
        match kind {
            NotificationService::Ntfy => {
                topic = split_topic(&mut url).ok_or(BadReceiver::NoTopic)?;
            }
            NotificationService::Gotify if !url.path().ends_with("/message") => {
                url.set_path(&format!("{}/message", url.path().trim_end_matches('/')));
            }
            NotificationService::Gotify | NotificationService::Discord | NotificationService::Apprise => {}
        }
        let template = settings.template.clone().unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned());
        let template = template_environment(template).map_err(|error| BadReceiver::Template(error.to_string()))?;
        let route = if settings.direct { Route::Direct(DirectClient::new()?) } else { Route::Fetcher(fetcher.clone()) };
        let service = Self { kind, url, headers: headers(secret_url), topic, template, route, public_url };
        service.check_template()?;
        Ok(Some(service))
    }

    /// Renders the template for both kinds of messages, so that a mistake in it is found at the start.
    fn check_template(&self) -> Result<(), BadReceiver> {
        let sample = FetchRequest::unreadable(
            domain::RequestId::new(),
            domain::UserId::anonymous(),
            domain::Timestamp::from_millis(0),
        );
        for status in [Status::Ready, Status::Failed] {
            let row = FetchRequest { status, ..sample.clone() };
            self.text(&row).map_err(|error| BadReceiver::Template(error.to_string()))?;
        }
        Ok(())
    }

    /// Returns the message for this request.
    fn text(&self, row: &FetchRequest) -> Result<String, minijinja::Error> {
        let (content, failure) = (row.content.as_ref(), row.failure.as_ref());
        let rendered = self.template.get_template("message")?.render(context! {
            status => announced(row).as_str(),
            id => row.id.to_string(),
            owner => row.owner.as_str(),
            url => row.spec.url.as_str(),
            host => row.spec.url.host_str().unwrap_or_default(),
            file_name => content.map(|content| content.file_name.as_str()).unwrap_or_default(),
            size => content.map_or(0, |content| content.size),
            content_type => content.map(|content| content.media_type.as_str()).unwrap_or_default(),
            infohash => row.infohash.map(|hash| hash.to_string()).unwrap_or_default(),
            error_code => failure.map(|failure| failure.code.as_str()).unwrap_or_default(),
            error_message => failure.map(|failure| failure.message.as_str()).unwrap_or_default(),
            link => self.public_url.as_ref().map(Url::as_str).unwrap_or_default(),
        })?;
        Ok(rendered.chars().take(LONGEST).collect())
    }

    /// Sends the message for this request. The error says why it was not received.
    pub async fn send(&self, row: &FetchRequest) -> Result<(), String> {
        let text = self.text(row).map_err(|error| format!("NOTIFY__TEMPLATE: {error}"))?;
        let body = self.body(announced(row), &text).to_string();
        match &self.route {
            Route::Fetcher(fetcher) => {
                let status = fetcher.post(&row.owner, &self.url, self.headers.clone(), body, TIMEOUT).await;
                check_status(status.map_err(|error| error.to_string())?)
            }
            Route::Direct(client) => {
                let mut request = Request::post(self.url.as_str()).body(body.into_bytes());
                if let Ok(request) = &mut request {
                    *request.headers_mut() = self.headers.clone();
                }
                let sent = client.send(request.map_err(|error| error.to_string())?).await;
                check_status(sent.map_err(|error| error.to_string())?.status().as_u16())
            }
        }
    }

    /// Returns the body of the call, as the service documents it.
    fn body(&self, status: Status, text: &str) -> Value {
        let is_ready = status == Status::Ready;
        let title = if is_ready { "Torrent ready" } else { "Fetch failed" };
        let link = self.public_url.as_ref().map(Url::as_str);
        match self.kind {
            // docs.ntfy.sh/publish, "Publish as JSON".
            NotificationService::Ntfy => {
                let tag = if is_ready { "white_check_mark" } else { "x" };
                let mut body = json!({ "topic": self.topic, "title": title, "message": text, "tags": [tag] });
                if let Some(link) = link {
                    body["click"] = link.into();
                }
                body
            }
            // gotify.net/api-docs, createMessage; gotify.net/docs/msgextras.
            NotificationService::Gotify => {
                let mut body = json!({ "title": title, "message": text });
                if let Some(link) = link {
                    body["extras"] = json!({ "client::notification": { "click": { "url": link } } });
                }
                body
            }
            // discord.com/developers/docs/resources/webhook. Names in a file name must not notify anybody.
            NotificationService::Discord => {
                json!({ "content": format!("**{title}**\n{text}"), "allowed_mentions": { "parse": [] } })
            }
            // github.com/caronc/apprise-api, POST /notify/{KEY}.
            NotificationService::Apprise => {
                let kind = if is_ready { "success" } else { "failure" };
                json!({ "title": title, "body": text, "type": kind, "format": "text" })
            }
        }
    }
}

/// Removes the topic, the last segment, from the path of a URL of ntfy. Returns `None` if there is none.
fn split_topic(url: &mut Url) -> Option<String> {
    let topic = url.path_segments()?.next_back()?.to_owned();
    url.path_segments_mut().ok()?.pop();
    Some(topic).filter(|topic| !topic.is_empty())
}

fn template_environment(template: String) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    // A name that does not exist is an error.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
    environment.add_template_owned("message", template)?;
    Ok(environment)
}

/// The headers of each call: the type of the body, and the credentials in the URL (RFC 7617).
fn headers(url: &SecretUrl) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    if let Some((name, password)) = url.user() {
        let credentials = STANDARD.encode(format!("{name}:{}", password.expose_secret()));
        let mut value = HeaderValue::try_from(format!("Basic {credentials}")).expect("base64 is ASCII");
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    headers
}
