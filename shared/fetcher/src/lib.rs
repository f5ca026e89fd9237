//! The guarded, proxied, streaming download.
//!
//! The order of defence: scheme → host and port → literal address → the addresses DNS gave, inside the
//! connection's own look-up → every redirect from the top → TLS → status → declared length → declared
//! and sniffed MIME type → counted bytes → checksum.
//!
//! **Invariants**: with the proxy on, nothing is ever fetched without it; redirects are never followed
//! by the HTTP client itself; a content is in memory a chunk at a time.

mod connection;
mod error;
mod fetcher;
mod policy;
mod transfer;

pub use connection::client::ClientError;
pub use connection::proxy::ProxyHealth;
pub use error::FetchError;
pub use fetcher::{Fetched, Fetcher, Transfer};
pub use policy::addresses::{DENIED, Denied};
pub use policy::file_name::safe_file_name;
pub use policy::guard::Guard;
pub use transfer::checkpoint::Checkpoint;
pub use transfer::progress::Progress;
