//! The first bytes of a content, from which its media type is recognized.

use serde::{Deserialize, Serialize};

use crate::policy::media_type;

/// The first bytes of a content, by which its type is told.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct SniffBuffer {
    pub bytes: Vec<u8>,
    pub told: bool,
    pub shows: Option<String>,
    pub markup: bool,
}

impl SniffBuffer {
    /// True if there are enough bytes now, and were not before.
    pub fn take(&mut self, chunk: &[u8]) -> bool {
        if self.told {
            return false;
        }
        // What is markup is so behind any amount of white space.
        let chunk = if self.bytes.is_empty() { chunk.trim_ascii_start() } else { chunk };
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(media_type::SNIFF)]);
        self.bytes.len() >= media_type::SNIFF && self.end()
    }

    /// Tells by what there is; true if it was not told before.
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
