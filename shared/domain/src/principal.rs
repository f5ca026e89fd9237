//! Who is asking.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A user's name as the settings give it. Not a secret: it stands in rows and logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(String);

impl UserId {
    /// The user of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Everybody, where authentication is off.
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

/// A caller whose credentials have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose requests the caller may see.
    pub user: UserId,
}
