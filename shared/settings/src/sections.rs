//! The table of settings: each field is one variable, with its documentation and default.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::TorrentFormat;
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use crate::choices::{Encryption, Profile, ProxyResolve, ProxyType, SaltScope, StorageType};
use crate::proxy_address::ProxyAddress;
use crate::source::{Problems, Source};
use crate::value::{BearerToken, Bounded, HostName, List, LogLevel, NamedSecret, Value};

/// A section: the struct, its reading and its printed reference come from the same lines.
/// `= default` for both profiles, `= default, default in development`.
macro_rules! section {
    ($(#[doc = $section_doc:literal])* $name:ident $prefix:literal {
        $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr $(, $development:expr)?;)+
    }) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type,)+
        }

        impl $name {
            pub(crate) fn read(source: &mut Source) -> Option<Self> {
                $(
                    #[allow(unused_mut, unused_assignments, reason = "few settings have a second default")]
                    let $field = {
                        let mut development = None;
                        $(development = Some($development);)?
                        source.value::<$type>($prefix, stringify!($field), concat!($($doc),*), $default, development)
                    };
                )+
                // Every field is read before the first bad one ends it: all problems are told at once.
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
}

section! {
    /// The service itself.
    Server "" {
        /// Which defaults apply: development turns authentication and the proxy off and allows loopback addresses only.
        profile: Profile = "production";
        /// The service's name in answers.
        app_name: String = "ProxyTorrent";
        /// The version in answers.
        app_version: String = env!("CARGO_PKG_VERSION");
        /// Log in more detail, as MONITORING__LOG_LEVEL=DEBUG.
        debug: bool = "false";
        /// The path that the API's paths begin with.
        api_prefix: String = "/v1";
        /// The address to serve the API on.
        host: IpAddr = "127.0.0.1";
        /// The port to serve the API on; 0 takes a free one.
        port: u16 = "8000";
        /// How clients reach the API: the base of tracker and download URLs. By default http://HOST:PORT.
        public_url: Option<Url> = "";
        /// Seconds that a client may take to send a request's head, its body, and to take the next bytes of an answer.
        client_timeout: Bounded<1, 3600> = "30";
        /// Origins (https://app.example.org) whose web pages may use the API; * is every origin.
        cors_origins: List<String> = "";
        /// How long a stop waits for work to finish, in seconds; what is not finished by then goes on at the next start.
        shutdown_grace: Bounded<0, 600> = "10", "2";
    }
}

section! {
    /// Who may ask.
    Security "SECURITY__" {
        /// Whether callers must authenticate.
        auth_enabled: bool = "true", "false";
        /// The key for HMAC-SHA256 request signatures that name no key.
        hmac_secret: Option<SecretString> = "";
        /// Keys for request signatures, as id:secret; the id is the user's name, and X-Key-Id names it.
        hmac_keys: List<NamedSecret> = "";
        /// Whether an X-Signature over the body alone is accepted, as the original had it: it can be replayed.
        legacy_hmac: bool = "false";
        /// Tokens that callers may bear (RFC 6750), as name:token, name:sha256:digest, or the token alone; each is a user
        /// of its own.
        bearer_tokens: List<BearerToken> = "";
        /// Networks of reverse proxies whose X-Forwarded-For is believed.
        trusted_proxies: List<IpNet> = "";
        /// The key that webhooks are signed with (Standard Webhooks), whsec_ and base64; without it none are sent.
        webhook_secret: Option<SecretString> = "";
        /// The header that holds the bearer token.
        token_header: String = "Authorization";
    }
}

section! {
    /// The proxy that content is fetched through.
    Proxy "PROXY__" {
        /// Whether to fetch through the proxy alone. Without it every origin sees this machine's address.
        proxy_enabled: bool = "true", "false";
        /// How the proxy is spoken to.
        proxy_type: ProxyType = "socks5";
        /// The proxy's host name or address.
        proxy_host: Option<String> = "";
        /// The proxy's port.
        proxy_port: Option<u16> = "";
        /// The user name for the proxy.
        proxy_username: Option<String> = "";
        /// The password for the proxy.
        proxy_password: Option<SecretString> = "";
        /// Several proxies instead of PROXY__PROXY_HOST, as URLs (socks5://user:password@host:port) whose credentials are
        /// percent-encoded: the first that works is used; one that fails is rested, and the next one tried.
        urls: List<ProxyAddress> = "";
        /// Whether each request shows the SOCKS5 proxy a user name of its own, so that Tor gives it a circuit of its own.
        isolate: bool = "false";
        /// Who looks host names up. With remote the proxy does and nothing leaks, but only literal addresses can be
        /// checked here; with local (SOCKS5 only) every address is checked, and the look-up leaves this machine.
        resolve: ProxyResolve = "remote";
    }
}

section! {
    /// How content is fetched.
    Fetcher "FETCHER__" {
        /// Seconds to wait for a connection.
        connect_timeout: Bounded<1, 300> = "10";
        /// Seconds to wait for the next byte.
        read_timeout: Bounded<1, 600> = "30";
        /// The least bytes a second, over 20 seconds, that an origin must send; 0 is no limit.
        min_rate: Bounded<0, 1_000_000_000> = "1000";
        /// The largest content, in bytes.
        max_size: Bounded<1, { u64::MAX }> = "52428800";
        /// Whether https certificates must be valid. Turn it off in tests only.
        verify_ssl: bool = "true";
        /// The User-Agent sent to origins. The default is that of a common program, with the header fields that it sends.
        user_agent: String = "curl/7.88.1";
        /// The MIME types that may be fetched; * at the end stands for anything.
        mime_whitelist: List<String> = "text/*,image/*,audio/*,video/*,font/*,application/json,application/ld+json,\
            application/xml,application/xhtml+xml,application/rss+xml,application/atom+xml,application/javascript,\
            application/pdf,application/epub+zip,application/rtf,application/msword,application/vnd.*,application/zip,\
            application/gzip,application/x-gzip,application/x-tar,application/x-bzip2,application/x-xz,application/zstd,\
            application/x-7z-compressed,application/x-bittorrent,application/wasm,application/octet-stream,\
            application/x-iso9660-image,application/x-cd-image,application/x-raw-disk-image,application/x-qemu-disk,\
            application/x-apple-diskimage,application/x-debian-package,application/x-deb,application/x-rpm,\
            application/x-redhat-package-manager,application/java-archive,application/x-hdf,application/x-hdf5,\
            application/x-sqlite3,application/x-ndjson,application/jsonlines,application/yaml,application/toml,\
            application/x-lzma,application/x-lzip,application/x-rar-compressed,application/x-cpio,application/x-parquet";
        /// How often a fetch that failed in a way that may pass is tried again.
        max_retries: Bounded<0, 20> = "3";
        /// How many redirects are followed.
        max_redirects: Bounded<0, 20> = "5";
        /// How many fetches run at once; the rest wait in the queue.
        max_concurrent: Bounded<1, 100_000> = "1000";
        /// How many fetches of one user run at once; by default half of FETCHER__MAX_CONCURRENT. Users are served in turn.
        max_per_user: Option<Bounded<1, 100_000>> = "";
        /// How many fetches of one user from one host run at once.
        max_per_host: Bounded<1, 100_000> = "32";
        /// If set, the only ports that are fetched from; by default every port but those of other protocols, such as 25.
        allowed_ports: List<Bounded<1, 65_535>> = "";
        /// Whether requests may carry Authorization and Cookie headers, and user names and passwords in URLs. They are kept
        /// in the database as long as the request.
        allow_credential_headers: bool = "false";
        /// Networks that are fetched from though they are not public.
        allow_networks: List<IpNet> = "";
        /// Hosts, with their subdomains, that are never fetched from.
        blocked_hosts: List<HostName> = "";
        /// If set, the only hosts, with their subdomains, that are fetched from.
        allowed_hosts: List<HostName> = "";
    }
}

section! {
    /// The torrents that are made.
    Torrent "TORRENT__" {
        /// Whether torrents are private (BEP 27): peers are found through the tracker alone.
        private_tracker: bool = "true";
        /// A secret of 16 characters or more that makes the infohashes of private torrents unpredictable: without it, people
        /// who have a file can compute its infohash and ask the seeder whether it was fetched here. Torrents that were
        /// made before keep their infohashes.
        salt: Option<SecretString> = "";
        /// Whose torrents share a salt: deployment, where equal contents are one torrent, or owner, where each user's
        /// are torrents of their own, so that users cannot find out each other's.
        salt_scope: SaltScope = "deployment";
        /// Whether torrents name this program and the time of their creation. By default public torrents do, and private
        /// ones do not.
        creation_info: Option<bool> = "";
        /// v1, which every client reads, or hybrid with v2 (BEP 52).
        format: TorrentFormat = "v1";
        /// Bytes a piece, a power of two from 16384 to 16777216; by default chosen by the content's size.
        piece_size: Option<PieceLength> = "";
        /// Another tracker to announce to, beside the built-in one.
        announce_url: Option<Url> = "";
        /// Whether torrents name this service as a webseed (BEP 19), too: who has the torrent can have the content from
        /// PUBLIC_URL, until the request ends.
        webseed: bool = "true";
        /// Whether connections between peers and the seeder are encrypted (RC4): forced, preferred or off. By default
        /// forced, or preferred with TORRENT__ENCRYPTION_ENABLED=false.
        encryption: Option<Encryption> = "";
        /// Whether peers must encrypt; TORRENT__ENCRYPTION says it more exactly and overrides this.
        encryption_enabled: bool = "true";
        /// Bytes a second that the seeder may send; 0 is no limit.
        upload_rate_limit: Bounded<0, 2_147_483_647> = "0";
        /// Bytes a second that the seeder may receive; 0 is no limit.
        download_rate_limit: Bounded<0, 2_147_483_647> = "0";
        /// Peers that may be connected at once. One address, or one IPv6 /64, has at most an eighth of them (16 at the
        /// least). Each needs an open file.
        max_connections: Bounded<1, 1_000_000> = "2000";
    }
}

section! {
    /// The seeder.
    Seeder "SEEDER__" {
        /// The addresses to accept peers on; port 0 takes a free one.
        listen: List<SocketAddr> = "127.0.0.1:6881";
        /// How peers reach the seeder, where that differs from SEEDER__LISTEN; port 0 is the port it listens on.
        public_address: List<SocketAddr> = "";
        /// Whether peers may connect by µTP (UDP) beside TCP.
        utp: bool = "true";
        /// Whether the seeder connects to peers that announce themselves as downloading, at the address that the announce
        /// came from. Without it, clients that try plaintext first start a minute later while encryption is forced.
        connect_to_peers: bool = "true";
        /// Seconds between two savings of the resume data.
        save_interval: Bounded<1, 86_400> = "300";
    }
}

section! {
    /// The built-in tracker.
    Tracker "TRACKER__" {
        /// The key that tracker passkeys are made with; by default one is made and kept in STORAGE__BASE_PATH.
        secret: Option<SecretString> = "";
        /// Seconds between two announces of a peer.
        interval: Bounded<10, 86_400> = "900";
    }
}

section! {
    /// The client commands.
    Client "CLIENT__" {
        /// The server to talk to.
        server: Url = "http://127.0.0.1:8000";
        /// The bearer token to show it (without a name), or else:
        token: Option<SecretString> = "";
        /// The id of the key to sign requests with, if it has one.
        key_id: Option<String> = "";
        /// The secret of the key to sign requests with.
        key_secret: Option<SecretString> = "";
    }
}

/// The length from which a random token cannot be guessed, in characters.
const GOOD_TOKEN: usize = 16;

impl Security {
    /// Warns of tokens that can be guessed.
    pub(crate) fn warning(&self) -> Option<String> {
        use secrecy::ExposeSecret;
        let short = |token: &BearerToken| {
            let text = token.0.expose_secret();
            text.rsplit(':').next().unwrap_or(text).len() < GOOD_TOKEN
        };
        let warning =
            || format!("SECURITY__BEARER_TOKENS: a token has fewer than {GOOD_TOKEN} characters and can be guessed");
        self.bearer_tokens.iter().any(short).then(warning)
    }

    /// Refuses names and tokens that would stand for two things.
    pub(crate) fn refuse_contradictions(&self, refuse: &mut dyn FnMut(&str, &str)) {
        use secrecy::ExposeSecret;
        let mut keys = HashSet::new();
        if !self.hmac_keys.iter().all(|key| keys.insert(&key.name)) {
            refuse("SECURITY__HMAC_KEYS", "has a name twice: a name has one key");
        }
        let mut tokens = HashSet::new();
        let token = |token: &BearerToken| {
            let text = token.0.expose_secret();
            text.split_once(':').map_or(text, |(_, token)| token).to_owned()
        };
        if !self.bearer_tokens.iter().all(|known| tokens.insert(token(known))) {
            refuse("SECURITY__BEARER_TOKENS", "has a token twice: a token is one user's");
        }
        let header = self.token_header.to_ascii_lowercase();
        let is_token = !header.is_empty() && header.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let taken = ["content-type", "content-length", "host", "x-signature", "x-timestamp", "x-nonce", "x-key-id"];
        if !is_token || taken.contains(&header.as_str()) {
            refuse(
                "SECURITY__TOKEN_HEADER",
                "is no header that a token can stand in; allowed: Authorization, X-Api-Token and the like",
            );
        }
    }
}

impl Client {
    /// Reads `.env` in the working directory and the environment.
    pub fn load() -> Result<Self, Problems> {
        let mut source = Source::from_environment(None)?;
        let client = Self::read(&mut source);
        source.refuse_unknown_names();
        if let Some(client) = &client {
            if client.token.is_some() && client.key_secret.is_some() {
                source.refuse("CLIENT__TOKEN", "is set beside CLIENT__KEY_SECRET: give one of them");
            }
            if client.key_id.is_some() && client.key_secret.is_none() {
                source.refuse("CLIENT__KEY_ID", "names a key: set its CLIENT__KEY_SECRET, too");
            }
        }
        let (problems, _) = source.finish();
        match (client, problems) {
            (Some(client), None) => Ok(client),
            (_, problems) => Err(problems.unwrap_or_default()),
        }
    }
}

section! {
    /// Where things are kept.
    Storage "STORAGE__" {
        /// The kind of store.
        storage_type: StorageType = "filesystem";
        /// The folder of everything.
        base_path: PathBuf = "./data";
        /// Seconds for which a ready request is stored and seeded, if it names none; 0 is until it is cancelled.
        keep: Bounded<0, 3_000_000_000> = "2592000";
        /// Bytes that stay free on the disk: requests and fetches that would need them are refused (507, storage_full). By
        /// default 1 % of the disk, at most 512 MiB; 0 is no floor.
        min_free: Option<Bounded<0, { u64::MAX }>> = "";
        /// The most bytes of contents, those being fetched included; 0 is no limit. On one machine only.
        max_bytes: Bounded<0, { u64::MAX }> = "0";
        /// Bytes a second that are read to find contents that have decayed, which are fetched again; 0 reads none. On one
        /// machine only.
        scrub: Bounded<0, 1_000_000_000_000> = "4194304";
        /// The folder of contents; by default content in STORAGE__BASE_PATH.
        content_path: Option<PathBuf> = "";
        /// The folder of .torrent files; by default torrents in STORAGE__BASE_PATH.
        torrent_path: Option<PathBuf> = "";
        /// The folder of resume data; by default resume in STORAGE__BASE_PATH.
        resume_path: Option<PathBuf> = "";
    }
}

section! {
    /// The stores on AWS, for the functions and the seeder's container; each is given the names of what it may use.
    /// Endpoint, region and credentials are AWS's own variables, as AWS_ENDPOINT_URL and AWS_REGION.
    Aws "AWS__" {
        /// The DynamoDB table of requests.
        requests_table: Option<String> = "";
        /// The DynamoDB table of torrents.
        torrents_table: Option<String> = "";
        /// The DynamoDB table of contents.
        contents_table: Option<String> = "";
        /// The DynamoDB table of guards.
        guards_table: Option<String> = "";
        /// The DynamoDB table of peers.
        swarm_table: Option<String> = "";
        /// The S3 bucket of contents, torrents and resume data.
        bucket: Option<String> = "";
        /// The URL of the SQS queue of fetches.
        fetch_queue: Option<String> = "";
        /// The URL of the SQS queue of packaging.
        package_queue: Option<String> = "";
        /// The URL of the SQS queue of the seeder.
        seed_queue: Option<String> = "";
        /// Bytes of contents that are kept in memory.
        content_memory: Bounded<0, 1_000_000_000_000> = "134217728";
    }
}

section! {
    /// How long things are kept.
    Cache "CACHE__" {
        /// Whether identical requests reuse each other's content.
        cache_enabled: bool = "true";
        /// The ttl of requests that name none, in seconds: for how long after it is ready identical requests reuse the content.
        default_ttl: Bounded<1, 4_000_000_000> = "3600";
        /// The greatest ttl a request may have, in seconds.
        max_ttl: Bounded<1, 4_000_000_000> = "86400";
        /// For how many seconds a request can be looked at after its end; then its row is deleted.
        history: Bounded<86_400, 4_000_000_000> = "2592000";
        /// Accepted, and not needed.
        redis_url: Option<SecretString> = "";
    }
}

section! {
    /// How often one may ask.
    RateLimit "RATE_LIMIT__" {
        /// Whether there are limits.
        rate_limit_enabled: bool = "true";
        /// Requests a user may make in a minute.
        requests_per_minute: Bounded<1, 1_000_000_000> = "60";
        /// Requests a user may make in an hour.
        requests_per_hour: Bounded<1, 1_000_000_000> = "1000";
        /// Requests that may come from one address in a minute.
        requests_per_ip_minute: Bounded<1, 1_000_000_000> = "100";
        /// Wrong tokens and signatures from one address in a minute, and wrong passkeys, which are counted apart; then the
        /// API, or the tracker, refuses the address until the minute is over.
        failures_per_ip_minute: Bounded<1, 1_000_000_000> = "30";
        /// Announces and scrapes from one address in a minute.
        announces_per_ip_minute: Bounded<1, 1_000_000_000> = "1200";
        /// Calls of a user in a minute that create nothing.
        reads_per_minute: Bounded<1, 1_000_000_000> = "6000";
    }
}

section! {
    /// How much one may have; 0 is no limit.
    Limits "LIMITS__" {
        /// Requests of a user that may be queued or worked on at once.
        active_requests: Bounded<0, 1_000_000_000> = "0";
        /// Bytes of content that a user may keep; a request is refused once they are reached.
        stored_bytes: Bounded<0, { u64::MAX }> = "0";
    }
}

section! {
    /// The database.
    Database "DATABASE__" {
        /// The database, by default proxytorrent.db in STORAGE__BASE_PATH. A driver suffix (sqlite+aiosqlite) is ignored.
        database_url: Option<SecretString> = "";
        /// Log every SQL statement.
        echo_sql: bool = "false";
    }
}

section! {
    /// Logs and metrics.
    Monitoring "MONITORING__" {
        /// How much is logged.
        log_level: LogLevel = "INFO";
        /// Whether logs are JSON.
        json_logs: bool = "true", "false";
        /// Accepted; secrets are masked always.
        mask_sensitive: bool = "true";
        /// Whether every HTTP call is logged at INFO: method, route, status, duration, request id, user, client.
        access_log: bool = "true";
        /// Whether metrics are served.
        metrics_enabled: bool = "true";
    }
}

/// A piece length that BEP 52 allows and clients take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceLength(u32);

impl PieceLength {
    /// Bytes.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Value for PieceLength {
    fn allowed() -> String {
        "a power of two from 16384 to 16777216".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let bytes: u32 = text.parse().map_err(|_| format!("'{text}' is not a whole number"))?;
        if bytes.is_power_of_two() && (1 << 14..=1 << 24).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(format!("{bytes} is not a piece length"))
        }
    }
}

impl Torrent {
    /// Whether torrents name this program and the time of their creation.
    pub fn names_program(&self) -> bool {
        self.creation_info.unwrap_or(!self.private_tracker)
    }

    /// Whether peers encrypt.
    pub fn encryption(&self) -> Encryption {
        let default = if self.encryption_enabled { Encryption::Forced } else { Encryption::Preferred };
        self.encryption.unwrap_or(default)
    }
}

impl Storage {
    /// The folder of contents.
    pub fn contents(&self) -> PathBuf {
        self.content_path.clone().unwrap_or_else(|| self.base_path.join("content"))
    }

    /// The folder of `.torrent` files.
    pub fn torrents(&self) -> PathBuf {
        self.torrent_path.clone().unwrap_or_else(|| self.base_path.join("torrents"))
    }

    /// The folder of resume data.
    pub fn resume(&self) -> PathBuf {
        self.resume_path.clone().unwrap_or_else(|| self.base_path.join("resume"))
    }
}

impl Database {
    /// The database file of a `sqlite:` URL (`sqlite:///relative`, `sqlite:////absolute`, as `SQLAlchemy`
    /// writes it), or the default one.
    pub fn sqlite_path(&self, storage: &Storage) -> Result<PathBuf, String> {
        use secrecy::ExposeSecret;
        let Some(url) = &self.database_url else { return Ok(storage.base_path.join("proxytorrent.db")) };
        // Not quoted in errors: such URLs hold passwords.
        let (scheme, rest) = url.expose_secret().split_once("://").ok_or("is not a URL; allowed: sqlite:///path")?;
        if scheme.split('+').next() != Some("sqlite") {
            return Err(
                "names a database other than SQLite, which is not supported yet; allowed: sqlite:///path".into()
            );
        }
        let path = rest.strip_prefix('/').filter(|path| !path.is_empty());
        let path = path.ok_or("names no file; allowed: sqlite:///path")?;
        // The original's default, written out in many an .env: it follows the base path as the default does.
        if path == "./data/proxytorrent.db" {
            return Ok(storage.base_path.join("proxytorrent.db"));
        }
        Ok(Path::new(path).into())
    }
}

impl Fetcher {
    /// How long to wait for a connection.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout.get())
    }

    /// How long to wait for the next byte.
    pub fn read_timeout(&self) -> Duration {
        Duration::from_secs(self.read_timeout.get())
    }
}
