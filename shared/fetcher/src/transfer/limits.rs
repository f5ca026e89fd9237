//! The limits of a transfer: size, rate, resumptions and media types.

use domain::FailureCode;

use super::sniff::SniffBuffer;
use crate::error::FetchError;
use crate::policy::media_type;

/// The limits that the settings give.
#[derive(Debug, Clone)]
pub(crate) struct TransferLimits {
    /// The most bytes of a content, decoded.
    pub max_size: u64,
    /// The least bytes a second, on average.
    pub min_rate: u64,
    /// The most resumptions in a row that bring nothing.
    pub max_resumptions: u32,
    /// Media types that are allowed.
    pub whitelist: Vec<String>,
}

impl TransferLimits {
    /// The limits of these settings.
    pub fn new(fetcher: &settings::Fetcher) -> Self {
        Self {
            max_size: fetcher.max_size.get(),
            min_rate: fetcher.min_rate.get(),
            max_resumptions: fetcher.max_retries.get() as u32,
            whitelist: fetcher.mime_whitelist.clone(),
        }
    }

    pub fn check_size(&self, size: u64) -> Result<(), FetchError> {
        if size <= self.max_size {
            return Ok(());
        }
        let message =
            format!("the content has more than {} bytes, the most that FETCHER__MAX_SIZE allows", self.max_size);
        Err(FetchError::new(FailureCode::TooLarge, message))
    }

    /// Checks a media type against the whitelist. `how` says where it comes from.
    pub fn check_media_type(&self, essence: &str, how: &str) -> Result<(), FetchError> {
        if media_type::is_allowed(&self.whitelist, essence) {
            return Ok(());
        }
        let message = format!("the {how} type {essence} is not on the list FETCHER__MIME_WHITELIST");
        Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
    }

    /// Checks the type that the first bytes show against the whitelist and against what was declared.
    pub fn check_shown(&self, declared: Option<&str>, beginning: &SniffBuffer) -> Result<(), FetchError> {
        let shown = beginning.shows.as_deref();
        if let Some(shown) = shown {
            self.check_media_type(shown, "actual")?;
        }
        match declared {
            Some(declared) if media_type::contradicts(declared, shown, beginning.markup) => {
                let message = format!("declared as {declared}, but its bytes are {}", shown.unwrap_or("markup"));
                Err(FetchError::new(FailureCode::MediaTypeNotAllowed, message))
            }
            _ => Ok(()),
        }
    }
}
