//! Bearer tokens (RFC 6750).

use domain::{ContentHash, UserId};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The accepted tokens as SHA-256 digests, each with its user. The tokens themselves are not stored.
#[derive(Debug)]
pub(super) struct BearerTokens {
    pub(super) header: HeaderName,
    known: Vec<([u8; 32], UserId)>,
}

impl BearerTokens {
    /// Reads tokens, each written as `name:token`, `name:sha256:digest` or `token`.
    pub fn new<'a>(header: HeaderName, tokens: impl Iterator<Item = &'a str>) -> Self {
        let known = tokens.map(|token| {
            let Some((name, token)) = token.split_once(':') else {
                let digest: [u8; 32] = Sha256::digest(token).into();
                return (digest, user(&digest));
            };
            let digest = token.strip_prefix("sha256:").and_then(|digest| digest.parse::<ContentHash>().ok());
            let digest = digest.map_or_else(|| Sha256::digest(token).into(), |digest| *digest.as_bytes());
            (digest, UserId::new(name))
        });
        Self { header, known: known.collect() }
    }

    /// Returns the token in the header, valid or not.
    pub fn shown<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let value = headers.get(&self.header)?.to_str().ok()?;
        let scheme = value.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        match scheme {
            Some(_) => Some(value[7..].trim()),
            // A custom token header may hold the bare token, without the scheme.
            None if self.header != AUTHORIZATION => Some(value.trim()),
            None => None,
        }
    }

    /// Returns the user of the token in the header, or `None` if there is no valid token.
    pub fn check(&self, headers: &HeaderMap) -> Option<UserId> {
        let digest: [u8; 32] = Sha256::digest(self.shown(headers)?).into();
        // Compares with every token, each in constant time: the duration reveals nothing.
        let mut found = None;
        for (known, user) in &self.known {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(user);
            }
        }
        found.cloned()
    }

    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.known.iter().map(|(_, user)| user.clone())
    }
}

/// Returns the user of a token without a name: `token-` and the first 6 bytes of the digest, which distinguish users
/// and do not reveal the token.
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
    fn known_tokens_are_accepted_and_others_refused() {
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
    fn tokens_may_have_a_name_and_be_given_as_a_digest() {
        let digest = hex::encode(Sha256::digest("three"));
        let listed = ["alice:one".to_owned(), "alice:two".to_owned(), format!("bob:sha256:{digest}")];
        let tokens = BearerTokens::new(AUTHORIZATION, listed.iter().map(String::as_str));
        for (token, user) in
            [("one", Some("alice")), ("two", Some("alice")), ("three", Some("bob")), ("alice:one", None)]
        {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
            assert_eq!(tokens.check(&headers), user.map(UserId::new), "{token}");
        }
    }

    #[test]
    fn a_custom_header_accepts_the_bare_token() {
        let name = HeaderName::from_static("x-token");
        let tokens = BearerTokens::new(name.clone(), ["one"].into_iter());
        assert!(check(&tokens, name.clone(), "one") && check(&tokens, name, "Bearer one"));
        assert!(!check(&tokens, AUTHORIZATION, "Bearer one"));
    }
}
