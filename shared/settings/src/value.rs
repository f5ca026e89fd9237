//! The types of settings, and their parsers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use domain::TorrentFormat;
use ipnet::IpNet;
use secrecy::SecretString;
use url::{Host, Url};

/// What is shown in place of a secret.
pub(crate) const MASKED: &str = "********";

/// A type that settings can have.
pub(crate) trait Value: Sized {
    /// Whether the value must not be shown.
    const SECRET: bool = false;

    /// Returns the text as `proxytorrent config` prints it, without secrets.
    fn shown(text: &str) -> String {
        if Self::SECRET { MASKED.to_owned() } else { text.to_owned() }
    }

    /// Returns a description of the allowed values, for people.
    fn allowed() -> String;

    /// Parses a text that is not empty. The error must not quote a secret.
    fn parse(text: &str) -> Result<Self, String>;

    /// Parses a text. An empty text is the value of a setting that is not set, or an error if the setting is
    /// required.
    fn parse_or_absent(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("is not set".into()) } else { Self::parse(text) }
    }
}

impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;

    fn shown(text: &str) -> String {
        T::shown(text)
    }

    fn allowed() -> String {
        format!("{}, or empty", T::allowed())
    }

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn parse_or_absent(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { Self::parse(text) }
    }
}

/// A list of values, written `a,b` or `["a","b"]`.
pub type List<T> = Vec<T>;

/// The items of a list, `a,b` or `["a","b"]`.
fn list_items(text: &str) -> Result<impl Iterator<Item = &str>, String> {
    // A bracket without a quote may be the start of an IPv6 address.
    let inner = if text.starts_with("[\"") || text == "[]" {
        text[1..].strip_suffix(']').ok_or("begins with [ and does not end with ]")?
    } else {
        text
    };
    Ok(inner.split(',').map(|item| item.trim().trim_matches('"').trim()).filter(|item| !item.is_empty()))
}

impl<T: Value> Value for List<T> {
    const SECRET: bool = T::SECRET;

    fn shown(text: &str) -> String {
        if !T::SECRET {
            return text.to_owned();
        }
        let Ok(items) = list_items(text) else { return MASKED.to_owned() };
        let shown: Vec<_> = items.map(T::shown).collect();
        // The number of secrets is not shown either.
        if shown.iter().all(|item| item == MASKED) { MASKED.to_owned() } else { shown.join(",") }
    }

    fn allowed() -> String {
        format!("a list (a,b or [\"a\",\"b\"]) of: {}", T::allowed())
    }

    fn parse(text: &str) -> Result<Self, String> {
        list_items(text)?.map(T::parse).collect()
    }

    fn parse_or_absent(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(vec![]) } else { Self::parse(text) }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number. Does not compile if the maximum does not fit.
    #[expect(clippy::cast_possible_truncation, reason = "the assertion")]
    pub const fn get_u16(self) -> u16 {
        const { assert!(MAX <= u16::MAX as u64) }
        self.0 as u16
    }

    /// Returns the number. Does not compile if the maximum does not fit.
    #[expect(clippy::cast_possible_truncation, reason = "the assertion")]
    pub const fn get_u32(self) -> u32 {
        const { assert!(MAX <= u32::MAX as u64) }
        self.0 as u32
    }

    /// Returns the number. Does not compile if the maximum does not fit.
    #[expect(clippy::cast_possible_truncation, reason = "the assertion")]
    pub const fn get_i32(self) -> i32 {
        const { assert!(MAX <= i32::MAX as u64) }
        self.0 as i32
    }

    /// Returns the number. Does not compile if the maximum does not fit.
    #[expect(clippy::cast_possible_truncation, reason = "the assertion")]
    pub const fn get_usize(self) -> usize {
        const { assert!(MAX <= usize::MAX as u64) }
        self.0 as usize
    }
}

impl<const MIN: u64, const MAX: u64> Value for Bounded<MIN, MAX> {
    fn allowed() -> String {
        match (MIN, MAX) {
            (0, u64::MAX) => "a whole number".into(),
            (_, u64::MAX) => format!("a whole number from {MIN}"),
            _ => format!("a whole number from {MIN} to {MAX}"),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let number = text.parse().map_err(|_| format!("'{text}' is not a whole number"))?;
        if (MIN..=MAX).contains(&number) { Ok(Self(number)) } else { Err(format!("{number} is out of range")) }
    }
}

/// The name of a network interface of Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for InterfaceName {
    fn allowed() -> String {
        "the name of a network interface: 1 to 15 letters, digits and . _ -".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let is_name =
            text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if is_name { Ok(Self(text.into())) } else { Err(format!("'{text}' is not the name of an interface")) }
    }
}

/// A power of two from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerOfTwo<const MIN: u32, const MAX: u32>(u32);

/// A piece length in bytes that BEP 52 allows and clients accept.
pub type PieceLength = PowerOfTwo<16_384, 16_777_216>;

impl<const MIN: u32, const MAX: u32> PowerOfTwo<MIN, MAX> {
    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Value for PowerOfTwo<MIN, MAX> {
    fn allowed() -> String {
        format!("a power of two from {MIN} to {MAX}")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let number: u32 = text.parse().map_err(|_| format!("'{text}' is not a whole number"))?;
        if number.is_power_of_two() && (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} is not a power of two in this range"))
        }
    }
}

impl Value for bool {
    fn allowed() -> String {
        "true or false".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("'{text}' is neither true nor false")),
        }
    }
}

impl Value for u16 {
    fn allowed() -> String {
        "a port number from 0 to 65535".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("'{text}' is not a port number"))
    }
}

impl Value for String {
    fn allowed() -> String {
        "text".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['\r', '\n', '\0']) { Err("contains a line break or a NUL".into()) } else { Ok(text.into()) }
    }
}

impl Value for SecretString {
    const SECRET: bool = true;

    fn allowed() -> String {
        "a secret".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

/// A secret with a name, written `name:secret`.
#[derive(Debug, Clone)]
pub struct NamedSecret {
    /// The name: letters, digits and `._-@`.
    pub name: String,
    /// The secret.
    pub secret: SecretString,
}

impl Value for NamedSecret {
    const SECRET: bool = true;

    fn allowed() -> String {
        "name:secret; the name may have letters, digits, '.', '_', '-' and '@'".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (name, secret) = text.split_once(':').ok_or("has no colon")?;
        if secret.is_empty() {
            return Err("has no secret after its name".into());
        }
        check_user_name(name)?;
        Ok(Self { name: name.into(), secret: secret.into() })
    }
}

/// Checks the name of a user. Two callers with the same name are the same user. The error says what is allowed.
pub fn check_user_name(name: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    match name {
        "hmac" => Err("has the name hmac, which is reserved for SECURITY__HMAC_SECRET".into()),
        _ if name.is_empty() || !name.chars().all(is_name) => {
            Err("must have a name of letters, digits, '.', '_', '-' and '@' before the colon".into())
        }
        _ => Ok(()),
    }
}

/// A bearer token: `name:token`, `name:sha256:digest`, or the token alone.
#[derive(Debug, Clone)]
pub struct BearerToken(pub SecretString);

/// The shortest accepted token, in characters. A longer token may still be guessable: `Security::warning` reports it.
const MIN_TOKEN: usize = 5;

/// Refuses tokens that are too short, and shell expressions: `.env` files are not evaluated by a shell.
fn check_token(token: &str) -> Result<(), String> {
    if token.contains("$(") || token.contains('`') {
        return Err("has a shell expression in place of a token: write the token itself".into());
    }
    if token.len() < MIN_TOKEN {
        return Err(format!("has a token with fewer than {MIN_TOKEN} characters"));
    }
    Ok(())
}

impl Value for BearerToken {
    const SECRET: bool = true;

    fn allowed() -> String {
        "name:token, name:sha256:digest (64 hexadecimal digits), or a token without a colon".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some((name, token)) = text.split_once(':') {
            if name == "sha256" {
                return Err("has a digest without a name before it".into());
            }
            check_user_name(name)?;
            if token.is_empty() {
                return Err("has no token after its name".into());
            }
            let digest = token.strip_prefix("sha256:");
            check_token(token)?;
            if digest.is_some_and(|digest| digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit())) {
                return Err("has a digest that is not 64 hexadecimal digits".into());
            }
        } else {
            check_token(text)?;
        }
        Ok(Self(text.into()))
    }
}

impl Value for PathBuf {
    fn allowed() -> String {
        "a path".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Value for Url {
    fn allowed() -> String {
        "an http or https URL".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        // `host:8000` parses as a URL with the scheme `host`.
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
            Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) => {
                Err("has no scheme: begin it with http:// or https://".into())
            }
            Err(error) => Err(format!("is not a URL ({error})")),
        }
    }
}

impl Value for IpAddr {
    fn allowed() -> String {
        "an IP address".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok([127, 0, 0, 1].into());
        }
        text.parse().map_err(|_| format!("'{text}' is not an IP address"))
    }
}

impl Value for SocketAddr {
    fn allowed() -> String {
        "an IP address and port (192.0.2.7:6881, [2001:db8::7]:6881)".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("'{text}' is not an IP address and port"))
    }
}

/// A host as in a URL: a lower-case ASCII name (IDNA) or an IP address, without brackets and without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// Parses a name, or an address with or without brackets. Returns `None` if it is neither.
    pub fn new(text: &str) -> Option<Self> {
        let bare = text.trim_matches(['[', ']']);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self(address.to_string()));
        }
        match Host::parse(bare.trim_end_matches('.')).ok()? {
            Host::Domain(name) => Some(Self(name)),
            Host::Ipv4(address) => Some(Self(address.to_string())),
            Host::Ipv6(address) => Some(Self(address.to_string())),
        }
    }

    /// Returns the name or the address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for HostName {
    fn allowed() -> String {
        "a host name (example.org, which includes its subdomains) or an IP address".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        // `*.example.org` means the same as `example.org`, which includes the subdomains.
        let name = text.strip_prefix("*.").unwrap_or(text).trim_start_matches('.');
        Self::new(name).ok_or_else(|| format!("'{text}' is not a host name or IP address"))
    }
}

impl Value for IpNet {
    fn allowed() -> String {
        "a network (10.0.0.0/8, fd00::/8) or an IP address".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .or_else(|_| text.parse::<IpAddr>().map(Self::from))
            .map_err(|_| format!("'{text}' is not a network"))
    }
}

impl Value for TorrentFormat {
    fn allowed() -> String {
        "v1 or hybrid".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: domain::UnknownText| error.to_string())
    }
}

/// A log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Error,
    Warning,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// Returns the name that `tracing` uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Value for LogLevel {
    fn allowed() -> String {
        "ERROR, WARNING, INFO, DEBUG or TRACE".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "ERROR" | "CRITICAL" => Ok(Self::Error),
            "WARNING" | "WARN" => Ok(Self::Warning),
            "INFO" => Ok(Self::Info),
            "DEBUG" => Ok(Self::Debug),
            "TRACE" => Ok(Self::Trace),
            _ => Err(format!("'{text}' is not a log level")),
        }
    }
}
