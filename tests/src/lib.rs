//! What the tests of all crates share: an origin with generated content, the server process, BitTorrent clients, a web
//! browser, PostgreSQL, an emulated AWS account, and the runtime API of Lambda.
//!
//! Every process that a test starts here is stopped when its handle is dropped.

mod api_client;
pub mod browser;
pub mod clients;
pub mod documents;
pub mod download_client;
#[cfg(feature = "aws")]
pub mod emulator;
mod image;
pub mod lambda;
pub mod leecher;
pub mod nginx;
mod origin;
pub mod postgres;
mod process;
mod server;

pub use api_client::{ApiClient, read_json};
pub use image::Image;
pub use origin::{Origin, content};
pub use process::{PATIENCE, eventually, free_port, free_port_pair, memory_mb, python, root, run, tool};
pub use server::{TestServer, program};

/// Returns the SHA-256 of bytes as the API shows it: 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}
