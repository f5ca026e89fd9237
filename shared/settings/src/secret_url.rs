//! URLs that contain credentials.

use std::fmt;

use secrecy::SecretString;
use url::Url;

use crate::value::Value;

/// An http or https URL with credentials in any of its parts. Only its scheme and host are shown.
#[derive(Clone)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// Returns the URL without user name and password.
    pub fn without_user(&self) -> Url {
        let mut url = self.0.clone();
        // Fails for URLs without a host only.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url
    }

    /// Returns the user name and the password, decoded, if there is one of them.
    pub fn user(&self) -> Option<(String, SecretString)> {
        let password = self.0.password();
        if self.0.username().is_empty() && password.is_none() {
            return None;
        }
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some((decoded(self.0.username()), decoded(password.unwrap_or_default()).into()))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", shown(&self.0))
    }
}

fn shown(url: &Url) -> String {
    format!("{}/********", url.origin().ascii_serialization())
}

impl Value for SecretUrl {
    const SECRET: bool = true;

    fn shown(text: &str) -> String {
        <Url as Value>::parse(text).map_or_else(|_| crate::value::MASKED.to_owned(), |url| shown(&url))
    }

    fn allowed() -> String {
        Url::allowed()
    }

    fn parse(text: &str) -> Result<Self, String> {
        <Url as Value>::parse(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn only_scheme_and_host_of_a_secret_url_are_shown() {
        let text = "https://ann:p%40ss@ntfy.example.org:8443/topic?auth=secret";
        let url = SecretUrl::parse(text).unwrap();
        for shown in [format!("{url:?}"), SecretUrl::shown(text)] {
            assert!(shown.contains("https://ntfy.example.org:8443/********"), "{shown}");
            for secret in ["ann", "p%40ss", "topic", "auth"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        let (user, password) = url.user().unwrap();
        assert_eq!((user.as_str(), password.expose_secret()), ("ann", "p@ss"));
        assert_eq!(url.without_user().as_str(), "https://ntfy.example.org:8443/topic?auth=secret");
        assert_eq!(SecretUrl::shown("ntfy.sh/topic"), "********");
        assert!(SecretUrl::parse("https://ntfy.sh/topic").unwrap().user().is_none());
    }
}
