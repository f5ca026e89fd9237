//! The settings of receivers: who is notified when a request is ready or has failed.

use std::path::PathBuf;

use crate::choices::{ClientProgram, NotificationService};
use crate::secret_url::SecretUrl;
use crate::source::Source;

section! {
    /// Messages to people about requests that are ready or have failed.
    Notify "NOTIFY__" {
        /// The notification service that receives a message when a request is ready or has failed: ntfy, gotify,
        /// discord (a webhook of a channel) or apprise (its API). Needs NOTIFY__URL. Empty: none.
        service: Option<NotificationService> = "";
        /// The URL of the notification service, with its credentials: https://:TOKEN@ntfy.example.org/TOPIC,
        /// https://gotify.example.org/?token=TOKEN, https://discord.com/api/webhooks/ID/TOKEN,
        /// https://apprise.example.org/notify/KEY.
        url: Option<SecretUrl> = "";
        /// The template of the message, in the syntax of Jinja. By default the file name and the
        /// size, or the host and the error. The variables are listed in docs/notifications.md.
        template: Option<String> = "";
        /// Whether the notification service is connected to directly, at any address. It then sees this machine's
        /// address: for a service on your own network. If not, messages are sent as fetches are, through the proxy and
        /// to public addresses.
        direct: bool = "false";
    }
}

section! {
    /// The BitTorrent client, or its watched folder, that receives the torrent of every ready request.
    DownloadClient "DOWNLOAD_CLIENT__" {
        /// The BitTorrent client that receives the torrent of every ready request: qbittorrent, transmission or rqbit.
        /// Needs DOWNLOAD_CLIENT__URL. Empty: none.
        program: Option<ClientProgram> = "";
        /// The URL of the client's web interface, with its user name and password:
        /// http://admin:password@192.0.2.9:8080. The client is connected to directly, without the proxy.
        url: Option<SecretUrl> = "";
        /// The folder that receives the .torrent file of every ready request: the watched folder of a BitTorrent
        /// client. Empty: none.
        folder: Option<PathBuf> = "";
    }
}
