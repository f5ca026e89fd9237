//! The only place from which requests leave: guard first, then a proxy or the direct connection.

use std::sync::Arc;

use domain::{Failure, FailureCode, UserId};
use http::{HeaderMap, Method};
use reqwest::Response;
use url::Url;

use super::client::ClientError;
pub(crate) use super::proxy::Session;
use super::proxy::{ProxyHealth, ProxyPool};
use crate::error::FetchError;
use crate::policy::guard::Guard;

/// A request to one origin: the last one is that of the content.
#[derive(Clone)]
pub(crate) struct OutboundRequest {
    pub url: Url,
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Option<String>,
}

/// Sends requests through the guard and the proxies.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    proxies: Arc<ProxyPool>,
    guard: Guard,
    keep_url_credentials: bool,
}

impl Sender {
    /// A sender with these settings.
    pub fn new(fetcher: &settings::Fetcher, proxy: &settings::Proxy) -> Result<Self, ClientError> {
        let guard = Guard::new(fetcher, proxy);
        Ok(Self {
            proxies: Arc::new(ProxyPool::new(fetcher, proxy, guard.clone())?),
            guard,
            keep_url_credentials: fetcher.allow_credential_headers,
        })
    }

    /// The policy for hosts and addresses.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// A session of this owner: connections are not shared between owners.
    pub fn session(&self, owner: &UserId) -> Session<'_> {
        self.proxies.session(owner)
    }

    /// Asks the proxies whether they work; a failure if none does.
    pub async fn check_proxy(&self) -> Result<ProxyHealth, Failure> {
        self.proxies.check().await
    }

    /// Sends one request, if its URL may be fetched from.
    pub async fn send(
        &self,
        session: &Session<'_>,
        outbound: &OutboundRequest,
        headers: &HeaderMap,
    ) -> Result<Response, FetchError> {
        self.guard.check_url(&outbound.url)?;
        let _watch = self.guard.watch(&outbound.url);
        let mut url = outbound.url.clone();
        if !self.keep_url_credentials {
            // Into the void if there are none, or none can be.
            let _ = url.set_username("").and_then(|()| url.set_password(None));
        }
        let make = |client: &reqwest::Client| {
            let request = client.request(outbound.method.clone(), url.clone()).headers(headers.clone());
            match &outbound.body {
                Some(body) => request.body(body.clone()),
                None => request,
            }
        };
        let repeated = outbound.method == Method::GET;
        match session.send(repeated, make).await {
            // Perhaps the origin closed a connection just when it was used again (RFC 9112, 9.3.1).
            Err(FetchError::Failed { failure, .. }) if failure.code == FailureCode::TransferBroken && repeated => {
                session.send(repeated, make).await
            }
            result => result,
        }
    }
}
