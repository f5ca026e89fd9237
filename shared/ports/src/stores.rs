//! The ports of a backend that the steps and the API share.

use std::sync::Arc;

use crate::{Clock, Contents, Requests, Statistics, TaskQueue, Torrents};

/// The ports from which each step, and the API, takes those that it needs.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports document themselves")]
pub struct Stores {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub statistics: Arc<dyn Statistics>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
}
