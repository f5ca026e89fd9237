//! What things are in ProxyTorrent, and the rules they carry. No I/O.
//!
//! A type here cannot hold a bad value: parsing happens once, at the door.

mod failure;
mod ids;
mod principal;
mod request;
mod status;
mod timestamp;
mod torrent;
mod transition;

pub use failure::{Failure, FailureCode};
pub use ids::{ContentHash, Fingerprint, InfoHash, InfoHashV2, LeaseToken, ParseHashError, RequestId};
pub use principal::{Principal, UserId};
pub use request::{Content, FetchRequest, FetchSpec, HISTORY, KEPT_UNTIL_CANCELLED, Method};
pub use status::{Status, Step};
pub use timestamp::Timestamp;
pub use torrent::{Torrent, TorrentFormat, TorrentState};
pub use transition::{Completed, Due, FromNow, Lease, Retries, Transition, Update, diagram};
