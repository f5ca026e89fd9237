//! Users and authenticated callers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name of a user that another service gives, in bytes.
const LONGEST_NAME: usize = 255;

/// Names that this service gives to users without one, besides those that begin with `token-`.
const RESERVED_NAMES: [&str; 2] = ["anonymous", "hmac"];

/// The name of a user. It is not a secret: rows and logs have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(String);

impl UserId {
    /// The user of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The user of a name that another service gives, such as a reverse proxy or an issuer of tokens. Returns `None` if
    /// the name is empty or longer than 255 bytes, has control characters or spaces around it, or is reserved.
    pub fn of_other_service(name: &str) -> Option<Self> {
        let is_reserved = RESERVED_NAMES.contains(&name) || name.starts_with("token-");
        let is_name = !name.is_empty() && name.len() <= LONGEST_NAME && name.trim() == name;
        (is_name && !is_reserved && !name.chars().any(char::is_control)).then(|| Self::new(name))
    }

    /// The only user while authentication is off.
    pub fn anonymous() -> Self {
        Self::new("anonymous")
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user whose requests the caller may see.
    pub user: UserId,
}
