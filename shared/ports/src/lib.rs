//! What the pipeline, the API and the seeder need from the world: one trait per capability.
//!
//! `embedded` has them on SQLite, a folder and channels; a step or handler takes only the ports it
//! needs. The [`contract`] suites say what every backend must do, and run against each of them.

mod clock;
mod contents;
mod error;
mod guards;
mod requests;
mod seeder;
mod swarm;
mod task_queue;
mod torrents;

#[cfg(feature = "contract")]
pub mod contract;

pub use clock::{Clock, ManualClock, SystemClock};
pub use contents::{Contents, Removal, StagedUpload, StagingEntry};
pub use error::StoreError;
pub use guards::{Decision, Guards, Limit, Usage};
pub use requests::{Applied, Claim, Condition, ContentReference, IdenticalRequests, QuotaUsage, Requests};
pub use seeder::{SeedError, Seeder};
pub use swarm::{Announce, MAX_PEERS_PER_ADDRESS, Peer, Swarm, SwarmCounts, client_network, select_peers};
pub use task_queue::{Share, Task, TaskQueue};
pub use torrents::Torrents;
