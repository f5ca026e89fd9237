//! Streaming download with SSRF guard and outbound proxies.
//!
//! The order of the checks: scheme → host and port → literal address → addresses from DNS, inside the lookup of the
//! connection itself → every redirect again from the start → TLS → status → declared length → declared and sniffed
//! media type → counted bytes → checksum.
//!
//! **Invariants**: with proxies enabled, no connection for a URL of a user bypasses them ([`DirectClient`] is for URLs
//! from the settings); the HTTP client itself never follows redirects; only a few chunks of a content are in memory at
//! a time.

mod connection;
mod direct;
mod error;
mod fetcher;
mod operator_client;
mod policy;
mod transfer;

pub use connection::client::ClientError;
pub use connection::interface::{BoundInterface, Interface};
pub use connection::proxy::{ProxyHealth, ProxyStates};
pub use direct::{DirectClient, DirectError};
pub use error::FetchError;
pub use fetcher::{Fetched, Fetcher, Transfer};
pub use operator_client::{OperatorClient, OperatorClientError};
pub use policy::addresses::{DENIED, Denied};
pub use policy::guard::Guard;
pub use transfer::checkpoint::Checkpoint;
pub use transfer::progress::TransferProgress;
