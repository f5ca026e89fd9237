//! The wiring of the Lambda functions. Each binary names the ports that it takes; its role in `template.yaml` allows the
//! same. A port that it does not name refuses every call.

mod backend;
mod denied_port;
mod http;
mod queue;

pub use api::endpoints;
pub use backend::{Backend, ORPHAN_INTERVAL, SWEEP_LIMIT, port};
pub use http::{routes, serve};
pub use queue::{Handled, consume, scheduled};
pub use settings::Role;

/// The error of a function that cannot start, or failed.
pub type Error = lambda_runtime::Error;
