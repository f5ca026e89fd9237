//! Who is asking: bearer tokens and HMAC signatures.

mod bearer;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::{Principal, UserId};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use ports::{Clock, Reservations};
use settings::ExposeSecret;
use tokio::time::timeout;

use self::bearer::BearerTokens;
use self::signature::SignatureKeys;
pub use self::signature::sign;
use crate::Api;
use crate::client_address::ClientAddress;
use crate::problem::Problem;
use crate::router::MAX_BODY;

/// Knows the callers. Without authentication, everybody is one anonymous user.
#[derive(Debug)]
pub struct Authenticator {
    methods: Option<Methods>,
}

#[derive(Debug)]
struct Methods {
    tokens: BearerTokens,
    keys: SignatureKeys,
}

impl Authenticator {
    /// An authenticator with these settings.
    pub fn new(settings: &settings::Security) -> Self {
        let header = HeaderName::from_bytes(settings.token_header.as_bytes()).unwrap_or(http::header::AUTHORIZATION);
        let methods = Methods {
            tokens: BearerTokens::new(header, settings.bearer_tokens.iter().map(|token| token.0.expose_secret())),
            keys: SignatureKeys::new(settings),
        };
        Self { methods: settings.auth_enabled.then_some(methods) }
    }

    /// The header that holds a token, if it is one of its own.
    pub(crate) fn token_header(&self) -> Option<&HeaderName> {
        let header = &self.methods.as_ref()?.tokens.header;
        Some(header).filter(|header| **header != http::header::AUTHORIZATION)
    }

    /// Whether callers have to say who they are.
    pub(crate) fn is_on(&self) -> bool {
        self.methods.is_some()
    }

    /// Everybody who can be known.
    pub fn users(&self) -> Vec<UserId> {
        match &self.methods {
            None => vec![UserId::anonymous()],
            Some(methods) => methods.tokens.users().chain(methods.keys.users()).collect(),
        }
    }

    async fn check(
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
        if parts.headers.contains_key(signature::X_SIGNATURE) {
            return methods.keys.check(parts, body, guards, clock).await.map(|user| Principal { user });
        }
        Err(unknown())
    }

    /// Whether the head has a token, right or wrong.
    fn shows_token(&self, headers: &HeaderMap) -> bool {
        self.methods.as_ref().is_some_and(|methods| headers.contains_key(&methods.tokens.header))
    }

    /// Whether the head alone shows that nobody known is asking: then nothing more of the request is read.
    fn is_nobody(&self, headers: &HeaderMap) -> bool {
        let nobody = |methods: &Methods| {
            methods.tokens.check(headers).is_none() && !headers.contains_key(signature::X_SIGNATURE)
        };
        self.methods.as_ref().is_some_and(nobody)
    }
}

fn unknown() -> Problem {
    Problem::unauthorized("give a bearer token, or sign the request; neither was found valid")
}

fn too_large() -> Problem {
    let detail = format!("a request's body has at most {MAX_BODY} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// Lets known callers through, with their [`Principal`] in the request's extensions.
pub(crate) async fn authenticate(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let client = parts.extensions.get().copied().unwrap_or(ClientAddress(None)).0;
    if api.authenticator.is_on()
        && let Err(too_many) = api.abuse.check_failures(client)
    {
        let detail = "too many failed authentications from your address; try again later";
        return too_many.problem(detail).into_response();
    }
    if api.authenticator.is_nobody(&parts.headers) {
        // Who shows nothing guesses nothing.
        if api.authenticator.shows_token(&parts.headers) {
            api.abuse.count_failure(client, "token");
        }
        return unknown().into_response();
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY as u64) {
        return too_large().into_response();
    }
    // A signature covers the body.
    let patience = Duration::from_secs(api.server.client_timeout.get());
    let Ok(body) = timeout(patience, axum::body::to_bytes(body, MAX_BODY)).await else {
        let detail = "the body did not come in time";
        return Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail).into_response();
    };
    let body = match body {
        Ok(body) => body,
        Err(error) if error.to_string().contains("length limit") => {
            return too_large().into_response();
        }
        Err(_) => {
            let detail = "the body could not be read: it ended too early, or its chunks are malformed";
            return Problem::new(StatusCode::BAD_REQUEST, "malformed_body", detail).into_response();
        }
    };
    match api.authenticator.check(&parts, &body, &*api.guards, &*api.clock).await {
        Err(problem) => {
            if problem.status() == StatusCode::UNAUTHORIZED {
                api.abuse.count_failure(client, "signature");
            }
            problem.into_response()
        }
        Ok(principal) => {
            if parts.method != Method::POST
                && let Err(too_many) = api.abuse.count_read(&principal.user)
            {
                return too_many.problem("too many calls: the limit reads-minute is reached").into_response();
            }
            parts.extensions.insert(principal);
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
    }
}
