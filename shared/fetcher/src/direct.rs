//! HTTP client for the operator's own services, such as a BitTorrent client on the same network.

use std::error::Error;
use std::time::Duration;

use http::{Request, Response};
use reqwest::{Client, redirect};

use crate::connection::client::ClientError;

/// The largest body of a response that is kept in memory, in bytes.
pub(crate) const LARGEST_DOCUMENT: usize = 1 << 20;

/// An HTTP client that connects directly and to any address, without the proxy and without the guard. It may be called
/// only with URLs from the settings, and with others at the same origin.
#[derive(Debug, Clone)]
pub struct DirectClient(Client);

/// The error of a call. It contains no URL.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// There is no response.
    #[error("no response: {0}")]
    NoResponse(String),
    /// The body of the response is larger than 1 MiB.
    #[error("the response is too large")]
    TooLarge,
}

impl From<reqwest::Error> for DirectError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::NoResponse("timeout".into());
        }
        let error = error.without_url();
        // The last error of the chain is the cause, such as "Connection refused".
        let chain = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
        Self::NoResponse(chain.last().map(ToString::to_string).unwrap_or_default())
    }
}

impl DirectClient {
    /// Creates a client. `timeout` limits each call, with its response.
    pub fn new(timeout: Duration) -> Result<Self, ClientError> {
        // Ignored: it fails if a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(timeout);
        client.build().map(Self).map_err(|error| ClientError(error.without_url().to_string()))
    }

    /// Sends a request and returns the whole response. Follows no redirect.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, DirectError> {
        let mut received = self.0.execute(request.try_into()?).await?;
        let mut body = vec![];
        while let Some(chunk) = received.chunk().await? {
            if body.len() + chunk.len() > LARGEST_DOCUMENT {
                return Err(DirectError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body);
        *response.status_mut() = received.status();
        *response.headers_mut() = std::mem::take(received.headers_mut());
        Ok(response)
    }
}
