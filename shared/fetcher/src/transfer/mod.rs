//! Transfer of one content: receives, checks, decodes, hashes and stores it as a stream; suspends and resumes it.

pub(crate) mod checkpoint;
pub(crate) mod declared;
mod decode;
mod digests;
pub(crate) mod download;
pub(crate) mod limits;
mod min_rate;
pub(crate) mod progress;
mod range;
pub(crate) mod receive;
pub(crate) mod sniff;
pub(crate) mod stream_hasher;
