//! Seeder: libtorrent sessions that read contents through the contents port. The same seeder therefore serves
//! contents from a folder or an S3 bucket, and torrents with the same content share its bytes.

mod chunk;
mod disk;
mod disk_cache;
mod events;
mod hot;
pub mod http;
mod listen;
mod lock;
mod metrics;
mod open_files;
mod reader;
mod registration;
mod session;
mod sessions;
mod traffic;
mod upload_limit;
mod uploads;
mod verified;
mod vpn_files;

pub use disk_cache::CacheError;
pub use libtorrent_sys::exit_immediately;
pub use listen::ListenError;
pub use metrics::record;
pub use open_files::raise_open_files;
pub use reader::{ReadError, Reader};
pub use registration::Registration;
pub use session::StartError;
pub use sessions::SeedSessions;
pub use upload_limit::UploadLimit;
pub use verified::TorrentReader;
pub use vpn_files::follow_vpn_files;
