//! Media type sniffing from the first bytes of a content.

use serde::{Deserialize, Serialize};

use crate::policy::media_type;

/// The first bytes of a content until its media type is sniffed, then the result.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct SniffBuffer {
    pub bytes: Vec<u8>,
    /// Whether sniffing is done.
    pub told: bool,
    /// The sniffed media type.
    pub shows: Option<String>,
    pub markup: bool,
}

impl SniffBuffer {
    /// Adds bytes. Returns whether this call completed the sniffing.
    pub fn take(&mut self, chunk: &[u8]) -> bool {
        if self.told {
            return false;
        }
        // Leading white space is skipped: markup may start after any amount of it.
        let chunk = if self.bytes.is_empty() { chunk.trim_ascii_start() } else { chunk };
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(media_type::SNIFF)]);
        self.bytes.len() >= media_type::SNIFF && self.end()
    }

    /// Sniffs the bytes collected so far. Returns whether this call completed the sniffing.
    pub fn end(&mut self) -> bool {
        if self.told {
            return false;
        }
        self.told = true;
        self.shows = media_type::sniff(&self.bytes).map(str::to_owned);
        self.markup = media_type::is_markup(&self.bytes);
        self.bytes = vec![];
        true
    }
}
