//! The seeder: a libtorrent session whose content comes through the contents port, so that the same
//! seeder serves a folder or a bucket, and torrents that share a content share its bytes.

mod disk;
mod session;

pub use libtorrent_sys::exit_immediately;
pub use session::{SeedSession, StartError};
