//! The REST API and the tracker as axum routes: one file per endpoint.
//!
//! **Invariant**: this crate does not depend on AWS, SQLite or libtorrent; handlers use ports.

mod abuse;
mod auth;
mod browser;
mod client_address;
mod client_limit;
mod docs;
mod download;
pub mod endpoints;
mod estimate;
mod field_code;
mod health;
mod http_server;
mod idempotency;
mod limits;
mod metrics;
mod middleware;
mod openapi;
mod passkey;
mod problem;
mod problem_code;
mod query;
mod requests;
mod router;
mod running_fleet;
mod service;
mod state;
mod torrent_links;
mod tracker;
mod webhook;
mod webseed;

pub use abuse::AbuseLimits;
pub use auth::{Authenticator, IssuerUnavailable, TokenVerifier, sign};
pub use estimate::{Backlog, Estimate, FetchQueue};
pub use health::{HealthCheck, HealthChecks};
pub use http_server::{HttpLimits, serve};
pub use idempotency::IdempotencyKey;
pub use limits::Limits;
pub use metrics::Metrics;
pub use passkey::Passkeys;
pub use requests::create::{Refused, create_for};
pub use router::router;
pub use running_fleet::RunningFleet;
pub use state::{Api, Deployment};
pub use torrent_links::TorrentLinks;
pub use webseed::Webseed;
