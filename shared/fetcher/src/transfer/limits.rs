//! Limits of a transfer: size, rate, resumptions and media types.

use domain::{FailureCode, MediaType};

use super::sniff::SniffBuffer;
use crate::error::FetchError;
use crate::policy::media_type;

/// The limits of a transfer, from the settings.
#[derive(Debug, Clone)]
pub(crate) struct TransferLimits {
    /// The maximum size of the decoded content in bytes.
    pub max_size: u64,
    /// The minimum average rate in bytes per second.
    pub min_rate: u64,
    /// The maximum number of failed resumptions in a row.
    pub max_resumptions: u32,
    /// The allowed media types.
    pub whitelist: Vec<String>,
}

impl TransferLimits {
    /// Returns the limits of these settings.
    pub fn new(fetcher: &settings::Fetcher) -> Self {
        Self {
            max_size: fetcher.max_size.get(),
            min_rate: fetcher.min_rate.get(),
            max_resumptions: fetcher.max_retries.get_u32(),
            whitelist: fetcher.mime_whitelist.clone(),
        }
    }

    pub fn check_size(&self, size: u64) -> Result<(), FetchError> {
        if size <= self.max_size {
            return Ok(());
        }
        let message = format!("the content has more than {} bytes, the maximum of FETCHER__MAX_SIZE", self.max_size);
        Err(FetchError::new(FailureCode::TooLarge, message))
    }

    /// Checks a media type against the whitelist. `how` is its origin, for the error message.
    pub fn check_media_type(&self, essence: &str, how: &str) -> Result<(), FetchError> {
        if media_type::is_allowed(&self.whitelist, essence) {
            return Ok(());
        }
        let message = format!("the {how} media type {essence} is not in FETCHER__MIME_WHITELIST");
        Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
    }

    /// Checks the sniffed media type against the whitelist and against the declared type.
    pub fn check_shown(&self, declared: Option<&MediaType>, beginning: &SniffBuffer) -> Result<(), FetchError> {
        let shown = beginning.shows.as_deref();
        if let Some(shown) = shown {
            self.check_media_type(shown, "detected")?;
        }
        match declared {
            Some(declared) if media_type::contradicts(declared.as_str(), shown, beginning.markup) => {
                let message = format!("the content is declared as {declared}, but is {}", shown.unwrap_or("markup"));
                Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
            }
            _ => Ok(()),
        }
    }
}
