//! Identifiers: request ids, lease tokens, and the hashes of contents and torrents.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a request: a UUIDv7 (RFC 9562), so that ids sort by creation time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Uuid);

impl RequestId {
    /// The length of its text in characters.
    pub const LENGTH: usize = 36;

    /// A new id, later than all earlier ones of this process.
    #[expect(clippy::new_without_default, reason = "each call gives another value")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = uuid::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(s).map(Self)
    }
}

/// The token of a lease. A worker whose lease has ended cannot write, since the row has another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseToken(Uuid);

impl LeaseToken {
    /// A new random token.
    #[expect(clippy::new_without_default, reason = "each call gives another value")]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct ParseHashError {
    expected: usize,
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The hash with these bytes.
            pub const fn new(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(s: &str) -> Result<Self, ParseHashError> {
                let mut bytes = [0; $length];
                hex::decode_to_slice(s, &mut bytes).map_err(|_| ParseHashError { expected: 2 * $length })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_type! {
    /// The SHA-256 of a content, which is its key in the store.
    ContentHash, 32
}
hash_type! {
    /// A v1 infohash (BEP 3): the SHA-1 of the info dictionary.
    InfoHash, 20
}
hash_type! {
    /// A v2 infohash (BEP 52): the SHA-256 of the info dictionary.
    InfoHashV2, 32
}
hash_type! {
    /// The fingerprint of a request: the SHA-256 over owner, method, URL, headers and body.
    Fingerprint, 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_what_it_writes_and_refuses_other_lengths() {
        let hash = InfoHash::new([0xab; 20]);
        assert_eq!(hash.to_string(), "ab".repeat(20));
        assert_eq!("AB".repeat(20).parse(), Ok(hash));
        for bad in ["", "ab", &"ab".repeat(21), &"zz".repeat(20)] {
            let error = bad.parse::<InfoHash>().unwrap_err();
            assert_eq!(error.to_string(), "expected 40 hexadecimal digits");
        }
    }

    #[test]
    fn request_ids_sort_by_creation() {
        let ids: Vec<_> = (0..100).map(|_| RequestId::new()).collect();
        assert!(ids.is_sorted());
    }
}
