//! The steps of a request (fetch, package, seed, release, notify) and the periodic work: sweep, orphan collection, scrub.
//!
//! **The row is the source of truth, a task is a hint.** A step claims its row with one conditional write, works, and
//! applies a [transition](domain::Transition) with another. So a lost task costs a minute, a duplicate nothing, and a
//! killed worker one lease. A cancel is noticed at the next write.
//!
//! Each step is a struct of the ports that it needs and no others, with one `run`. No step knows its backend.

mod collect_orphans;
mod dead_letter;
mod error;
mod fetch;
mod lease;
mod metrics;
mod notify;
mod package;
mod release;
mod retry;
mod scrub;
mod seed;
mod sweep;

pub use collect_orphans::CollectOrphans;
pub use dead_letter::DeadLetter;
pub use error::StepError;
pub use fetch::Fetch;
pub use metrics::measured;
pub use notify::{BadReceiver, Notify, TorrentFiles, WebhookKey};
pub use package::{Package, Salt};
pub use release::Release;
pub use scrub::{Scrub, ScrubFindings};
pub use seed::{RestoreProgress, Restored, Seed};
pub use sweep::{Sweep, Swept};

use std::time::Duration;

/// How long a worker may be silent before another one can claim its row.
pub const LEASE: Duration = Duration::from_secs(60);

/// How long a content without references is kept after its last touch: longer than the time between finding a content and
/// referring to it.
pub const GRACE: Duration = LEASE;

/// The longest that a suspended fetch can be resumed, counted from its start.
const SUSPENDED: Duration = Duration::from_secs(12 * 3600);

/// The result of a run of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The transition was applied.
    Done,
    /// There was nothing to do: another worker holds the row, it is not due, or it has ended.
    Nothing,
    /// The fetch was suspended and will be resumed.
    Suspended,
    /// The claim was lost: the request was cancelled, or another worker claimed it.
    Lost,
    /// The step failed and will be retried.
    Retried,
    /// The request has failed.
    Failed,
}
