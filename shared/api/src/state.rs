//! The state that handlers share: ports, settings and what is derived from them.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ports::{Clock, Contents, Guards, Requests, Swarm, TaskQueue, Torrents};
use url::Url;

use crate::abuse::AbuseLimits;
use crate::auth::Authenticator;
use crate::estimate::Estimate;
use crate::health::HealthChecks;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::passkey::Passkeys;

/// What the handlers work with.
#[expect(missing_docs, missing_debug_implementations, reason = "ports and settings document themselves")]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting")]
pub struct Api {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub guards: Arc<dyn Guards>,
    pub swarm: Arc<dyn Swarm>,
    pub clock: Arc<dyn Clock>,
    pub authenticator: Authenticator,
    pub passkeys: Passkeys,
    pub health: HealthChecks,
    /// `None`: they are off.
    pub metrics: Option<Metrics>,
    pub server: settings::Server,
    pub torrent: settings::Torrent,
    pub cache: settings::Cache,
    pub tracker: settings::Tracker,
    /// Whether requests may carry credentials for origins.
    pub allow_credentials: bool,
    pub limits: Limits,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the end of requests can be told to callback URLs.
    pub webhooks: bool,
    /// How clients reach this API; the base of what is handed out.
    pub public_url: Url,
    /// How peers reach the seeder.
    pub seeder_addresses: Vec<SocketAddr>,
    /// For how many seconds a ready request is kept that names no time; 0 is until it is cancelled.
    pub keep: u64,
    pub abuse: AbuseLimits,
    /// Whether the seeder connects to peers that announce themselves as downloading.
    pub connect_to_peers: bool,
    /// Whether every call is logged.
    pub access_log: bool,
    pub estimate: Estimate,
}

/// The prefix of the API's paths, without a slash at its end.
pub(crate) fn prefix(api: &Api) -> &str {
    api.server.api_prefix.trim_end_matches('/')
}

/// The path of PUBLIC_URL, without a slash at its end: a reverse proxy may serve the API below a path.
pub(crate) fn public_path(api: &Api) -> &str {
    api.public_url.path().trim_end_matches('/')
}
