//! Bearer tokens (RFC 6750).

use domain::UserId;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The tokens that are known, as SHA-256: the tokens themselves are not kept.
#[derive(Debug)]
pub(super) struct BearerTokens {
    header: HeaderName,
    digests: Vec<[u8; 32]>,
}

impl BearerTokens {
    pub fn new<'a>(header: HeaderName, tokens: impl Iterator<Item = &'a str>) -> Self {
        Self { header, digests: tokens.map(|token| Sha256::digest(token).into()).collect() }
    }

    /// The user whose token the header holds.
    pub fn check(&self, headers: &HeaderMap) -> Option<UserId> {
        let value = headers.get(&self.header)?.to_str().ok()?;
        let scheme = value.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        let token = match scheme {
            Some(_) => value[7..].trim(),
            // A header of one's own need not name the scheme.
            None if self.header != AUTHORIZATION => value.trim(),
            None => return None,
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        // All are compared, in constant time: how long it takes tells nothing.
        let mut found = None;
        for known in &self.digests {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(user(known));
            }
        }
        found
    }

    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.digests.iter().map(user)
    }
}

/// A token's user, named by its digest: enough to tell users apart, and no way back to the token.
fn user(digest: &[u8; 32]) -> UserId {
    UserId::new(format!("token-{}", hex::encode(&digest[..6])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &BearerTokens, name: HeaderName, value: &str) -> bool {
        tokens.check(&HeaderMap::from_iter([(name, value.parse().unwrap())])).is_some()
    }

    #[test]
    fn known_tokens_are_taken_and_others_are_not() {
        let tokens = BearerTokens::new(AUTHORIZATION, ["one", "two"].into_iter());
        for good in ["Bearer one", "bearer two", "BEARER  one"] {
            assert!(check(&tokens, AUTHORIZATION, good), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Bearer three", "Bearer one two", "Basic one", "one"] {
            assert!(!check(&tokens, AUTHORIZATION, bad), "{bad}");
        }
        assert_eq!(tokens.users().collect::<std::collections::HashSet<_>>().len(), 2);
    }

    #[test]
    fn a_header_of_ones_own_takes_the_bare_token() {
        let name = HeaderName::from_static("x-token");
        let tokens = BearerTokens::new(name.clone(), ["one"].into_iter());
        assert!(check(&tokens, name.clone(), "one") && check(&tokens, name, "Bearer one"));
        assert!(!check(&tokens, AUTHORIZATION, "Bearer one"));
    }
}
