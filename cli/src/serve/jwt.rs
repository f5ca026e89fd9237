//! Verification of JSON Web Tokens (RFC 7519) with the keys of an OpenID provider, as RFC 8725 recommends: only
//! asymmetric algorithms, and only access tokens of this issuer for this audience.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::{IssuerUnavailable, TokenVerifier};
use async_trait::async_trait;
use domain::UserId;
use fetcher::{Fetcher, OperatorClient};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::{debug, info, warn};
use url::Url;

use crate::error::CommandError;

/// The accepted algorithms. With a symmetric one, anybody could sign with the public key.
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

/// The accepted types of tokens (RFC 9068): not those of a logout, which have the same issuer and audience.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// How long the keys are used before they are read again.
const FRESH: Duration = Duration::from_secs(3600);

/// How long the keys are used if they cannot be read again.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The time between two reads of the keys. A token with an unknown key causes a read, and anybody can make one.
const PAUSE: Duration = Duration::from_secs(10);

/// The timeout for a document of the issuer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The verifier of the tokens of one issuer.
pub(super) struct JwtVerifier {
    issuer: Arc<Issuer>,
    audience: String,
    user_claim: String,
}

/// An OpenID provider.
struct Issuer {
    url: Url,
    client: OperatorClient,
    state: Mutex<State>,
}

/// What is known of an issuer.
#[derive(Default)]
struct State {
    keys: Option<Keys>,
    /// Ends when the read that is under way ends.
    reading: Option<watch::Receiver<()>>,
    /// The keys are not read again before this time.
    pause: Option<Instant>,
}

/// The keys of the issuer, as they were read last.
struct Keys {
    /// The issuer as it writes itself: tokens must have exactly this text.
    issuer: String,
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
        f.debug_struct("JwtVerifier").field("issuer", &self.issuer.url.as_str()).finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Returns the verifier of these settings, if there is an issuer.
    pub fn new(settings: &settings::Security, fetcher: &Fetcher) -> Result<Option<Self>, CommandError> {
        let (Some(url), Some(audience)) = (&settings.jwt_issuer, &settings.jwt_audience) else { return Ok(None) };
        let client = OperatorClient::new(fetcher, settings.jwt_direct, url, TIMEOUT);
        let refused = |error| CommandError::Start(format!("SECURITY__JWT_ISSUER: {error} (SECURITY__JWT_DIRECT)"));
        let issuer = Issuer { url: url.clone(), client: client.map_err(refused)?, state: Mutex::default() };
        Ok(Some(Self {
            issuer: Arc::new(issuer),
            audience: audience.clone(),
            user_claim: settings.jwt_user_claim.clone(),
        }))
    }

    /// Returns the user of a token that this key has signed.
    fn user(&self, token: &str, algorithm: Algorithm, issuer: &str, key: &Jwk) -> jsonwebtoken::errors::Result<UserId> {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        let claims = decode::<Map<String, Value>>(token, &DecodingKey::from_jwk(key)?, &validation)?.claims;
        let name = claims.get(&self.user_claim).and_then(Value::as_str);
        // `events` is in the tokens of a logout (OpenID Connect Back-Channel Logout 1.0, 2.4).
        name.filter(|_| !claims.contains_key("events"))
            .and_then(UserId::of_other_service)
            .ok_or_else(|| jsonwebtoken::errors::ErrorKind::InvalidClaimFormat(self.user_claim.clone()).into())
    }
}

#[async_trait]
impl TokenVerifier for JwtVerifier {
    async fn verify(&self, token: &str) -> Result<Option<UserId>, IssuerUnavailable> {
        let Ok(header) = decode_header(token) else { return Ok(None) };
        let has_type = header.typ.as_deref().is_none_or(|typ| TYPES.contains(&typ.to_ascii_lowercase().as_str()));
        // An extension that a token declares as critical must be understood (RFC 7515, 4.1.11).
        if !ALGORITHMS.contains(&header.alg) || !has_type || header.crit.is_some() {
            return Ok(None);
        }
        let key = self.issuer.key(header.kid.as_deref(), header.alg).await?;
        let Some((issuer, key)) = key else { return Ok(None) };
        match self.user(token, header.alg, &issuer, &key) {
            Ok(user) => Ok(Some(user)),
            Err(error) => {
                debug!(%error, "token refused");
                Ok(None)
            }
        }
    }
}

impl Issuer {
    /// Returns the key for tokens with this key id and algorithm, and the issuer that they must have. Old keys and
    /// unknown ones are read again before. If that fails, known keys are used, for [`LONGEST`] at most.
    async fn key(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<(String, Jwk)>, IssuerUnavailable> {
        let (known, is_fresh) = self.known(id, algorithm);
        if known.is_some() && is_fresh {
            return Ok(known);
        }
        if let Some(mut reading) = self.read() {
            // An error means that the read has ended.
            let _ = reading.changed().await;
        }
        match self.known(id, algorithm) {
            (Some(known), _) => Ok(Some(known)),
            (None, true) => Ok(None),
            (None, false) => Err(IssuerUnavailable),
        }
    }

    /// Returns the key for tokens with this key id and algorithm, if it was read within [`LONGEST`], and whether the
    /// keys are fresh.
    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> (Option<(String, Jwk)>, bool) {
        let state = self.state();
        let Some(keys) = state.keys.as_ref().filter(|keys| keys.read_at.elapsed() < LONGEST) else {
            return (None, false);
        };
        let mut usable = keys.set.keys.iter().filter(|key| can_verify(key, algorithm));
        let key = match id {
            Some(id) => usable.find(|key| key.common.key_id.as_deref() == Some(id)),
            // A token without an id is accepted if only one key is possible.
            None => usable.next().filter(|_| usable.next().is_none()),
        };
        (key.map(|key| (keys.issuer.clone(), key.clone())), keys.read_at.elapsed() < FRESH)
    }

    /// Starts to read the keys, in a task: a caller that goes away must not stop it. Returns what ends when it has
    /// ended; `None` if the keys were read a moment ago.
    fn read(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut state = self.state();
        let is_reading = state.reading.as_ref().is_some_and(|reading| reading.has_changed().is_ok());
        if !is_reading && state.pause.is_none_or(|until| until <= Instant::now()) {
            let (ended, reading) = watch::channel(());
            state.reading = Some(reading);
            let issuer = self.clone();
            tokio::spawn(async move {
                let read = issuer.read_keys().await;
                let mut state = issuer.state();
                match read {
                    Ok(keys) => {
                        info!(issuer = %issuer.url, keys = keys.set.keys.len(), "keys of the issuer read");
                        state.keys = Some(keys);
                    }
                    Err(error) => warn!(issuer = %issuer.url, error, "keys of the issuer cannot be read"),
                }
                (state.reading, state.pause) = (None, Some(Instant::now() + PAUSE));
                drop(ended);
            });
        }
        state.reading.clone()
    }

    async fn read_keys(&self) -> Result<Keys, String> {
        let issuer = self.url.as_str().trim_end_matches('/');
        let discovery = Url::parse(&format!("{issuer}/.well-known/openid-configuration")).map_err(|e| e.to_string())?;
        let discovered = self.client.document(&discovery).await?;
        let discovered: Discovered = serde_json::from_slice(&discovered).map_err(|error| error.to_string())?;
        if discovered.issuer.trim_end_matches('/') != issuer {
            return Err(format!("the issuer calls itself {}", discovered.issuer));
        }
        if discovered.jwks_uri.scheme() != self.url.scheme() {
            return Err(format!("jwks_uri is not {}", self.url.scheme()));
        }
        if self.client.is_direct() && discovered.jwks_uri.origin() != self.url.origin() {
            return Err("jwks_uri has another host or port than the issuer".into());
        }
        let set = self.client.document(&discovered.jwks_uri).await?;
        let set = serde_json::from_slice(&set).map_err(|error| error.to_string())?;
        Ok(Keys { issuer: discovered.issuer, set, read_at: Instant::now() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a key may verify signatures of this algorithm (RFC 7517, 4.2 to 4.4).
fn can_verify(key: &Jwk, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let is_for_signatures = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let may_verify = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let has_algorithm = common.key_algorithm.is_none_or(|declared| declared == KeyAlgorithm::from(algorithm));
    let is_of_family = match key.algorithm {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::EllipticCurve(_) => algorithm.family() == AlgorithmFamily::Ec,
        AlgorithmParameters::OctetKeyPair(_) => algorithm.family() == AlgorithmFamily::Ed,
        _ => false,
    };
    is_for_signatures && may_verify && has_algorithm && is_of_family
}
