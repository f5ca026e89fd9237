//! Seeder: a libtorrent session that reads contents through the contents port. The same seeder therefore serves
//! contents from a folder or an S3 bucket, and torrents with the same content share its bytes.

mod disk;
mod events;
mod session;
mod uploads;

pub use libtorrent_sys::exit_immediately;
pub use session::{SeedSession, StartError};
