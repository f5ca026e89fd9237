//! Content metadata from the response head.

use domain::{FailureCode, MediaType};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use reqwest::Response;

use super::checkpoint::Checkpoint;
use super::decode::{Coding, coding};
use super::limits::TransferLimits;
use crate::error::FetchError;

/// The metadata that the response head declares.
pub(crate) struct Declared {
    pub coding: Option<Coding>,
    pub media_type: Option<MediaType>,
    pub disposition: Option<String>,
    pub origin_status: u16,
}

impl Declared {
    /// Checks the response head against the limits and returns the declared metadata.
    pub fn check(response: &Response, limits: &TransferLimits) -> Result<Self, FetchError> {
        let headers = response.headers();
        // The HTTP client has already decoded `chunked`, but no other transfer coding.
        if headers.get_all(TRANSFER_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            let message = "the origin used a transfer coding that was not requested; only chunked is supported";
            return Err(FetchError::new(FailureCode::BadEncoding, message));
        }
        let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(length) = header(CONTENT_LENGTH).and_then(|length| length.parse().ok()) {
            limits.check_size(length)?;
        }
        let declared = header(CONTENT_TYPE).and_then(|header| header.parse::<MediaType>().ok());
        if let Some(declared) = &declared {
            limits.check_media_type(declared.as_str(), "declared")?;
        }
        let disposition = headers.get(CONTENT_DISPOSITION);
        Ok(Self {
            coding: coding(headers, declared.as_ref().map(MediaType::as_str))?,
            media_type: declared,
            disposition: disposition.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            origin_status: response.status().as_u16(),
        })
    }

    /// Returns the metadata of the first response, from the checkpoint of a suspended fetch.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            coding: None,
            media_type: checkpoint.media_type.clone(),
            disposition: checkpoint.disposition.clone(),
            origin_status: checkpoint.origin_status,
        }
    }
}
