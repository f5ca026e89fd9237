//! The transfer of one content: received, checked, decoded, hashed and stored as it comes; suspended and resumed.

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
