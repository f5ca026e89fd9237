//! Digests of the content that the origin declares, and their verification.

use std::collections::BTreeMap;

use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use domain::FailureCode;
use http::HeaderMap;
use http::header::HeaderName;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::digest::DynDigest;
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256, Sha512};

use crate::error::FetchError;

/// Headers with digests of the body as it is sent, in its content coding.
const HEADERS: [&str; 4] = [
    "repr-digest",    // RFC 9530
    "content-digest", // RFC 9530; covers the whole content, because no range was requested
    "digest",         // RFC 3230
    "content-md5",    // RFC 1864
];

/// The maximum number of declared digests that are kept. There are fewer algorithms, so among this many different
/// digests some contradict each other and the check fails anyway; further ones change nothing.
const MOST: usize = 16;

/// A digest that the origin declared, and the state of the hasher that must match it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeclaredDigest {
    pub header: String,
    pub algorithm: String,
    pub digest: State,
    pub state: State,
}

/// Bytes, serialized in Base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct State(pub Vec<u8>);

impl From<State> for String {
    fn from(state: State) -> Self {
        STANDARD.encode(state.0)
    }
}

impl TryFrom<String> for State {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

/// The verification of the received bytes against the declared digests. Usually none is declared. Each algorithm
/// hashes only once, however many digests use it.
#[derive(Default)]
pub(crate) struct Digests {
    hashers: BTreeMap<String, Box<dyn Hasher>>,
    expected: Vec<Expected>,
}

struct Expected {
    header: &'static str,
    algorithm: String,
    digest: Vec<u8>,
}

trait Hasher: DynDigest + Send + Sync {
    fn state(&self) -> Vec<u8>;
    fn digest(&self) -> Vec<u8>;
}

impl<T: DynDigest + Digest + SerializableState + Clone + Send + Sync> Hasher for T {
    fn state(&self) -> Vec<u8> {
        self.serialize().to_vec()
    }

    fn digest(&self) -> Vec<u8> {
        Digest::finalize(self.clone()).to_vec()
    }
}

/// Returns a new or resumed hasher, or `None` if the algorithm is unknown or the state is invalid.
fn hasher(algorithm: &str, state: Option<&[u8]>) -> Option<Box<dyn Hasher>> {
    fn make<T: Hasher + Default + SerializableState + 'static>(state: Option<&[u8]>) -> Option<Box<dyn Hasher>> {
        Some(match state {
            None => Box::new(T::default()),
            Some(state) => Box::new(T::deserialize(state.try_into().ok()?).ok()?),
        })
    }
    match algorithm {
        "sha-256" => make::<Sha256>(state),
        "sha-512" => make::<Sha512>(state),
        "md5" => make::<Md5>(state),
        _ => None,
    }
}

impl Digests {
    /// Returns the digests that are declared with a known algorithm. Digests with another algorithm cannot be
    /// checked, and the RFCs say to ignore them.
    pub fn declared(headers: &HeaderMap) -> Self {
        let mut digests = Self::default();
        for header in HEADERS {
            for value in headers.get_all(HeaderName::from_static(header)) {
                let Ok(value) = value.to_str() else { continue };
                if header == "content-md5" {
                    digests.expect(header, "md5", value);
                    continue;
                }
                // `sha-256=:BASE64:` in a structured dictionary (RFC 9530), or `SHA-256=BASE64` in the list of RFC
                // 3230.
                for member in value.split(',') {
                    let Some((algorithm, digest)) = member.split_once('=') else { continue };
                    let digest = digest.split(';').next().unwrap_or_default();
                    digests.expect(header, algorithm, digest);
                }
            }
        }
        digests
    }

    fn expect(&mut self, header: &'static str, algorithm: &str, digest: &str) {
        let algorithm = algorithm.trim().to_ascii_lowercase();
        let Some(hasher) = hasher(&algorithm, None) else { return };
        let Some(digest) = read(digest, hasher.output_size()) else { return };
        let known = self.expected.iter().any(|other| other.algorithm == algorithm && other.digest == digest);
        if !known && self.expected.len() < MOST {
            self.hashers.entry(algorithm.clone()).or_insert(hasher);
            self.expected.push(Expected { header, algorithm, digest });
        }
    }

    /// Returns the states of the hashers, for a checkpoint.
    pub fn states(&self) -> Vec<DeclaredDigest> {
        let state = |expected: &Expected| DeclaredDigest {
            header: expected.header.to_owned(),
            algorithm: expected.algorithm.clone(),
            digest: State(expected.digest.clone()),
            state: State(self.hashers[&expected.algorithm].state()),
        };
        self.expected.iter().map(state).collect()
    }

    /// Restores the digests from a checkpoint. `None` if a state is invalid.
    pub fn resume(states: &[DeclaredDigest]) -> Option<Self> {
        let mut digests = Self::default();
        for declared in states {
            let (algorithm, digest) = (declared.algorithm.clone(), declared.digest.0.clone());
            digests.hashers.insert(algorithm.clone(), hasher(&algorithm, Some(&declared.state.0))?);
            let header = HEADERS.into_iter().find(|header| *header == declared.header)?;
            digests.expected.push(Expected { header, algorithm, digest });
        }
        Some(digests)
    }

    pub fn update(&mut self, bytes: &[u8]) {
        for hasher in self.hashers.values_mut() {
            DynDigest::update(&mut **hasher, bytes);
        }
    }

    /// Checks that the received bytes match every declared digest.
    pub fn check(&self) -> Result<(), FetchError> {
        for expected in &self.expected {
            if self.hashers[&expected.algorithm].digest() != expected.digest {
                let message = format!("the content does not match the {} header of the origin", expected.header);
                return Err(FetchError::new(FailureCode::ChecksumMismatch, message));
            }
        }
        Ok(())
    }
}

/// Parses a digest of this size: Base64 with or without padding, or hexadecimal, which some servers send.
fn read(text: &str, size: usize) -> Option<Vec<u8>> {
    let text = text.trim().trim_matches(':');
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let digest = match hex::decode(text) {
        Ok(digest) if digest.len() == size => digest,
        _ => GeneralPurpose::new(&alphabet::STANDARD, padding).decode(text).ok()?,
    };
    (digest.len() == size).then_some(digest)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// «hello»
    const SHA256: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    const SHA512: &str = "m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==";
    const MD5: &str = "XUFAKrxLKna5cZ2REBfFkg==";

    fn fits(name: &'static str, value: &str, content: &str) -> bool {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())]);
        let mut digests = Digests::declared(&headers);
        digests.update(content.as_bytes());
        digests.check().is_ok()
    }

    #[test]
    fn every_way_to_declare_a_digest_is_checked() {
        for (name, value) in [
            ("repr-digest", format!("sha-256=:{SHA256}:")),
            ("content-digest", format!("sha-512=:{SHA512}:;x=1")),
            ("repr-digest", format!("unixsum=:AAAA:, sha-512=:{SHA512}:")),
            ("digest", format!("SHA-256={SHA256},MD5={MD5}")),
            ("content-md5", MD5.to_owned()),
            ("repr-digest", format!("sha-256=:{}:", SHA256.trim_end_matches('='))),
            ("content-md5", "5d41402abc4b2a76b9719d911017c592".to_owned()),
        ] {
            assert!(fits(name, &value, "hello"), "{name}: {value}");
            assert!(!fits(name, &value, "hullo"), "{name}: {value}");
        }
    }

    #[test]
    fn many_declared_digests_cost_no_more_than_one() {
        let flood = format!("sha-256=:{SHA256}:,").repeat(1_000);
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static("repr-digest"), HeaderValue::try_from(flood).unwrap())]);
        assert_eq!(Digests::declared(&headers).states().len(), 1);
        let other = |i: u32| {
            format!("sha-256=:{}:", base64::engine::general_purpose::STANDARD.encode([i.to_le_bytes()[0]; 32]))
        };
        let flood = (0..200).map(other).collect::<Vec<_>>().join(",");
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static("digest"), HeaderValue::try_from(flood).unwrap())]);
        let digests = Digests::declared(&headers);
        assert_eq!((digests.hashers.len(), digests.expected.len()), (1, MOST));
        assert!(digests.check().is_err());
    }

    #[test]
    fn a_digest_resumes_from_its_state() {
        let declared =
            [("repr-digest", format!("sha-256=:{SHA256}:, sha-512=:{SHA512}:")), ("content-md5", MD5.to_owned())];
        let headers =
            declared.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let mut first = Digests::declared(&headers.collect());
        first.update(b"he");
        let states = serde_json::to_string(&first.states()).unwrap();
        let states: Vec<DeclaredDigest> = serde_json::from_str(&states).unwrap();
        assert_eq!(states.len(), 3);
        for (rest, good) in [("llo", true), ("llo!", false)] {
            let mut second = Digests::resume(&states).unwrap();
            second.update(rest.as_bytes());
            assert_eq!(second.check().is_ok(), good, "{rest}");
        }
    }

    #[test]
    fn malformed_and_unknown_digests_are_ignored() {
        for value in ["", "sha-256", "sha-256=:!:", "sha-256=:AAAA:", "crc32c=:AAAAAA==:"] {
            assert!(fits("repr-digest", value, "anything"), "{value}");
        }
    }
}
