//! Outbound HTTP requests for users: the only place that sends them, after the guard, through a proxy or directly.

use std::sync::Arc;

use domain::{Failure, FailureCode, UserId};
use http::{HeaderMap, Method};
use reqwest::Response;
use url::Url;

use super::client::ClientError;
use super::interface::Interface;
pub(crate) use super::proxy::Session;
use super::proxy::{ProxyHealth, ProxyPool, ProxyStates};
use crate::error::FetchError;
use crate::policy::guard::Guard;

/// An HTTP request to one origin. After the redirects, the last one is the request for the content.
#[derive(Clone)]
pub(crate) struct OutboundRequest {
    pub url: Url,
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Option<String>,
}

/// The sender of HTTP requests through the guard and the proxies.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    proxies: Arc<ProxyPool>,
    guard: Guard,
    keep_url_credentials: bool,
}

impl Sender {
    /// Creates a sender with these settings.
    pub fn new(
        fetcher: &settings::Fetcher,
        proxy: &settings::Proxy,
        interface: Option<Arc<dyn Interface>>,
    ) -> Result<Self, ClientError> {
        let guard = Guard::new(fetcher, proxy);
        Ok(Self {
            proxies: Arc::new(ProxyPool::new(fetcher, proxy, guard.clone(), interface)?),
            guard,
            keep_url_credentials: fetcher.allow_credential_headers,
        })
    }

    /// Returns the policy for hosts and addresses.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Returns a session of this owner. Owners do not share connections.
    pub fn session(&self, owner: &UserId) -> Session<'_> {
        self.proxies.session(owner)
    }

    /// Checks the health of every proxy. Returns a failure if none works.
    pub async fn check_proxy(&self) -> Result<ProxyHealth, Failure> {
        self.proxies.check().await
    }

    /// Returns the numbers of proxies by state.
    pub fn proxy_states(&self) -> ProxyStates {
        self.proxies.states()
    }

    /// Sends one HTTP request if the guard allows its URL. Repeats a GET once if the transfer breaks before the
    /// response.
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
            // Errors are ignored: a URL without authority cannot carry credentials.
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
            // The origin may have closed an idle connection just as it was reused (RFC 9112, 9.3.1).
            Err(FetchError::Failed { failure, .. }) if failure.code == FailureCode::TransferBroken && repeated => {
                session.send(repeated, make).await
            }
            result => result,
        }
    }
}
