//! The shared state of all handlers: ports, settings, and values derived from them.

use std::sync::Arc;

use domain::{Receivers, RequestId};
use ipnet::IpNet;
use ports::{Clock, Contents, Guards, Requests, Seeders, Statistics, Stores, Swarm, TaskQueue, Torrents};
use settings::Settings;
use url::Url;

use crate::abuse::AbuseLimits;
use crate::auth::{Authenticator, TokenVerifier};
use crate::estimate::Estimate;
use crate::health::HealthChecks;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::passkey::Passkeys;
use crate::running_fleet::RunningFleet;
use crate::torrent_links::TorrentLinks;
use crate::webseed::Webseed;

/// The shared state of the handlers.
#[expect(missing_docs, missing_debug_implementations, reason = "ports and settings document themselves")]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting")]
pub struct Api {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub statistics: Arc<dyn Statistics>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub guards: Arc<dyn Guards>,
    pub swarm: Arc<dyn Swarm>,
    pub clock: Arc<dyn Clock>,
    pub authenticator: Authenticator,
    pub passkeys: Arc<Passkeys>,
    pub links: Arc<TorrentLinks>,
    pub health: HealthChecks,
    /// `None`: metrics are off.
    pub metrics: Option<Metrics>,
    pub server: settings::Server,
    pub torrent: settings::Torrent,
    pub cache: settings::Cache,
    pub tracker: settings::Tracker,
    /// Whether requests may contain credentials for origins.
    pub allow_credentials: bool,
    pub limits: Limits,
    /// Networks of reverse proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether webhooks are on: requests may have a `callback_url`.
    pub webhooks: bool,
    /// The receivers of the operator, who are notified of every request.
    pub receivers: Receivers,
    /// The URL under which clients reach this API; the base of tracker and webseed URLs.
    pub public_url: Url,
    pub fleet: RunningFleet,
    /// The default retention in seconds; 0 keeps a ready request until it is cancelled.
    pub keep: u64,
    pub abuse: AbuseLimits,
    /// Whether the seeder connects to peers that announce themselves as downloading.
    pub connect_to_peers: bool,
    /// Whether every HTTP call is logged.
    pub access_log: bool,
    pub estimate: Estimate,
    /// `None`: another process serves webseeds, or none does.
    pub webseed: Option<Webseed>,
    /// Whether the endpoints of Server-Sent Events are served, which a function cannot do.
    pub events: bool,
}

/// What the settings alone do not say about a deployment.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds a secret")]
pub struct Deployment {
    /// The URL under which clients reach this API.
    pub public_url: Url,
    /// The key of the passkeys.
    pub tracker_secret: Vec<u8>,
    /// The registry of running seeders.
    pub seeders: Arc<dyn Seeders>,
    /// The base of webseed URLs; `None`: torrents name none.
    pub webseed_base: Option<Url>,
    /// The verifier of the tokens of `SECURITY__JWT_ISSUER`.
    pub jwt: Option<Arc<dyn TokenVerifier>>,
}

impl Api {
    /// The state with these ports, settings and deployment; without health checks, metrics, estimate, webseed and
    /// events, which the caller sets.
    pub fn new(
        stores: &Stores,
        guards: Arc<dyn Guards>,
        swarm: Arc<dyn Swarm>,
        settings: &Settings,
        deployment: Deployment,
    ) -> Self {
        let authenticator = Authenticator::new(&settings.security, &deployment.public_url, deployment.jwt);
        let passkeys = Arc::new(Passkeys::new(&deployment.tracker_secret, authenticator.users()));
        let links = TorrentLinks {
            passkeys: passkeys.clone(),
            guards: guards.clone(),
            clock: stores.clock.clone(),
            torrents: stores.torrents.clone(),
            public_url: deployment.public_url.clone(),
            announce_url: settings.torrent.announce_url.clone(),
            webseed_base: deployment.webseed_base,
        };
        Self {
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            statistics: stores.statistics.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            guards,
            swarm,
            clock: stores.clock.clone(),
            passkeys,
            links: Arc::new(links),
            authenticator,
            health: HealthChecks::new(),
            metrics: None,
            server: settings.server.clone(),
            torrent: settings.torrent.clone(),
            cache: settings.cache.clone(),
            tracker: settings.tracker.clone(),
            allow_credentials: settings.fetcher.allow_credential_headers,
            limits: Limits::new(&settings.rate_limit, &settings.limits),
            trusted_proxies: settings.security.trusted_proxies.clone(),
            webhooks: settings.security.webhook_secret.is_some(),
            receivers: settings.receivers(),
            public_url: deployment.public_url,
            fleet: RunningFleet::new(deployment.seeders),
            keep: settings.storage.keep.get(),
            abuse: AbuseLimits::new(&settings.rate_limit),
            connect_to_peers: settings.seeder.connect_to_peers,
            access_log: settings.monitoring.access_log,
            estimate: Estimate::default(),
            webseed: None,
            events: false,
        }
    }
}

/// Returns the prefix of the API's paths, without a trailing slash.
pub(crate) fn prefix(api: &Api) -> &str {
    api.server.api_prefix.trim_end_matches('/')
}

/// Returns the path of a request, as clients reach it.
pub(crate) fn request_path(api: &Api, id: RequestId) -> String {
    format!("{}{}/requests/{id}", public_path(api), prefix(api))
}

/// Returns the path of `PUBLIC_URL`, without a trailing slash: a reverse proxy may serve the API below a path.
pub(crate) fn public_path(api: &Api) -> &str {
    api.public_url.path().trim_end_matches('/')
}
