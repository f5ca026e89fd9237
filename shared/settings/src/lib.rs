//! All settings: name, documentation, default and parser, in one table per section.
//!
//! The value of `SECTION__NAME` comes from the environment, otherwise from `.env`, otherwise from the user's configuration
//! file (`config_file.rs`), otherwise from the default.
//! Invalid values, unknown names in a known section and contradictions are errors at start-up; all of them are
//! reported at once. Only this crate reads the environment.
//!
//! Two profiles differ in their defaults: `production` is secure and fails closed; `development`
//! (`PROFILE=development`) turns authentication and the proxy off and binds to loopback addresses only.

mod checks;
mod choices;
mod config_file;
mod proxy;
mod proxy_address;
mod secret_url;
mod sections;
mod source;
mod value;

pub use checks::DatabaseLocation;
pub use choices::{
    ClientProgram, Encryption, NotificationService, Profile, ProxyResolve, ProxyType, SaltScope, StorageType,
};
pub use proxy_address::ProxyAddress;
pub use secrecy::{ExposeSecret, SecretString};
pub use secret_url::SecretUrl;
pub use sections::{
    Aws, Cache, Client, Database, DownloadClient, Ecs, Fetcher, Limits, Monitoring, Notify, RateLimit, Security,
    Seeder, Server, Storage, Torrent, Tracker, UrlFolder,
};
pub use source::{Description, Problems};
pub use value::{
    BearerToken, Bounded, HostName, InterfaceName, List, LogLevel, NamedSecret, PieceLength, PowerOfTwo,
    check_user_name,
};

use std::collections::BTreeMap;

use source::Source;

/// The shortest secret that counts as unguessable, in bytes.
const MIN_SECRET: usize = 16;

/// The smallest disk cache of the seeder in bytes: a few of its files.
const MIN_CACHE_DISK: u64 = 256 << 20;

/// All settings, validated.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each section documents itself")]
pub struct Settings {
    pub server: Server,
    pub security: Security,
    pub proxy: sections::Proxy,
    pub fetcher: Fetcher,
    pub torrent: Torrent,
    pub seeder: Seeder,
    pub tracker: Tracker,
    pub storage: Storage,
    pub cache: Cache,
    pub rate_limit: RateLimit,
    pub limits: Limits,
    pub database: Database,
    pub aws: Aws,
    pub ecs: Ecs,
    pub notify: Notify,
    pub download_client: DownloadClient,
    pub url_folder: UrlFolder,
    pub monitoring: Monitoring,
    /// Warnings for the operator: settings that are valid and probably not intended.
    pub warnings: Vec<String>,
}

pub use sections::Proxy;

impl Client {
    /// Reads the configuration file, `.env` in the working directory, and the environment.
    pub fn load() -> Result<Self, Problems> {
        let mut source = user_source(&[])?;
        let client = Self::read(&mut source);
        source.refuse_unknown_names();
        if let Some(client) = &client {
            if client.token.is_some() && client.key_secret.is_some() {
                source.refuse("CLIENT__TOKEN", "cannot be combined with CLIENT__KEY_SECRET: set one of the two");
            }
            if client.key_id.is_some() && client.key_secret.is_none() {
                source.refuse("CLIENT__KEY_ID", "is set without its secret: set CLIENT__KEY_SECRET");
            }
        }
        let (problems, _) = source.finish();
        match (client, problems) {
            (Some(client), None) => Ok(client),
            (_, problems) => Err(problems.unwrap_or_default()),
        }
    }
}

/// Reads the user's configuration file, `.env` and the environment, which has precedence; `overrides` replace values of
/// all of them.
fn user_source(overrides: &[Override]) -> Result<Source, Problems> {
    let empty = || Source::from_pairs([] as [(&str, &str); 0]);
    let mut client = empty()?;
    Client::read(&mut client);
    let described = Settings::read(empty()?, Role::AllInOne).1.into_iter().chain(client.finish().1);
    let known = described.map(|setting| setting.name).collect();
    let file = config_file::read(&known).map_err(|problem| Problems(vec![problem]))?;
    Source::from_environment(file, overrides)
}

/// A setting by its full name, such as `PORT`, and its value: an option of a command line.
pub type Override = (&'static str, String);

/// The role of a process. It decides which secrets are required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything in one process.
    AllInOne,
    /// Serves the API and the tracker, and fetches nothing.
    Api,
    /// Fetches, and serves neither the API nor the tracker.
    Fetcher,
    /// Neither fetches nor serves the API: packaging, sweeps, the seeder.
    Worker,
}

impl Settings {
    /// Reads the configuration file, `.env` in the working directory, and the environment.
    pub fn load(overrides: &[Override]) -> Result<Self, Problems> {
        Self::read(user_source(overrides)?, Role::AllInOne).0
    }

    /// Reads `.env` in the working directory and the environment, for a process of this role.
    pub fn load_role(role: Role) -> Result<Self, Problems> {
        Self::read(Source::from_environment(BTreeMap::new(), &[])?, role).0
    }

    /// Reads only these variables, for tests and tools.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Problems> {
        Self::read(Source::from_pairs(pairs)?, Role::AllInOne).0
    }

    /// Returns every setting with its documentation, default and current value (secrets masked), and the problems, if
    /// there are any.
    pub fn describe(overrides: &[Override]) -> Result<(Vec<Description>, Option<Problems>), Problems> {
        let (settings, mut descriptions) = Self::read(user_source(overrides)?, Role::AllInOne);
        let mut client = user_source(overrides)?;
        Client::read(&mut client);
        descriptions.extend(client.finish().1);
        Ok((descriptions, settings.err()))
    }

    fn read(mut source: Source, role: Role) -> (Result<Self, Problems>, Vec<Description>) {
        let settings = (
            Server::read(&mut source),
            Security::read(&mut source),
            Proxy::read(&mut source),
            Fetcher::read(&mut source),
            Torrent::read(&mut source),
            Seeder::read(&mut source),
            Tracker::read(&mut source),
            Storage::read(&mut source),
            Cache::read(&mut source),
            RateLimit::read(&mut source),
            Limits::read(&mut source),
            Database::read(&mut source),
            Aws::read(&mut source),
            Ecs::read(&mut source),
            Notify::read(&mut source),
            DownloadClient::read(&mut source),
            UrlFolder::read(&mut source),
            Monitoring::read(&mut source),
        );
        source.refuse_unknown_names();
        let settings = match settings {
            (
                Some(server),
                Some(security),
                Some(proxy),
                Some(fetcher),
                Some(torrent),
                Some(seeder),
                Some(tracker),
                Some(storage),
                Some(cache),
                Some(rate_limit),
                Some(limits),
                Some(database),
                Some(aws),
                Some(ecs),
                Some(notify),
                Some(download_client),
                Some(url_folder),
                Some(monitoring),
            ) => Some(Self {
                server,
                security,
                proxy,
                fetcher,
                torrent,
                seeder,
                tracker,
                storage,
                cache,
                rate_limit,
                limits,
                database,
                aws,
                ecs,
                notify,
                download_client,
                url_folder,
                monitoring,
                warnings: source.warnings(),
            }),
            _ => None,
        };
        let mut settings = settings;
        if let Some(settings) = &mut settings {
            settings.refuse_contradictions(&mut source, role);
            settings.warnings.extend(settings.proxy.warning());
            settings.warnings.extend(settings.security.warning());
        }
        let (problems, descriptions) = source.finish();
        match (settings, problems) {
            (Some(settings), None) => (Ok(settings), descriptions),
            (_, problems) => (Err(problems.unwrap_or_default()), descriptions),
        }
    }

    fn refuse_contradictions(&self, source: &mut Source, role: Role) {
        let mut refuse = |name: &str, problem: &str| source.refuse(name, problem);

        let security = &self.security;
        let nobody =
            security.bearer_tokens.is_empty() && security.hmac_secret.is_none() && security.hmac_keys.is_empty();
        let nobody = nobody && security.user_header.is_none() && security.jwt_issuer.is_none();
        if security.auth_enabled && nobody && matches!(role, Role::AllInOne | Role::Api) {
            refuse(
                "SECURITY__BEARER_TOKENS",
                "authentication is on, but no token or key is configured: set SECURITY__BEARER_TOKENS (e.g. to the \
                 output of `openssl rand -hex 32`), SECURITY__HMAC_KEYS, SECURITY__HMAC_SECRET, \
                 SECURITY__JWT_ISSUER or SECURITY__USER_HEADER, or turn authentication off with \
                 SECURITY__AUTH_ENABLED=false",
            );
        }
        if security.jwt_issuer.is_some() && !security.jwt_direct && !self.fetcher.verify_ssl {
            refuse(
                "SECURITY__JWT_ISSUER",
                "is connected to as origins are, whose certificates are not checked: set FETCHER__VERIFY_SSL=true",
            );
        }
        if security.jwt_issuer.is_some() && role != Role::AllInOne {
            refuse("SECURITY__JWT_ISSUER", "is not available on AWS");
        }
        if matches!(role, Role::AllInOne | Role::Fetcher) {
            self.proxy.refuse_absence(&mut refuse);
        }
        self.proxy.refuse_contradictions(&mut refuse);
        security.refuse_contradictions(&mut refuse);
        if security.legacy_hmac && security.hmac_secret.is_none() {
            refuse("SECURITY__LEGACY_HMAC", "needs the key of the original: set SECURITY__HMAC_SECRET");
        }
        if self.tracker.secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < MIN_SECRET) {
            refuse("TRACKER__SECRET", "is too short; allowed: 16 characters or more, e.g. from `openssl rand -hex 32`");
        }
        if self.torrent.salt.as_ref().is_some_and(|secret| secret.expose_secret().len() < MIN_SECRET) {
            refuse("TORRENT__SALT", "is too short; allowed: 16 characters or more, e.g. from `openssl rand -hex 32`");
        }
        if self.cache.default_ttl.get() > self.cache.max_ttl.get() {
            refuse("CACHE__DEFAULT_TTL", "is greater than CACHE__MAX_TTL");
        }
        if self.server.host.is_unspecified() && self.server.public_url.is_none() {
            refuse(
                "PUBLIC_URL",
                "HOST is an unspecified address (0.0.0.0 or ::), which clients cannot connect to: set PUBLIC_URL to \
                 the URL that they use, e.g. http://files.example.org:8000",
            );
        }
        if self.seeder.has_no_public_address() && (self.ecs.v4.is_none() || role == Role::AllInOne) {
            refuse(
                "SEEDER__PUBLIC_ADDRESS",
                "SEEDER__LISTEN is an unspecified address (0.0.0.0 or ::), which peers cannot connect to: set \
                 SEEDER__PUBLIC_ADDRESS to the address that they use, e.g. 192.0.2.7:6881",
            );
        }
        self.seeder.refuse_contradictions(&mut refuse);
        self.notify.refuse_contradictions(role, &mut refuse);
        self.download_client.refuse_contradictions(&mut refuse);
        if self.url_folder.path.is_some() && self.url_folder.owner.is_none() && security.auth_enabled {
            refuse("URL_FOLDER__OWNER", "must be set with URL_FOLDER__PATH: the user who owns the requests");
        }
        if self.seeder.interface.is_some() && self.seeder.listen.iter().any(|l| !l.ip().is_unspecified()) {
            refuse(
                "SEEDER__LISTEN",
                "is an address, but SEEDER__INTERFACE decides which addresses the seeder has; allowed: 0.0.0.0:PORT or \
                 [::]:PORT",
            );
        }
        if (1..MIN_CACHE_DISK).contains(&self.seeder.cache_disk.get()) {
            refuse("SEEDER__CACHE_DISK", "is too small; allowed: 0, or a whole number from 268435456");
        }
        if self.seeder.listen.is_empty() {
            refuse("SEEDER__LISTEN", "must have at least one address, e.g. 127.0.0.1:6881");
        }
        if self.server.profile == Profile::Development {
            if !self.server.host.is_loopback() {
                refuse("HOST", "the development profile has no authentication and binds to loopback addresses only");
            }
            if self.seeder.listen.iter().any(|l| !l.ip().is_loopback()) {
                refuse("SEEDER__LISTEN", "the development profile binds to loopback addresses only");
            }
        }
        if let Err(problem) = self.database.location(&self.storage) {
            refuse("DATABASE__DATABASE_URL", &problem);
        }
    }
}

#[cfg(test)]
mod tests;
