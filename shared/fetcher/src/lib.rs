//! The guarded, proxied, streaming download.
//!
//! The order of defence: scheme → host and port → literal address → the addresses DNS gave, inside the
//! connection's own look-up → every redirect from the top → TLS → status → declared length → declared
//! and sniffed MIME type → counted bytes → checksum.
//!
//! **Invariants**: with the proxy on, nothing is ever fetched without it; redirects are never followed
//! by the HTTP client itself; a content is in memory a chunk at a time.

mod addresses;
mod answer;
mod checkpoint;
mod client;
mod decode;
mod digests;
mod download;
mod failure;
mod file_name;
mod guard;
mod media_type;
mod min_rate;
mod proxy;
mod receive;
mod stream_hasher;
mod transfer;

pub use addresses::{DENIED, Denied};
pub use checkpoint::Checkpoint;
pub use client::ClientError;
pub use failure::FetchError;
pub use file_name::safe_file_name;
pub use guard::Guard;
pub use proxy::ProxyHealth;
pub use transfer::{Fetched, Fetcher, Progress, Transfer};
