//! The steps of a request: fetch, package, seed, release; the sweep that keeps them going, and the telling of
//! their end.
//!
//! **The store is the truth, a wake-up only a hint.** A step claims its row with one conditional
//! write, works, and saves it with another; so a lost message costs a minute, a duplicated one
//! nothing, a killed worker one lease, and a cancel is seen at the next write.
//!
//! Each step is a struct of the ports it needs and no other, with one `run`. No step knows what it
//! runs on.

mod collect_orphans;
mod dead_letter;
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
pub use fetch::Fetch;
pub use notify::{Notify, WebhookKey};
pub use package::{Package, Salt};
pub use release::Release;
pub use scrub::{Scrub, ScrubFindings};
pub use seed::{Seed, SeedStepError};
pub use sweep::{Sweep, Swept};

use std::time::Duration;

/// For how long a worker may be silent before its row is given to another.
pub const LEASE: Duration = Duration::from_secs(60);

/// How long after its last touch a content that nothing refers to is kept: longer than it takes from
/// finding a content to referring to it.
pub const GRACE: Duration = LEASE;

/// For how long what has come in of a content is kept at the most, from when it began.
const SUSPENDED: Duration = Duration::from_secs(12 * 3600);

/// What a run of a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row moved on.
    Done,
    /// There was nothing to do: another has the row, or it is not due, or it has ended.
    Nothing,
    /// The step was left off, and goes on where it stopped.
    Suspended,
    /// The row was cancelled, or taken by another, while this worker was at it.
    Lost,
    /// The step failed, and is to be tried again.
    Retried,
    /// The request has failed.
    Failed,
}
