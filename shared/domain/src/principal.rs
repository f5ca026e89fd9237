//! Users and authenticated callers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a user, from the settings. It is not a secret: rows and logs have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(String);

impl UserId {
    /// The user of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
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
