//! HTTP client for services that the operator has set, such as a notification service or an issuer of tokens.

use std::time::Duration;

use domain::{Failure, UserId};
use http::{HeaderMap, Request, StatusCode};
use url::Url;

use crate::connection::client::ClientError;
use crate::direct::DirectClient;
use crate::fetcher::Fetcher;

/// A client of one service: as fetches are sent, through the guard and the proxy, or directly.
#[derive(Debug, Clone)]
pub struct OperatorClient {
    route: Route,
    timeout: Duration,
}

#[derive(Debug, Clone)]
enum Route {
    Fetcher(Fetcher),
    Direct(DirectClient),
}

/// The client of a service cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum OperatorClientError {
    /// The guard refuses the URL.
    #[error("{0}; a service on your own network must be connected to directly")]
    Blocked(Failure),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl OperatorClient {
    /// Creates the client of the service at `url`. `timeout` limits each call, with its response.
    pub fn new(fetcher: &Fetcher, direct: bool, url: &Url, timeout: Duration) -> Result<Self, OperatorClientError> {
        let route = if direct {
            Route::Direct(DirectClient::new(timeout)?)
        } else {
            fetcher.guard().check_url(url).map_err(OperatorClientError::Blocked)?;
            Route::Fetcher(fetcher.clone())
        };
        Ok(Self { route, timeout })
    }

    /// Whether the service is connected to directly.
    pub fn is_direct(&self) -> bool {
        matches!(self.route, Route::Direct(_))
    }

    /// Sends a POST and returns the HTTP status. Users do not share connections through a proxy. The error says why
    /// there is no response.
    pub async fn post(&self, owner: &UserId, url: &Url, headers: HeaderMap, body: String) -> Result<u16, String> {
        match &self.route {
            Route::Fetcher(fetcher) => {
                fetcher.post(owner, url, headers, body, self.timeout).await.map_err(|error| error.to_string())
            }
            Route::Direct(client) => {
                let mut request = Request::post(url.as_str()).body(body.into_bytes()).map_err(|e| e.to_string())?;
                *request.headers_mut() = headers;
                let response = client.send(request).await.map_err(|error| error.to_string())?;
                Ok(response.status().as_u16())
            }
        }
    }

    /// Returns the body of a document of at most 1 MiB. The error says why there is none.
    pub async fn document(&self, url: &Url) -> Result<Vec<u8>, String> {
        match &self.route {
            Route::Fetcher(fetcher) => fetcher.document(url, self.timeout).await.map_err(|error| error.to_string()),
            Route::Direct(client) => {
                let request = Request::get(url.as_str()).body(vec![]).map_err(|error| error.to_string())?;
                let response = client.send(request).await.map_err(|error| error.to_string())?;
                match response.status() {
                    StatusCode::OK => Ok(response.into_body()),
                    status => Err(format!("the service responded {}", status.as_u16())),
                }
            }
        }
    }
}
