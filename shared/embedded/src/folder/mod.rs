//! Content store in a folder.

pub(crate) mod contents;
pub(crate) mod space;
