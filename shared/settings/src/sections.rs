//! The table of settings: each field is one variable, with its documentation and default.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use domain::TorrentFormat;
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use crate::choices::{Encryption, Profile, ProxyResolve, ProxyType, SaltScope, StorageType};
use crate::proxy_address::ProxyAddress;
use crate::source::Source;
use crate::value::{
    BearerToken, Bounded, HostName, InterfaceName, List, LogLevel, NamedSecret, PieceLength, PowerOfTwo,
};

/// Defines a section: the struct, its reader and its printed reference come from the same lines. Syntax of a field:
/// `= default` for both profiles, or `= default, default in development`.
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
                // After all fields are read, so that all problems are reported at once.
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
}

mod receivers;
mod url_folder;

pub use receivers::{DownloadClient, Notify};
pub use url_folder::UrlFolder;

section! {
    /// The API server.
    Server "" {
        /// The set of defaults. development turns authentication and the proxy off and allows loopback addresses
        /// only.
        profile: Profile = "production";
        /// The name of the service in responses, in the API documentation, and in torrents that name their creator.
        app_name: String = "ProxyTorrent";
        /// The version of the service in the same places. By default the version of this program.
        app_version: String = env!("CARGO_PKG_VERSION");
        /// Whether the log level is DEBUG, whatever MONITORING__LOG_LEVEL is.
        debug: bool = "false";
        /// The prefix of the API's paths; / is no prefix.
        api_prefix: String = "/v1";
        /// The IP address that the API listens on. The unspecified addresses 0.0.0.0 and :: need PUBLIC_URL.
        host: IpAddr = "127.0.0.1";
        /// The port that the API listens on; 0 chooses a free one.
        port: u16 = "8000";
        /// The URL under which clients reach the API, the base of tracker and webseed URLs. By default
        /// http://HOST:PORT.
        public_url: Option<Url> = "";
        /// Timeout in seconds for clients: to send the headers of an HTTP request, to send its body, and to receive
        /// the next bytes of a response.
        client_timeout: Bounded<1, 3600> = "30";
        /// The most open connections to each HTTP server. One client may have a quarter of them, except reverse proxies
        /// in SECURITY__TRUSTED_PROXIES. More connections are closed.
        max_http_connections: Bounded<4, 1_000_000> = "8192";
        /// Origins (https://app.example.org) whose web pages may use the API (CORS); * allows every origin. Empty
        /// allows none.
        cors_origins: List<String> = "";
        /// How many seconds a shutdown waits for running work to finish. Unfinished work resumes at the next start.
        /// 0 does not wait.
        shutdown_grace: Bounded<0, 600> = "10", "2";
    }
}

section! {
    /// Authentication of callers, and webhook signatures.
    Security "SECURITY__" {
        /// Whether callers must authenticate, by bearer token or request signature. If not, all callers are one
        /// anonymous user.
        auth_enabled: bool = "true", "false";
        /// The secret of HMAC-SHA256 request signatures without X-Key-Id, whose user is hmac. Empty allows no such
        /// signatures.
        hmac_secret: Option<SecretString> = "";
        /// Secrets of HMAC-SHA256 request signatures, as id:secret. The id is the name of the user; callers send it
        /// as X-Key-Id.
        hmac_keys: List<NamedSecret> = "";
        /// Whether to accept an X-Signature over the body alone, as the original did. Such a signature can be
        /// replayed. Needs SECURITY__HMAC_SECRET.
        legacy_hmac: bool = "false";
        /// Bearer tokens (RFC 6750), as name:token, as name:sha256:digest (the SHA-256 of the token), or as the token
        /// alone. Each name is a user, and so is each token without a name. A token must have at least 5 characters;
        /// with fewer than 16 it can be guessed.
        bearer_tokens: List<BearerToken> = "";
        /// IP addresses and networks of reverse proxies whose X-Forwarded-For header is trusted. Empty ignores the
        /// header.
        trusted_proxies: List<IpNet> = "";
        /// The key that signs webhooks (Standard Webhooks): whsec_ followed by base64. Empty turns webhooks off.
        webhook_secret: Option<SecretString> = "";
        /// The header that holds the bearer token. In a header other than Authorization, the token may stand without
        /// Bearer.
        token_header: String = "Authorization";
        /// The header in which the reverse proxies of SECURITY__TRUSTED_PROXIES name the user that they have
        /// authenticated, such as Remote-User. They must remove it from the calls of clients. Empty: none.
        user_header: Option<String> = "";
        /// The issuer of JSON Web Tokens that are accepted as bearer tokens: an OpenID provider, such as
        /// https://auth.example.org/realms/main. Its keys are found by OpenID Connect Discovery. Needs
        /// SECURITY__JWT_AUDIENCE. Empty: none. Not available on AWS.
        jwt_issuer: Option<Url> = "";
        /// The audience that these tokens must be for (their claim aud).
        jwt_audience: Option<String> = "";
        /// The claim of these tokens that is the name of the user. Users must not be able to choose it: only sub is
        /// stable and unique by the standard.
        jwt_user_claim: String = "sub";
        /// Whether the issuer is connected to directly, at any address: for one on your own network. If not, it is
        /// connected to as origins are, through the proxy and at a public address, and its URL must be https.
        jwt_direct: bool = "false";
    }
}

section! {
    /// The proxies that content is fetched through.
    Proxy "PROXY__" {
        /// Whether to fetch only through a proxy, never directly. If not, every origin sees this machine's address.
        proxy_enabled: bool = "true", "false";
        /// The protocol of PROXY__PROXY_HOST: socks5, http (with CONNECT for https URLs), or https.
        proxy_type: ProxyType = "socks5";
        /// The host name or IP address of the proxy. Empty: PROXY__URLS lists the proxies.
        proxy_host: Option<String> = "";
        /// The port of the proxy; required with PROXY__PROXY_HOST.
        proxy_port: Option<u16> = "";
        /// The user name for the proxy. Empty: no authentication.
        proxy_username: Option<String> = "";
        /// The password for the proxy; needs PROXY__PROXY_USERNAME.
        proxy_password: Option<SecretString> = "";
        /// Several proxies in place of PROXY__PROXY_HOST, as URLs (socks5://user:password@host:port) with
        /// percent-encoded credentials. The first one that works is used. One that fails is skipped for a cool-down,
        /// and the next one is tried (failover).
        urls: List<ProxyAddress> = "";
        /// Whether each request sends a separate, random user name to the SOCKS5 proxy, so that Tor uses a separate
        /// circuit for it. Only with SOCKS5 proxies without a user name.
        isolate: bool = "false";
        /// Where host names are resolved. remote: at the proxy; no DNS query leaves this machine, but only IP
        /// addresses in URLs can be checked here. local (SOCKS5 only): on this machine; every address is checked, and
        /// the DNS resolver sees the queries.
        resolve: ProxyResolve = "remote";
    }
}

section! {
    /// The limits and rules of fetches.
    Fetcher "FETCHER__" {
        /// Timeout in seconds to connect to an origin or proxy.
        connect_timeout: Bounded<1, 300> = "10";
        /// Timeout in seconds to wait for the next byte of a response.
        read_timeout: Bounded<1, 600> = "30";
        /// The minimum transfer rate in bytes per second, as an average over 20 seconds; a slower fetch fails. 0 is
        /// no minimum.
        min_rate: Bounded<0, 1_000_000_000> = "1000";
        /// The largest content in bytes, after decompression; a fetch of more fails.
        max_size: Bounded<1, { u64::MAX }> = "52428800";
        /// Whether TLS certificates must be valid. Turn it off in tests only.
        verify_ssl: bool = "true";
        /// The User-Agent sent to origins. The default is that of curl, whose other headers are sent as well.
        user_agent: String = "curl/7.88.1";
        /// The media types (MIME) that may be fetched; a * at the end matches anything. A fetch of any other type
        /// fails.
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
        /// How often a fetch is retried after a temporary error of the origin or proxy, with exponential back-off; 0
        /// turns retries off.
        max_retries: Bounded<0, 20> = "3";
        /// How many redirects are followed; a fetch with more fails. 0 follows none.
        max_redirects: Bounded<0, 20> = "5";
        /// The most fetches at once; further ones wait in the queue. Not used on AWS.
        max_concurrent: Bounded<1, 100_000> = "1000";
        /// The most fetches of one user at once; users are served in turn. By default half of
        /// FETCHER__MAX_CONCURRENT. Not used on AWS.
        max_per_user: Option<Bounded<1, 100_000>> = "";
        /// The most fetches of one user from one host at once. Not used on AWS.
        max_per_host: Bounded<1, 100_000> = "32";
        /// The only ports that may be fetched from. Empty allows every port except those of other protocols, such as
        /// 25 (SMTP).
        allowed_ports: List<Bounded<1, 65_535>> = "";
        /// Whether requests may contain Authorization and Cookie headers, and URLs with a user name and password.
        /// They are stored in the database as long as the request.
        allow_credential_headers: bool = "false";
        /// IP addresses and networks that may be fetched from although they are not public. Empty allows public
        /// addresses only.
        allow_networks: List<IpNet> = "";
        /// Host names and IP addresses that are never fetched from, with their subdomains. Empty blocks none.
        blocked_hosts: List<HostName> = "";
        /// The only host names and IP addresses that may be fetched from, with their subdomains. Empty allows every
        /// host.
        allowed_hosts: List<HostName> = "";
    }
}

section! {
    /// The torrents, and the limits of peer connections.
    Torrent "TORRENT__" {
        /// Whether torrents are private (BEP 27): clients find peers through the tracker only.
        private_tracker: bool = "true";
        /// A secret of 16 characters or more that makes the infohashes of private torrents unpredictable. Without it,
        /// anyone who has a file can compute its infohash and ask the seeder whether it was fetched here. Existing
        /// torrents keep their infohashes.
        salt: Option<SecretString> = "";
        /// Which torrents share TORRENT__SALT. deployment: equal contents of all users are one torrent. owner: each
        /// user has separate torrents, so that users cannot discover those of others.
        salt_scope: SaltScope = "deployment";
        /// Whether torrents name this program and their creation time. By default public torrents do, and private
        /// ones do not.
        creation_info: Option<bool> = "";
        /// The default format of torrents: v1, which every client can read, or hybrid, which is v1 and v2 in one
        /// (BEP 52).
        format: TorrentFormat = "v1";
        /// The piece length in bytes, a power of two from 16384 to 16777216. By default chosen by the size of the
        /// content.
        piece_size: Option<PieceLength> = "";
        /// The URL of an additional tracker. Empty: the built-in tracker only.
        announce_url: Option<Url> = "";
        /// Whether torrents list this service as a webseed (BEP 19): anyone who has the torrent can download the
        /// content from PUBLIC_URL, until the request ends. By default they do, unless the encryption of peer
        /// connections is forced and the URL is not https: then the content would pass unencrypted. On AWS it needs
        /// TORRENT__WEBSEED_URL.
        webseed: Option<bool> = "";
        /// The base URL of webseeds in place of PUBLIC_URL, such as that of a CDN in front of it. It must pass
        /// /webseed/… on to this service, or on AWS to SEEDER__WEBSEED.
        webseed_url: Option<Url> = "";
        /// The encryption of peer connections to the seeder (RC4): forced, preferred or off. By default forced, or
        /// preferred with TORRENT__ENCRYPTION_ENABLED=false.
        encryption: Option<Encryption> = "";
        /// Whether the encryption of peer connections is forced; if not, it is preferred. TORRENT__ENCRYPTION
        /// overrides this.
        encryption_enabled: bool = "true";
        /// The upload rate limit of the seeder in bytes per second; 0 is no limit.
        upload_rate_limit: Bounded<0, 2_147_483_647> = "0";
        /// The download rate limit of the seeder in bytes per second; 0 is no limit.
        download_rate_limit: Bounded<0, 2_147_483_647> = "0";
        /// The most peer connections at once, divided between the sessions (SEEDER__SESSIONS). One IP address, or one
        /// IPv6 /64, may have an eighth of those of a session, or 16 if that is more, but at most a quarter. Each
        /// connection needs an open file.
        max_connections: Bounded<1, 1_000_000> = "2000";
    }
}

section! {
    /// The seeder.
    Seeder "SEEDER__" {
        /// The IP addresses and ports that the seeder listens on for peers; port 0 chooses a free one.
        listen: List<SocketAddr> = "127.0.0.1:6881";
        /// The addresses under which peers reach the seeder, if they differ from SEEDER__LISTEN; port 0 is the port
        /// that it listens on.
        public_address: List<SocketAddr> = "";
        /// The network interface that the seeder and all fetches are bound to, such as tun0. While it is down, nothing is
        /// sent through another one. Needs the unspecified address 0.0.0.0 or :: in SEEDER__LISTEN.
        interface: Option<InterfaceName> = "";
        /// A SOCKS5 proxy through which the seeder connects to peers, as socks5://user:password@host:1080. Peers see its
        /// address only, and cannot connect to the seeder: it connects to those that announce themselves as downloading.
        /// Without the proxy no peer is connected.
        proxy: Option<ProxyAddress> = "";
        /// A file with the port to listen on, which overrides the ports of SEEDER__LISTEN and SEEDER__PUBLIC_ADDRESS. It
        /// is watched: the seeder follows the port that a VPN forwards, as gluetun writes it. Until the file exists, the
        /// configured ports are used.
        port_file: Option<PathBuf> = "";
        /// A file with the public IP address of the seeder, which overrides that in SEEDER__PUBLIC_ADDRESS. It is watched:
        /// peers are sent to the present address of a VPN, as gluetun writes it. Until the file exists, the configured
        /// addresses are used.
        public_ip_file: Option<PathBuf> = "";
        /// The address of the seeder's own HTTP server: /health, /metrics, and PUT /listen-port from this machine. Empty
        /// starts none.
        http: Option<SocketAddr> = "";
        /// The libtorrent sessions of the seeder, which share the torrents. A session uses about one core, and encrypts about
        /// 350 MB/s with it. Each has ports of its own: the settings name those of the first session, and each further
        /// one has the next ports. A torrent with much traffic is in all sessions.
        sessions: Bounded<1, 64> = "1";
        /// The address at which the seeder serves webseeds, apart from SEEDER__HTTP, since strangers may reach it.
        /// TORRENT__WEBSEED_URL must lead to it. Empty serves none. Used on AWS; otherwise the API serves them.
        webseed: Option<SocketAddr> = "";
        /// Whether peers may connect by µTP (UDP) in addition to TCP.
        utp: bool = "true";
        /// Whether the seeder connects to peers that announce a download, at the address that the announce came from.
        /// If not, clients that try plaintext first start a minute later while encryption is forced.
        connect_to_peers: bool = "true";
        /// Seconds between two saves of how much was uploaded; a crash loses what was uploaded since.
        save_interval: Bounded<1, 86_400> = "300";
        /// By how many seeders each torrent is seeded. Used with PostgreSQL and on AWS, where seeders share the torrents.
        replicas: Bounded<1, 100> = "2";
        /// The share of the torrents that this seeder takes, relative to the weights of the other seeders. Used with
        /// PostgreSQL and on AWS.
        weight: Bounded<1, 1000> = "1";
        /// The bytes of contents that the seeder keeps in memory. Used on AWS; a seeder with a folder relies on the
        /// system's cache.
        cache_memory: Bounded<67_108_864, 1_000_000_000_000> = "134217728";
        /// The bytes of contents that the seeder keeps on disk, at least 268435456; 0 keeps none. Used on AWS.
        cache_disk: Bounded<0, 1_000_000_000_000_000> = "4294967296";
        /// The folder of these contents. No other process may use it.
        cache_folder: PathBuf = "./cache";
        /// The bytes that the seeder reads at once; more if the pieces of a torrent are larger. Used on AWS.
        cache_chunk: PowerOfTwo<1_048_576, 4_194_304> = "4194304";
    }
}

section! {
    /// The built-in tracker.
    Tracker "TRACKER__" {
        /// The secret that tracker passkeys and webseed keys derive from, 16 characters or more. By default generated
        /// and stored in STORAGE__BASE_PATH, or in PostgreSQL.
        secret: Option<SecretString> = "";
        /// Seconds between two announces of a peer.
        interval: Bounded<10, 86_400> = "900";
    }
}

section! {
    /// The client commands.
    Client "CLIENT__" {
        /// The URL of the server.
        server: Url = "http://127.0.0.1:8000";
        /// The prefix of the API's paths: API_PREFIX of the server; / is no prefix.
        api_prefix: String = "/v1";
        /// The bearer token (without a name). Use either a token, or a key to sign with.
        token: Option<SecretString> = "";
        /// The id of the key that signs calls (X-Key-Id). Empty: a key without an id.
        key_id: Option<String> = "";
        /// The secret of the key that signs calls.
        key_secret: Option<SecretString> = "";
    }
}

section! {
    /// Storage and retention.
    Storage "STORAGE__" {
        /// The kind of content store; there is only filesystem.
        storage_type: StorageType = "filesystem";
        /// The folder of the database, contents and torrents.
        base_path: PathBuf = "./data";
        /// The default retention in seconds: how long a ready request is stored and seeded. 0 keeps it until it is
        /// cancelled.
        keep: Bounded<0, 3_000_000_000> = "2592000";
        /// Bytes of disk space that must stay free; requests and fetches that need them are refused (507,
        /// storage_full). By default 1 % of the disk, at most 512 MiB; 0 reserves nothing. Not used on AWS.
        min_free: Option<Bounded<0, { u64::MAX }>> = "";
        /// The most bytes of contents, including those that are being fetched; 0 is no limit. Not used on AWS.
        max_bytes: Bounded<0, { u64::MAX }> = "0";
        /// The rate of the scrub in bytes per second. It reads all contents, detects damaged ones, and fetches them
        /// again. 0 checks a content only when a read of it fails. Not used on AWS.
        scrub: Bounded<0, 1_000_000_000_000> = "4194304";
        /// The folder of contents. By default content in STORAGE__BASE_PATH.
        content_path: Option<PathBuf> = "";
        /// The folder of .torrent files. By default torrents in STORAGE__BASE_PATH. Not used with PostgreSQL, which
        /// has them.
        torrent_path: Option<PathBuf> = "";
        /// No effect: the seeder has no resume data any more. Accepted for existing configurations.
        resume_path: Option<PathBuf> = "";
    }
}

section! {
    /// The resources on AWS, for the functions and the seeder's container; each one gets only the names of those it
    /// may use. Endpoint, region and credentials come from AWS's own variables, such as AWS_ENDPOINT_URL and
    /// AWS_REGION.
    Aws "AWS__" {
        /// The name of the DynamoDB table of requests.
        requests_table: Option<String> = "";
        /// The name of the DynamoDB table of torrents.
        torrents_table: Option<String> = "";
        /// The name of the DynamoDB table of contents.
        contents_table: Option<String> = "";
        /// The name of the DynamoDB table of rate limits, nonces, idempotency keys and locks.
        guards_table: Option<String> = "";
        /// The name of the DynamoDB table of the tracker's peers.
        swarm_table: Option<String> = "";
        /// The name of the S3 bucket of contents and torrents.
        bucket: Option<String> = "";
        /// The URL of the SQS queue of fetch tasks.
        fetch_queue: Option<String> = "";
        /// The URL of the SQS queue of packaging tasks.
        package_queue: Option<String> = "";
        /// The URL of the SQS queue of seeder tasks.
        seed_queue: Option<String> = "";
        /// The CloudWatch namespace of the metrics, which are then written to standard output in the embedded metric
        /// format. Empty: none are written, and the seeder serves them at /metrics.
        metrics_namespace: Option<String> = "";
        /// The size of the in-memory cache of contents of a function, in bytes; 0 caches nothing. The seeder has
        /// SEEDER__CACHE_MEMORY.
        content_memory: Bounded<0, 1_000_000_000_000> = "134217728";
    }
}

section! {
    /// Amazon ECS, which sets this variable.
    Ecs "ECS_CONTAINER_METADATA_URI_" {
        /// The metadata endpoint of the container. The seeder finds its public address with it if SEEDER__LISTEN is an
        /// unspecified address and SEEDER__PUBLIC_ADDRESS is empty.
        v4: Option<Url> = "";
    }
}

section! {
    /// The reuse of content, and the history of requests.
    Cache "CACHE__" {
        /// Whether identical requests reuse each other's content.
        cache_enabled: bool = "true";
        /// The default ttl in seconds: how long after it is ready identical requests may reuse the content of a
        /// request.
        default_ttl: Bounded<1, 4_000_000_000> = "3600";
        /// The largest ttl that a request may have, in seconds.
        max_ttl: Bounded<1, 4_000_000_000> = "86400";
        /// How many seconds an ended request can still be read; then its row is deleted.
        history: Bounded<86_400, 4_000_000_000> = "2592000";
        /// No effect: no Redis is needed. Accepted for existing configurations.
        redis_url: Option<SecretString> = "";
    }
}

section! {
    /// Rate limits.
    RateLimit "RATE_LIMIT__" {
        /// Whether rate limits are on.
        rate_limit_enabled: bool = "true";
        /// The most requests that a user may create per minute.
        requests_per_minute: Bounded<1, 1_000_000_000> = "60";
        /// The most requests that a user may create per hour.
        requests_per_hour: Bounded<1, 1_000_000_000> = "1000";
        /// The most requests that may be created per minute from one IP address, or one IPv6 /64.
        requests_per_ip_minute: Bounded<1, 1_000_000_000> = "100";
        /// The most failed authentications (wrong tokens and signatures) per minute from one IP address, or one IPv6
        /// /64; then the API refuses the address until the minute is over. Wrong tracker passkeys are counted
        /// separately, and the tracker refuses the address.
        failures_per_ip_minute: Bounded<1, 1_000_000_000> = "30";
        /// The most announces and scrapes per minute from one IP address, or one IPv6 /64.
        announces_per_ip_minute: Bounded<1, 1_000_000_000> = "1200";
        /// The most API calls of a user per minute that create no request.
        reads_per_minute: Bounded<1, 1_000_000_000> = "6000";
    }
}

section! {
    /// Quotas per user; 0 is no limit.
    Limits "LIMITS__" {
        /// The most requests of a user that may be queued or in progress at once; 0 is no limit.
        active_requests: Bounded<0, 1_000_000_000> = "0";
        /// The most bytes of content that a user may store. Further requests are refused once it is reached. 0 is no
        /// limit.
        stored_bytes: Bounded<0, { u64::MAX }> = "0";
    }
}

section! {
    /// The database.
    Database "DATABASE__" {
        /// The URL of the database: sqlite:///path, or postgresql://user:password@host/database, which several
        /// instances may share. By default the SQLite database proxytorrent.db in STORAGE__BASE_PATH. A driver in the
        /// scheme (sqlite+aiosqlite, postgresql+asyncpg) has no effect.
        database_url: Option<SecretString> = "";
        /// The most connections of an instance to PostgreSQL.
        max_connections: Bounded<3, 1_000> = "16";
        /// Whether every SQL statement is logged.
        echo_sql: bool = "false";
    }
}

section! {
    /// Logs and metrics.
    Monitoring "MONITORING__" {
        /// The log level: events of this level and above are logged.
        log_level: LogLevel = "INFO";
        /// Whether log lines are JSON; if not, they are plain text.
        json_logs: bool = "true", "false";
        /// No effect: secrets are always masked. Accepted for existing configurations.
        mask_sensitive: bool = "true";
        /// Whether every HTTP call is logged at INFO: method, route, status, duration, id, user, and client address.
        access_log: bool = "true";
        /// Whether Prometheus metrics are served at /metrics.
        metrics_enabled: bool = "true";
    }
}
