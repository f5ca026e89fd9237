//! What the settings of a section mean together: derived values, and contradictions.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use domain::{Receiver, Receivers};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::choices::{Encryption, ProxyType};
use crate::sections::{Database, DownloadClient, Fetcher, Notify, Security, Seeder, Storage, Torrent};
use crate::value::BearerToken;
use crate::{Role, Settings};

/// Headers that have another meaning in calls.
const RESERVED_HEADERS: [&str; 7] =
    ["content-type", "content-length", "host", "x-signature", "x-timestamp", "x-nonce", "x-key-id"];

/// Whether this is a usual name of a header, in lower case.
fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// The shortest random token that counts as unguessable, in characters.
const GOOD_TOKEN: usize = 16;

impl Security {
    /// Returns a warning if a token is so short that it can be guessed.
    pub(crate) fn warning(&self) -> Option<String> {
        let short = |token: &BearerToken| {
            let text = token.0.expose_secret();
            text.split_once(':').map_or(text, |(_, token)| token).len() < GOOD_TOKEN
        };
        let warning =
            || format!("SECURITY__BEARER_TOKENS: a token has fewer than {GOOD_TOKEN} characters and can be guessed");
        self.bearer_tokens.iter().any(short).then(warning)
    }

    /// Reports keys and tokens that are ambiguous, and an unusable token header.
    pub(crate) fn refuse_contradictions(&self, refuse: &mut dyn FnMut(&str, &str)) {
        let mut keys = HashSet::new();
        if !self.hmac_keys.iter().all(|key| keys.insert(&key.name)) {
            refuse("SECURITY__HMAC_KEYS", "has the same id twice: each id must have one key");
        }
        let mut tokens = HashSet::new();
        let token = |token: &BearerToken| {
            let text = token.0.expose_secret();
            text.split_once(':').map_or(text, |(_, token)| token).to_owned()
        };
        if !self.bearer_tokens.iter().all(|known| tokens.insert(token(known))) {
            refuse("SECURITY__BEARER_TOKENS", "has the same token twice: each token must belong to one user");
        }
        let header = self.token_header.to_ascii_lowercase();
        if !is_header_name(&header) || RESERVED_HEADERS.contains(&header.as_str()) {
            refuse(
                "SECURITY__TOKEN_HEADER",
                "is not a header that can hold the token; allowed: Authorization, X-Api-Token and similar names",
            );
        }
        if let Some(user_header) = &self.user_header {
            self.refuse_user_header(&user_header.to_ascii_lowercase(), refuse);
        }
        self.refuse_jwt_settings(refuse);
    }

    /// Reports settings of JSON Web Tokens that contradict each other.
    fn refuse_jwt_settings(&self, refuse: &mut dyn FnMut(&str, &str)) {
        match (&self.jwt_issuer, &self.jwt_audience) {
            (Some(_), None) => refuse(
                "SECURITY__JWT_AUDIENCE",
                "must be set with SECURITY__JWT_ISSUER: otherwise a token for any other service would be accepted",
            ),
            (None, Some(_)) => refuse("SECURITY__JWT_ISSUER", "must be set with SECURITY__JWT_AUDIENCE"),
            _ => {}
        }
        let Some(issuer) = &self.jwt_issuer else { return };
        if issuer.scheme() != "https" && !self.jwt_direct {
            refuse(
                "SECURITY__JWT_ISSUER",
                "is not https: anybody on the path could replace the keys; allowed: https, or http with \
                 SECURITY__JWT_DIRECT=true",
            );
        }
        let has_user = !issuer.username().is_empty() || issuer.password().is_some();
        if has_user || issuer.query().is_some() || issuer.fragment().is_some() {
            refuse("SECURITY__JWT_ISSUER", "must have no user name, password, query or fragment");
        }
        if !self.auth_enabled {
            refuse(
                "SECURITY__JWT_ISSUER",
                "has no effect while authentication is off: set SECURITY__AUTH_ENABLED=true",
            );
        }
    }

    /// Reports a header of the user that cannot work.
    fn refuse_user_header(&self, header: &str, refuse: &mut dyn FnMut(&str, &str)) {
        let mut refuse = |problem: &str| refuse("SECURITY__USER_HEADER", problem);
        if !is_header_name(header)
            || RESERVED_HEADERS.contains(&header)
            || *header == self.token_header.to_ascii_lowercase()
        {
            refuse("is not a header that can hold the user; allowed: Remote-User, X-Forwarded-User and similar names");
        }
        if self.trusted_proxies.is_empty() {
            refuse("needs the addresses of the reverse proxies that send it: set SECURITY__TRUSTED_PROXIES");
        }
        if !self.auth_enabled {
            refuse("has no effect while authentication is off: set SECURITY__AUTH_ENABLED=true");
        }
    }
}

impl Torrent {
    /// Whether torrents name this program and their creation time.
    pub fn names_program(&self) -> bool {
        self.creation_info.unwrap_or(!self.private_tracker)
    }

    /// Returns the base URL of webseeds; `None` if torrents name none. `public_url` is the URL of the API, if it serves
    /// webseeds.
    pub fn webseed_base<'a>(&'a self, public_url: Option<&'a Url>) -> Option<&'a Url> {
        let base = self.webseed_url.as_ref().or(public_url)?;
        let is_private = || self.encryption() != Encryption::Forced || base.scheme() == "https";
        self.webseed.unwrap_or_else(is_private).then_some(base)
    }

    /// Returns the encryption of peer connections.
    pub fn encryption(&self) -> Encryption {
        let default = if self.encryption_enabled { Encryption::Forced } else { Encryption::Preferred };
        self.encryption.unwrap_or(default)
    }
}

impl Seeder {
    /// Whether the address at which peers reach the seeder must be found: it listens on an unspecified one, and none is
    /// configured.
    pub fn has_no_public_address(&self) -> bool {
        self.public_address.is_empty()
            && self.public_ip_file.is_none()
            && self.proxy.is_none()
            && self.listen.iter().any(|address| address.ip().is_unspecified())
    }

    /// Refuses what contradicts the number of sessions, or a proxy for peers.
    pub(crate) fn refuse_contradictions(&self, refuse: &mut impl FnMut(&str, &str)) {
        self.refuse_ports(refuse);
        let Some(proxy) = &self.proxy else { return };
        if proxy.kind != ProxyType::Socks5 {
            refuse("SEEDER__PROXY", "is no SOCKS5 proxy; allowed: socks5://user:password@host:1080");
        }
        if !self.connect_to_peers {
            refuse(
                "SEEDER__CONNECT_TO_PEERS",
                "must be true with SEEDER__PROXY, since no peer can connect to the seeder",
            );
        }
        for (name, is_set) in [
            ("SEEDER__INTERFACE", self.interface.is_some()),
            ("SEEDER__PORT_FILE", self.port_file.is_some()),
            ("SEEDER__PUBLIC_ADDRESS", !self.public_address.is_empty()),
            ("SEEDER__PUBLIC_IP_FILE", self.public_ip_file.is_some()),
        ] {
            if is_set {
                refuse(name, "must be empty with SEEDER__PROXY, since no peer can connect to the seeder");
            }
        }
    }

    /// Returns the addresses that the session with this number has, from those of the first one: each has the next port.
    pub fn of_session(&self, first: &[SocketAddr], number: usize) -> Vec<SocketAddr> {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        // Port 0 chooses a free one. The settings are refused if there are not enough ports.
        let port = |port: u16| if port == 0 { 0 } else { port.saturating_add(number) };
        first.iter().map(|address| SocketAddr::new(address.ip(), port(address.port()))).collect()
    }

    /// Refuses ports that do not suffice for all sessions.
    fn refuse_ports(&self, refuse: &mut impl FnMut(&str, &str)) {
        let last = u32::try_from(self.sessions.get() - 1).unwrap_or(u32::MAX);
        if last > 0 && self.port_file.is_some() {
            refuse("SEEDER__PORT_FILE", "names one port: SEEDER__SESSIONS must be 1");
        }
        for (name, addresses) in [("SEEDER__LISTEN", &self.listen), ("SEEDER__PUBLIC_ADDRESS", &self.public_address)] {
            let ports = |address: &SocketAddr| (u32::from(address.port()), u32::from(address.port()) + last);
            if addresses.iter().any(|address| ports(address).1 > u32::from(u16::MAX)) {
                refuse(name, "each session (SEEDER__SESSIONS) has the next port, and there is none after 65535");
            }
            let overlap = |one: &SocketAddr, other: &SocketAddr| {
                let ((first, _), (second, end)) = (ports(one), ports(other));
                one.ip() == other.ip() && first != 0 && second < first && first <= end
            };
            if addresses.iter().any(|one| addresses.iter().any(|other| overlap(one, other))) {
                refuse(name, "two addresses have ports in common: each session (SEEDER__SESSIONS) has the next port");
            }
        }
    }
}

impl Notify {
    /// Reports a service without a URL, and the reverse. On AWS only the function that sends messages has the URL,
    /// which is in the secret whether there is a service or not.
    pub(crate) fn refuse_contradictions(&self, role: Role, refuse: &mut impl FnMut(&str, &str)) {
        match (&self.service, &self.url) {
            (Some(_), None) if matches!(role, Role::AllInOne | Role::Fetcher) => {
                refuse("NOTIFY__URL", "must be set with NOTIFY__SERVICE: the URL of the service");
            }
            (None, Some(_)) if role == Role::AllInOne => {
                refuse("NOTIFY__SERVICE", "must be set with NOTIFY__URL: ntfy, gotify, discord or apprise");
            }
            _ => {}
        }
    }
}

impl DownloadClient {
    /// Reports a program without a URL, and the reverse.
    pub(crate) fn refuse_contradictions(&self, refuse: &mut impl FnMut(&str, &str)) {
        match (&self.program, &self.url) {
            (Some(_), None) => refuse(
                "DOWNLOAD_CLIENT__URL",
                "must be set with DOWNLOAD_CLIENT__PROGRAM: the URL of the client's web interface",
            ),
            (None, Some(_)) => refuse(
                "DOWNLOAD_CLIENT__PROGRAM",
                "must be set with DOWNLOAD_CLIENT__URL: qbittorrent, transmission or rqbit",
            ),
            _ => {}
        }
    }
}

impl Settings {
    /// Returns the receivers of the operator: those of every request.
    pub fn receivers(&self) -> Receivers {
        [
            (Receiver::Service, self.notify.service.is_some()),
            (Receiver::Client, self.download_client.program.is_some()),
            (Receiver::Folder, self.download_client.folder.is_some()),
        ]
        .into_iter()
        .filter_map(|(receiver, is_set)| is_set.then_some(receiver))
        .collect()
    }
}

impl Storage {
    /// Returns the folder of contents.
    pub fn contents(&self) -> PathBuf {
        self.content_path.clone().unwrap_or_else(|| self.base_path.join("content"))
    }

    /// Returns the folder of `.torrent` files.
    pub fn torrents(&self) -> PathBuf {
        self.torrent_path.clone().unwrap_or_else(|| self.base_path.join("torrents"))
    }
}

/// Where the database is.
#[derive(Debug, Clone)]
pub enum DatabaseLocation {
    /// An SQLite database file.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database, which several instances may share.
    Postgres(SecretString),
}

impl Database {
    /// Returns where the database is: by default a file in the data folder. A `sqlite:` URL has a path
    /// (`sqlite:///relative`, `sqlite:////absolute`, as `SQLAlchemy` writes it). The driver in a scheme, as in
    /// `postgresql+asyncpg`, has no effect. The error does not quote the URL.
    pub fn location(&self, storage: &Storage) -> Result<DatabaseLocation, String> {
        const ALLOWED: &str = "allowed: sqlite:///path, postgresql://user:password@host/database";
        let in_data_folder = || DatabaseLocation::Sqlite(storage.base_path.join("proxytorrent.db"));
        let Some(url) = &self.database_url else { return Ok(in_data_folder()) };
        // Not quoted in errors: such URLs may contain passwords.
        let (scheme, rest) = url.expose_secret().split_once("://").ok_or(format!("is not a URL; {ALLOWED}"))?;
        match scheme.split('+').next() {
            Some("sqlite") => {}
            Some("postgresql" | "postgres") => {
                return Ok(DatabaseLocation::Postgres(format!("postgresql://{rest}").into()));
            }
            _ => return Err(format!("names an unsupported database; {ALLOWED}")),
        }
        let path = rest.strip_prefix('/').filter(|path| !path.is_empty());
        let path = path.ok_or("has no file name; allowed: sqlite:///path")?;
        // The default of the original, which many .env files contain: like our default, it follows the base path.
        if path == "./data/proxytorrent.db" {
            return Ok(in_data_folder());
        }
        Ok(DatabaseLocation::Sqlite(path.into()))
    }
}

impl Fetcher {
    /// Returns the timeout to connect.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout.get())
    }

    /// Returns the timeout to wait for the next byte.
    pub fn read_timeout(&self) -> Duration {
        Duration::from_secs(self.read_timeout.get())
    }
}
