//! Content store in a folder.

mod content_files;
pub(crate) mod contents;
pub(crate) mod space;
mod staged;
