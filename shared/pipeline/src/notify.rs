//! The notify step: tells the receivers of a request that it is ready or has failed. Each one is tried again until it is
//! reached.

mod client;
mod folder;
mod message;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{FetchRequest, Receiver, Receivers, RequestId, Status};
use fetcher::{ClientError, Fetcher};
use futures::future::join_all;
use ports::{Clock, DueNotification, NotificationQueue, Share, StoreError, Stores, Task, TaskQueue};
use settings::{ExposeSecret, Settings};
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

/// The longest that a receiver may take to respond; shorter than the lease.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The notify step.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "ports have no Debug")]
pub struct Notify {
    notifications: Arc<dyn NotificationQueue>,
    tasks: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    webhook: Option<Webhook>,
    service: Option<Arc<MessageService>>,
    client: Option<(Arc<DownloadClient>, Arc<dyn TorrentFiles>)>,
    folder: Option<(WatchedFolder, Arc<dyn TorrentFiles>)>,
}

/// The maker of `.torrent` files.
#[async_trait]
pub trait TorrentFiles: Send + Sync {
    /// Returns the `.torrent` file of a ready request as its owner gets it; `None` if the torrent no longer exists.
    async fn torrent_file(&self, request: &FetchRequest) -> Result<Option<Vec<u8>>, StoreError>;
}

/// What the settings alone do not say about a deployment.
#[derive(Clone, Default)]
#[expect(missing_debug_implementations, reason = "ports have no Debug")]
pub struct Links {
    /// The URL under which people reach the web page; `None`: messages have no link.
    pub public_url: Option<Url>,
    /// `None`: no BitTorrent client can be handed torrents, as on AWS.
    pub torrent_files: Option<Arc<dyn TorrentFiles>>,
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
    /// Returns the step with the receivers of these settings; `None` if there are none.
    pub fn new(
        stores: &Stores,
        fetcher: &Fetcher,
        settings: &Settings,
        links: Links,
    ) -> Result<Option<Self>, BadReceiver> {
        let Links { public_url, torrent_files } = links;
        let download_client = &settings.download_client;
        let needs_files = download_client.program.is_some() || download_client.folder.is_some();
        let files = match torrent_files {
            None if needs_files => return Err(BadReceiver::NoTorrentFiles),
            files => files,
        };
        let mut step = Self {
            notifications: stores.requests.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            webhook: None,
            service: MessageService::new(&settings.notify, fetcher, public_url)?.map(Arc::new),
            client: None,
            folder: None,
        };
        if let Some(secret) = &settings.security.webhook_secret {
            let key = WebhookKey::new(secret.expose_secret()).ok_or(BadReceiver::WebhookSecret)?;
            step.webhook = Some(Webhook { fetcher: fetcher.clone(), key });
        }
        if let Some(files) = files {
            step.client = DownloadClient::new(download_client)?.map(|client| (Arc::new(client), files.clone()));
            if let Some(folder) = &download_client.folder {
                step.folder = Some((WatchedFolder::open(folder).map_err(BadReceiver::Folder)?, files));
            }
        }
        let is_needed = !settings.receivers().is_empty() || step.webhook.is_some();
        Ok(is_needed.then_some(step))
    }

    /// Notifies the receivers of this request that were not reached yet, if that is due.
    pub async fn run(&self, id: RequestId) -> Result<Outcome, StepError> {
        let claimed = self.notifications.claim_notification(id, self.clock.now(), LEASE).await?;
        let Some(DueNotification { request, receivers, tries }) = claimed else { return Ok(Outcome::Nothing) };
        let notified = join_all(receivers.iter().map(async |receiver| {
            let notified = self.notify(receiver, &request).await;
            let result = if notified.is_ok() { "delivered" } else { "failed" };
            let labels = [("receiver", receiver.as_str()), ("result", result)];
            metrics::counter!("proxytorrent_notifications_total", &labels).increment(1);
            match notified {
                Ok(()) => info!(request.id = %id, %receiver, "notification delivered"),
                Err(why) => warn!(request.id = %id, %receiver, why, tries = tries + 1, "notification failed"),
            }
            (result == "failed").then_some(receiver)
        }));
        let left: Receivers = notified.await.into_iter().flatten().collect();
        if left.is_empty() {
            self.notifications.finish_notification(id, None).await?;
            return Ok(Outcome::Done);
        }
        let Some(wait) = WAITS.get(tries as usize) else {
            error!(request.id = %id, receivers = %left, "notification given up");
            self.notifications.finish_notification(id, None).await?;
            return Ok(Outcome::Done);
        };
        self.notifications.finish_notification(id, Some((self.clock.now() + *wait, left))).await?;
        self.tasks.enqueue_for(Share::from(&request), Task::Notify(id), *wait).await?;
        Ok(Outcome::Retried)
    }

    /// Notifies one receiver. The error says why it was not reached.
    async fn notify(&self, receiver: Receiver, request: &FetchRequest) -> Result<(), String> {
        match receiver {
            Receiver::Webhook => match &self.webhook {
                Some(webhook) => webhook.send(request, self.clock.wall()).await,
                None => Ok(()),
            },
            Receiver::Service => match &self.service {
                Some(service) => service.send(request).await,
                None => Ok(()),
            },
            Receiver::Client => match &self.client {
                Some((client, files)) => match torrent_file(&**files, request).await? {
                    Some(file) => client.add(request, &file).await,
                    None => Ok(()),
                },
                None => Ok(()),
            },
            Receiver::Folder => match &self.folder {
                Some((folder, files)) => match torrent_file(&**files, request).await? {
                    Some(file) => folder.add(request, file).await,
                    None => Ok(()),
                },
                None => Ok(()),
            },
        }
    }
}

/// Returns the `.torrent` file of a request; `None` if it is not ready any more, or has failed.
async fn torrent_file(files: &dyn TorrentFiles, request: &FetchRequest) -> Result<Option<Vec<u8>>, String> {
    if request.status != Status::Ready {
        return Ok(None);
    }
    files.torrent_file(request).await.map_err(|error| error.to_string())
}

/// The status that is announced: ready or failed, as it was when the notification became due.
fn announced(row: &FetchRequest) -> Status {
    if row.status == Status::Failed { Status::Failed } else { Status::Ready }
}

/// Checks the HTTP status of a receiver's response.
fn check_status(status: u16) -> Result<(), String> {
    if (200..300).contains(&status) { Ok(()) } else { Err(format!("the receiver responded {status}")) }
}
