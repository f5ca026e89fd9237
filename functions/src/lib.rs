//! What the Lambda functions are wired of. Each binary names the ports that it takes, which are those that its role in
//! `template.yaml` allows; one that it does not name refuses every call.

mod backend;
mod denied_port;
mod http;
mod queue;

pub use api::endpoints;
pub use backend::{Backend, port};
pub use http::{routes, serve};
pub use queue::{Handled, consume, scheduled};
pub use settings::Role;

/// Why a function cannot start, or gave up.
pub type Error = lambda_runtime::Error;
