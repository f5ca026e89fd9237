//! Verification of JSON Web Tokens (RFC 7519) with the keys of an OpenID provider, as RFC 8725 recommends: only asymmetric
//! algorithms, and only tokens of this issuer for this audience.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use api::{IssuerUnavailable, TokenVerifier};
use async_trait::async_trait;
use domain::UserId;
use fetcher::{DirectClient, Fetcher};
use http::Request;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tracing::{debug, info};
use url::Url;

use crate::error::CommandError;

/// The accepted algorithms. A symmetric one would make the public key a secret that everybody knows.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// How long the keys are used before they are read again.
const FRESH: Duration = Duration::from_secs(3600);

/// How long the keys are used if they cannot be read again.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The shortest time between two reads of the keys. A token with an unknown key causes a read, and anybody can make one.
const PAUSE: Duration = Duration::from_secs(10);

/// The timeout for a document of the issuer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest document of the issuer, in bytes.
const LARGEST: usize = 256 << 10;

/// The longest name of a user, in bytes.
const LONGEST_NAME: usize = 255;

/// The verifier of the tokens of one issuer.
pub(super) struct JwtVerifier {
    issuer: Url,
    audience: String,
    user_claim: String,
    route: Route,
    keys: RwLock<Option<Keys>>,
    /// When the keys were last asked for. Locked while they are read.
    tried_at: Mutex<Option<Instant>>,
}

/// How the issuer is reached.
enum Route {
    /// Through the guard and the proxy.
    Fetcher(Fetcher),
    Direct(DirectClient),
}

/// The keys of the issuer, as they were read last.
struct Keys {
    set: JwkSet,
    read_at: Instant,
}

/// What OpenID Connect Discovery 1.0 says about an issuer.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: Url,
}

impl std::fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtVerifier").field("issuer", &self.issuer.as_str()).finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Returns the verifier of these settings, if there is an issuer.
    pub fn new(settings: &settings::Security, fetcher: &Fetcher) -> Result<Option<Self>, CommandError> {
        let (Some(issuer), Some(audience)) = (&settings.jwt_issuer, &settings.jwt_audience) else { return Ok(None) };
        let route = if settings.jwt_direct {
            Route::Direct(DirectClient::new(TIMEOUT).map_err(CommandError::start)?)
        } else {
            let refuse = |why| {
                format!("SECURITY__JWT_ISSUER: {why}; for an issuer on your own network set SECURITY__JWT_DIRECT")
            };
            fetcher.guard().check_url(issuer).map_err(|why| CommandError::Start(refuse(why)))?;
            Route::Fetcher(fetcher.clone())
        };
        Ok(Some(Self {
            issuer: issuer.clone(),
            audience: audience.clone(),
            user_claim: settings.jwt_user_claim.clone(),
            route,
            keys: RwLock::default(),
            tried_at: Mutex::default(),
        }))
    }

    /// Returns the key of a token. Reads the keys if they are old, or do not have it.
    async fn key(&self, id: Option<&str>) -> Result<Option<Jwk>, IssuerUnavailable> {
        if let Some(key) = self.known(id, FRESH) {
            return Ok(Some(key));
        }
        let mut tried_at = self.tried_at.lock().await;
        // Another call may have read them meanwhile.
        if let Some(key) = self.known(id, FRESH) {
            return Ok(Some(key));
        }
        let mut failure = None;
        if tried_at.is_none_or(|at| at.elapsed() >= PAUSE) {
            *tried_at = Some(Instant::now());
            match self.read_keys().await {
                Ok(set) => {
                    info!(issuer = %self.issuer, keys = set.keys.len(), "keys of the issuer read");
                    let keys = Keys { set, read_at: Instant::now() };
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(key) = self.known(id, LONGEST) {
            return Ok(Some(key));
        }
        let has_fresh = self.keys().as_ref().is_some_and(|keys| keys.read_at.elapsed() < FRESH);
        match failure {
            None if has_fresh => Ok(None),
            failure => Err(IssuerUnavailable(failure.unwrap_or_else(|| "the last try failed a moment ago".into()))),
        }
    }

    /// Returns the key with this id if the keys were read within this time. A token without an id is accepted if there is one
    /// key only.
    fn known(&self, id: Option<&str>, within: Duration) -> Option<Jwk> {
        let keys = self.keys();
        let keys = keys.as_ref().filter(|keys| keys.read_at.elapsed() < within)?;
        match (id, &keys.set.keys[..]) {
            (Some(id), _) => keys.set.find(id).cloned(),
            (None, [key]) => Some(key.clone()),
            (None, _) => None,
        }
    }

    fn keys(&self) -> RwLockReadGuard<'_, Option<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_keys(&self) -> Result<JwkSet, String> {
        let issuer = self.issuer.as_str().trim_end_matches('/');
        let discovery = Url::parse(&format!("{issuer}/.well-known/openid-configuration")).map_err(|e| e.to_string())?;
        let discovered = self.document(&discovery).await?;
        let discovered: Discovered = serde_json::from_slice(&discovered).map_err(|error| error.to_string())?;
        if discovered.issuer.trim_end_matches('/') != issuer {
            return Err("the discovery document is that of another issuer".into());
        }
        if discovered.jwks_uri.scheme() != self.issuer.scheme() {
            return Err(format!("jwks_uri is not {}", self.issuer.scheme()));
        }
        let set = self.document(&discovered.jwks_uri).await?;
        serde_json::from_slice(&set).map_err(|error| error.to_string())
    }

    async fn document(&self, url: &Url) -> Result<Vec<u8>, String> {
        match &self.route {
            Route::Fetcher(fetcher) => fetcher.document(url, TIMEOUT, LARGEST).await.map_err(|error| error.to_string()),
            Route::Direct(client) => {
                let request = Request::get(url.as_str()).body(vec![]).map_err(|error| error.to_string())?;
                let response = client.send(request).await.map_err(|error| error.to_string())?;
                if response.status() != http::StatusCode::OK {
                    return Err(format!("the issuer responded {}", response.status().as_u16()));
                }
                Ok(response.into_body())
            }
        }
    }

    fn user(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &Jwk,
    ) -> Result<Option<UserId>, jsonwebtoken::errors::Error> {
        let mut validation = Validation::new(algorithm);
        // A URL without a path is the same with and without a slash at its end.
        validation.set_issuer(&[self.issuer.as_str(), self.issuer.as_str().trim_end_matches('/')]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        let claims = decode::<Map<String, Value>>(token, &DecodingKey::from_jwk(key)?, &validation)?.claims;
        let name = claims.get(&self.user_claim).and_then(Value::as_str).map(str::trim).unwrap_or_default();
        let is_name = !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
        Ok(is_name.then(|| UserId::new(name)))
    }
}

#[async_trait]
impl TokenVerifier for JwtVerifier {
    async fn verify(&self, token: &str) -> Result<Option<UserId>, IssuerUnavailable> {
        let Ok(header) = decode_header(token) else { return Ok(None) };
        if !ALGORITHMS.contains(&header.alg) {
            return Ok(None);
        }
        let Some(key) = self.key(header.kid.as_deref()).await? else { return Ok(None) };
        Ok(self.user(token, header.alg, &key).unwrap_or_else(|error| {
            debug!(%error, "token refused");
            None
        }))
    }
}
