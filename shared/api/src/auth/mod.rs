//! Authentication of callers: bearer tokens, JSON Web Tokens, HMAC signatures, and users that a reverse proxy names.

mod bearer;
mod signature;
mod user_header;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{Principal, UserId};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ports::{Clock, Reservations};
use settings::ExposeSecret;
use url::Url;

use self::bearer::BearerTokens;
use self::signature::SignatureKeys;
pub use self::signature::sign;
use self::user_header::UserHeader;
use crate::problem::Problem;
use crate::problem_code::ProblemCode;

/// Authenticates callers. While authentication is off, every caller is the anonymous user.
#[derive(Debug)]
pub struct Authenticator {
    methods: Option<Methods>,
}

#[derive(Debug)]
struct Methods {
    tokens: BearerTokens,
    keys: SignatureKeys,
    user_header: Option<UserHeader>,
    jwt: Option<Arc<dyn TokenVerifier>>,
}

/// The verifier of the tokens of another issuer (JSON Web Tokens, RFC 7519).
#[async_trait]
pub trait TokenVerifier: std::fmt::Debug + Send + Sync {
    /// Returns the user of a token; `None` if the token is not valid.
    async fn verify(&self, token: &str) -> Result<Option<UserId>, IssuerUnavailable>;
}

/// The keys of the issuer cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the keys of the issuer cannot be read")]
pub struct IssuerUnavailable;

impl Authenticator {
    /// Creates an authenticator from these settings. Clients reach this service at `public_url`. `jwt` verifies the
    /// tokens of `SECURITY__JWT_ISSUER`.
    pub fn new(settings: &settings::Security, public_url: &Url, jwt: Option<Arc<dyn TokenVerifier>>) -> Self {
        let header = HeaderName::from_bytes(settings.token_header.as_bytes()).unwrap_or(http::header::AUTHORIZATION);
        let methods = Methods {
            tokens: BearerTokens::new(header, settings.bearer_tokens.iter().map(|token| token.0.expose_secret())),
            keys: SignatureKeys::new(settings, public_url.path()),
            user_header: UserHeader::new(settings),
            jwt,
        };
        Self { methods: settings.auth_enabled.then_some(methods) }
    }

    /// Returns the header that holds the token. `None`: it is `Authorization`, or authentication is off.
    pub(crate) fn token_header(&self) -> Option<&HeaderName> {
        let header = &self.methods.as_ref()?.tokens.header;
        Some(header).filter(|header| **header != http::header::AUTHORIZATION)
    }

    /// Whether callers must authenticate.
    pub(crate) fn is_on(&self) -> bool {
        self.methods.is_some()
    }

    /// Returns all users that can authenticate. `None`: a reverse proxy or an issuer of tokens decides.
    pub fn users(&self) -> Option<HashSet<UserId>> {
        match &self.methods {
            None => Some([UserId::anonymous()].into()),
            Some(Methods { user_header: Some(_), .. } | Methods { jwt: Some(_), .. }) => None,
            Some(methods) => Some(methods.tokens.users().chain(methods.keys.users()).collect()),
        }
    }

    /// Whether a reverse proxy authenticates users, so that they need no token.
    pub(crate) fn has_user_header(&self) -> bool {
        self.methods.as_ref().is_some_and(|methods| methods.user_header.is_some())
    }

    /// Authenticates a call by its bearer token, its signature, or the user that a reverse proxy names.
    pub(crate) async fn check(
        &self,
        parts: &Parts,
        body: &[u8],
        guards: &dyn Reservations,
        clock: &dyn Clock,
    ) -> Result<Principal, Problem> {
        let Some(methods) = &self.methods else { return Ok(Principal { user: UserId::anonymous() }) };
        if let Some(user) = methods.tokens.check(&parts.headers) {
            return Ok(Principal { user });
        }
        if is_signed(&parts.headers) {
            return methods.keys.check(parts, body, guards, clock).await.map(|user| Principal { user });
        }
        let named = methods.user_header.as_ref().and_then(|header| header.user(parts));
        let user = match (named, &methods.jwt, methods.jwt(&parts.headers)) {
            (None, Some(jwt), Some(token)) => jwt.verify(token).await?,
            (named, ..) => named,
        };
        user.map(|user| Principal { user }).ok_or_else(Problem::wrong_credentials)
    }

    /// Whether the headers contain a token, valid or not.
    pub(crate) fn shows_token(&self, headers: &HeaderMap) -> bool {
        self.methods.as_ref().is_some_and(|methods| headers.contains_key(&methods.tokens.header))
    }

    /// Whether the head of a call alone shows that authentication fails: no valid token, no JSON Web Token, no
    /// signature, and no user that a reverse proxy names. The body of such a call is not read.
    pub(crate) fn is_nobody(&self, parts: &Parts) -> bool {
        let headers = &parts.headers;
        let nobody = |methods: &Methods| {
            methods.tokens.check(headers).is_none()
                && methods.jwt(headers).is_none()
                && !is_signed(headers)
                && methods.user_header.as_ref().is_none_or(|header| header.user(parts).is_none())
        };
        self.methods.as_ref().is_some_and(nobody)
    }
}

/// Whether a call has a signature, valid or not.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key(signature::X_SIGNATURE)
}

impl Methods {
    /// Returns the token in the header if an issuer may have signed it: three parts, separated by dots (RFC 7515).
    fn jwt<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        self.jwt.as_ref()?;
        self.tokens.shown(headers).filter(|token| token.split('.').count() == 3)
    }
}

impl From<IssuerUnavailable> for Problem {
    fn from(_: IssuerUnavailable) -> Self {
        let detail = "the issuer of your token cannot be reached to verify it; retry later";
        Self::new(ProblemCode::IssuerUnavailable, detail).retry_after(10)
    }
}
