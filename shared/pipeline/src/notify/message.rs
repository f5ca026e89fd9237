//! Messages to people, by a notification service: ntfy, Gotify, Discord or Apprise.

use domain::{Content, ContentHash, FetchRequest, FileName, InfoHash, MediaType, RequestId, Status, Timestamp, UserId};
use fetcher::{Fetcher, OperatorClient};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use minijinja::{Environment, UndefinedBehavior, context, escape_formatter};
use serde_json::{Value, json};
use settings::{NotificationService, SecretUrl};
use url::Url;

use super::{BadReceiver, Delivery, TIMEOUT, basic_authorization, check_status};

/// The message without `NOTIFY__TEMPLATE`. It has neither the URL of the request nor that of this server, which the
/// operator of the service would learn.
const DEFAULT_TEMPLATE: &str = "{% if status == 'ready' %}{{ file_name }} ({{ size|filesizeformat }})\
    {% else %}{{ host }}: {{ error_message }}{% endif %}";

/// The most characters of a message: Discord refuses more than 2000.
const LONGEST: usize = 1900;

/// A notification service.
pub(super) struct MessageService {
    kind: NotificationService,
    /// Without user name and password.
    url: Url,
    headers: HeaderMap,
    /// The topic of ntfy.
    topic: String,
    template: Environment<'static>,
    client: OperatorClient,
    public_url: Option<Url>,
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
        let template =
            template_environment(template, kind).map_err(|error| BadReceiver::Template(error.to_string()))?;
        let client = OperatorClient::new(fetcher, settings.direct, &url, TIMEOUT).map_err(BadReceiver::Service)?;
        let service = Self { kind, url, headers: headers(secret_url), topic, template, client, public_url };
        service.check_template()?;
        Ok(Some(service))
    }

    /// Renders the template for a ready and for a failed request, so that a mistake in it is found at the start.
    fn check_template(&self) -> Result<(), BadReceiver> {
        let (id, owner, now) = (RequestId::new(), UserId::anonymous(), Timestamp::from_millis(0));
        let failed = FetchRequest::unreadable(id, owner, now);
        let mut ready = FetchRequest { status: Status::Ready, failure: None, ..failed.clone() };
        ready.infohash = Some(InfoHash::new([0; 20]));
        ready.content = Some(Content {
            hash: ContentHash::new([0; 32]),
            size: 1,
            media_type: MediaType::unknown(),
            file_name: FileName::default(),
            final_url: ready.spec.url.clone(),
            origin_status: 200,
            fetched_at: now,
        });
        for row in [ready, failed] {
            self.text(&row).map_err(|error| BadReceiver::Template(error.to_string()))?;
        }
        Ok(())
    }

    /// Returns the message for this request.
    fn text(&self, row: &FetchRequest) -> Result<String, minijinja::Error> {
        let (content, failure) = (row.content.as_ref(), row.failure.as_ref());
        let rendered = self.template.get_template("message")?.render(context! {
            status => row.status.as_str(),
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

    /// Sends the message for this request, unless it is neither ready nor failed any more. The error says why it was
    /// not received.
    pub async fn send(&self, row: &FetchRequest) -> Result<Delivery, String> {
        if !matches!(row.status, Status::Ready | Status::Failed) {
            return Ok(Delivery::NotNeeded);
        }
        let text = self.text(row).map_err(|error| format!("NOTIFY__TEMPLATE: {error}"))?;
        let body = self.body(row.status, &text).to_string();
        let status = self.client.post(&row.owner, &self.url, self.headers.clone(), body).await?;
        match (self.kind, status) {
            (NotificationService::Apprise, 204) => Err("Apprise has no configuration under this key".into()),
            _ => check_status(status).map(|()| Delivery::Delivered),
        }
    }

    /// Returns the body of the call, as the service documents it.
    fn body(&self, status: Status, text: &str) -> Value {
        let is_ready = status == Status::Ready;
        let title = if is_ready { "Torrent ready" } else { "Fetch failed" };
        match self.kind {
            // docs.ntfy.sh/publish, "Publish as JSON".
            NotificationService::Ntfy => {
                let tag = if is_ready { "white_check_mark" } else { "x" };
                json!({ "topic": self.topic, "title": title, "message": text, "tags": [tag] })
            }
            // gotify.net/api-docs, createMessage. The app is silent about messages of a low priority.
            NotificationService::Gotify => json!({ "title": title, "message": text, "priority": 5 }),
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

fn template_environment(template: String, kind: NotificationService) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    // A name that does not exist is an error.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
    if kind == NotificationService::Discord {
        environment.set_formatter(|output, state, value| match value.as_str() {
            Some(text) => output.write_str(&escape_markdown(text)).map_err(minijinja::Error::from),
            None => escape_formatter(output, state, value),
        });
    }
    environment.add_template_owned("message", template)?;
    Ok(environment)
}

/// Escapes the characters that Discord's Markdown gives a meaning to, so that file names are shown as they are.
fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\*_~`|>#[]()-".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// The headers of each call: the type of the body, and the credentials in the URL.
fn headers(url: &SecretUrl) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    headers.extend(basic_authorization(url).map(|value| (AUTHORIZATION, value)));
    headers
}
