//! The types of ProxyTorrent and their rules, without I/O: requests and their transitions, contents, torrents, failures.

mod failure;
mod file_name;
mod ids;
mod media_type;
mod principal;
mod receiver;
mod request;
mod status;
mod text_enum;
mod timestamp;
mod torrent;
mod transition;
mod url_list;

pub use failure::{Failure, FailureCode};
pub use file_name::FileName;
pub use ids::{ContentHash, Fingerprint, InfoHash, InfoHashV2, LeaseToken, ParseHashError, RequestId};
pub use media_type::{MediaType, ParseMediaTypeError};
pub use principal::{Principal, UserId};
pub use receiver::{Receiver, Receivers};
pub use request::{Content, FetchRequest, FetchSpec, HISTORY, KEPT_UNTIL_CANCELLED, Method, Progress, Received};
pub use status::{Status, Step};
pub use text_enum::UnknownText;
pub use timestamp::{Timestamp, millis};
pub use torrent::{Torrent, TorrentFormat, TorrentState};
pub use transition::{Completed, Due, FromNow, Lease, Retries, Transition, Update};
pub use url_list::{shortcut_url, url_lines};
