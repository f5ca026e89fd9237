//! The notify step: tells the receivers of a request that it is ready or has failed. Each one is tried again until it
//! is reached.

mod client;
mod folder;
mod message;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{FetchRequest, Receiver, Receivers, RequestId, Status};
use fetcher::{ClientError, Fetcher, OperatorClientError};
use futures::future::join_all;
use http::HeaderValue;
use ports::{Clock, DueNotification, NotificationQueue, Share, StoreError, Stores, Task, TaskQueue};
use settings::{ExposeSecret, SecretUrl, Settings};
use tokio::time::timeout;
use tracing::{error, info, warn};
use url::Url;

use self::client::DownloadClient;
use self::folder::WatchedFolder;
use self::message::MessageService;
use self::webhook::Webhook;
pub use self::webhook::WebhookKey;
use crate::{LEASE, Outcome, StepError};

/// The waits between tries, as Standard Webhooks suggests. After the last one the notification is given up.
const WAITS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
];

/// The longest that a notification waits for its next try.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(15 * 3600);

/// The longest that a call may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The longest that it may take to notify a receiver, with all calls. It is shorter than the lease: another worker that
/// claimed the notification would notify the other receivers again.
const RECEIVER_TIMEOUT: Duration = Duration::from_secs(45);

/// The notify step.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "ports have no Debug")]
pub struct Notify {
    notifications: Arc<dyn NotificationQueue>,
    tasks: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    webhook: Option<Webhook>,
    service: Option<Arc<MessageService>>,
    client: Option<Arc<DownloadClient>>,
    folder: Option<WatchedFolder>,
    torrent_files: Option<Arc<dyn TorrentFiles>>,
}

/// The maker of `.torrent` files.
#[async_trait]
pub trait TorrentFiles: Send + Sync {
    /// Returns the `.torrent` file of a ready request as its owner gets it; `None` if the torrent no longer exists.
    async fn torrent_file(&self, request: &FetchRequest) -> Result<Option<Vec<u8>>, StoreError>;
}

/// The result for a receiver that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// The receiver was notified.
    Delivered,
    /// It must not be notified, or not any more.
    NotNeeded,
}

/// The settings of the receivers are not valid.
#[derive(Debug, thiserror::Error)]
pub enum BadReceiver {
    /// The secret cannot be decoded.
    #[error("SECURITY__WEBHOOK_SECRET: what follows whsec_ must be base64 and not empty")]
    WebhookSecret,
    /// The URL of ntfy has no topic.
    #[error("NOTIFY__URL: has no topic; allowed for ntfy: https://ntfy.example.org/TOPIC")]
    NoTopic,
    /// The notification service cannot be called.
    #[error("NOTIFY__URL: {0} (NOTIFY__DIRECT)")]
    Service(OperatorClientError),
    /// The template has an error.
    #[error("NOTIFY__TEMPLATE: {0}")]
    Template(String),
    /// The folder cannot be used.
    #[error("DOWNLOAD_CLIENT__FOLDER: files cannot be written there: {0}")]
    Folder(std::io::Error),
    /// There is no maker of `.torrent` files.
    #[error("DOWNLOAD_CLIENT__PROGRAM and DOWNLOAD_CLIENT__FOLDER are for one machine, not for AWS")]
    NoTorrentFiles,
    /// The HTTP client cannot be created.
    #[error(transparent)]
    HttpClient(#[from] ClientError),
}

impl Notify {
    /// Returns the step with the receivers of these settings. `public_url` is the URL of the web page, for templates.
    /// `torrent_files` is `None` if no BitTorrent client can be handed torrents, as on AWS.
    pub fn new(
        stores: &Stores,
        fetcher: &Fetcher,
        settings: &Settings,
        public_url: Option<Url>,
        torrent_files: Option<Arc<dyn TorrentFiles>>,
    ) -> Result<Self, BadReceiver> {
        let download_client = &settings.download_client;
        if torrent_files.is_none() && (download_client.program.is_some() || download_client.folder.is_some()) {
            return Err(BadReceiver::NoTorrentFiles);
        }
        let webhook = match &settings.security.webhook_secret {
            Some(secret) => {
                let key = WebhookKey::new(secret.expose_secret()).ok_or(BadReceiver::WebhookSecret)?;
                Some(Webhook { fetcher: fetcher.clone(), key })
            }
            None => None,
        };
        let folder = download_client.folder.as_deref().map(WatchedFolder::open).transpose();
        Ok(Self {
            notifications: stores.requests.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            webhook,
            service: MessageService::new(&settings.notify, fetcher, public_url)?.map(Arc::new),
            client: DownloadClient::new(download_client)?.map(Arc::new),
            folder: folder.map_err(BadReceiver::Folder)?,
            torrent_files,
        })
    }

    /// Notifies the receivers of this request that were not reached yet, if that is due.
    pub async fn run(&self, id: RequestId) -> Result<Outcome, StepError> {
        let claimed = self.notifications.claim_notification(id, self.clock.now(), LEASE).await?;
        let Some(claimed) = claimed else { return Ok(Outcome::Nothing) };
        let failed = join_all(claimed.receivers.iter().map(async |receiver| {
            let reached = timeout(RECEIVER_TIMEOUT, self.notify(receiver, &claimed.request)).await;
            let reached = reached.unwrap_or_else(|_| Err(format!("timeout after {} s", RECEIVER_TIMEOUT.as_secs())));
            report(&claimed, receiver, &reached);
            reached.is_err().then_some(receiver)
        }));
        let left: Receivers = failed.await.into_iter().flatten().collect();
        if left.is_empty() {
            self.notifications.finish_notification(&claimed, None).await?;
            return Ok(Outcome::Done);
        }
        let Some(wait) = WAITS.get(claimed.tries as usize) else {
            error!(request.id = %id, receivers = %left, "notification given up");
            self.notifications.finish_notification(&claimed, None).await?;
            return Ok(Outcome::Done);
        };
        self.notifications.finish_notification(&claimed, Some((self.clock.now() + *wait, left))).await?;
        self.tasks.enqueue_for(Share::from(&claimed.request), Task::Notify(id), *wait).await?;
        Ok(Outcome::Retried)
    }

    /// Notifies one receiver. The error says why it was not reached.
    async fn notify(&self, receiver: Receiver, request: &FetchRequest) -> Result<Delivery, String> {
        match receiver {
            Receiver::Webhook => {
                if let Some(webhook) = &self.webhook {
                    return webhook.send(request, self.clock.wall()).await;
                }
            }
            Receiver::Service => {
                if let Some(service) = &self.service {
                    return service.send(request).await;
                }
            }
            Receiver::Client => {
                if let (Some(client), Some(file)) = (&self.client, self.torrent_file(request).await?) {
                    return client.add(request, &file).await.map(|()| Delivery::Delivered);
                }
            }
            Receiver::Folder => {
                if let (Some(folder), Some(file)) = (&self.folder, self.torrent_file(request).await?) {
                    return folder.add(request, file).await.map(|()| Delivery::Delivered);
                }
            }
        }
        // It is not configured any more, or it receives ready torrents only.
        Ok(Delivery::NotNeeded)
    }

    /// Returns the `.torrent` file of a request; `None` if it has failed, or is not ready any more.
    async fn torrent_file(&self, request: &FetchRequest) -> Result<Option<Vec<u8>>, String> {
        match &self.torrent_files {
            Some(files) if request.status == Status::Ready => {
                files.torrent_file(request).await.map_err(|error| error.to_string())
            }
            _ => Ok(None),
        }
    }
}

/// Logs and counts a try to notify a receiver.
fn report(claimed: &DueNotification, receiver: Receiver, reached: &Result<Delivery, String>) {
    let (id, tries) = (claimed.request.id, claimed.tries + 1);
    let result = match reached {
        Ok(Delivery::NotNeeded) => return,
        Ok(Delivery::Delivered) => {
            info!(request.id = %id, %receiver, "notification delivered");
            "delivered"
        }
        Err(why) => {
            warn!(request.id = %id, %receiver, why, tries, "notification failed");
            "failed"
        }
    };
    let labels = [("receiver", receiver.as_str()), ("result", result)];
    metrics::counter!("proxytorrent_notifications_total", &labels).increment(1);
}

/// Returns the value of an `Authorization` header for the user name and password in a URL (RFC 7617), if it has one of
/// them.
fn basic_authorization(url: &SecretUrl) -> Option<HeaderValue> {
    let (name, password) = url.user()?;
    let credentials = STANDARD.encode(format!("{name}:{}", password.expose_secret()));
    let mut value = HeaderValue::try_from(format!("Basic {credentials}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    Some(value)
}

/// Checks the HTTP status of a receiver's response.
fn check_status(status: u16) -> Result<(), String> {
    if (200..300).contains(&status) { Ok(()) } else { Err(format!("the receiver responded {status}")) }
}
