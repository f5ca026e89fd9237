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
mod torrents;
mod wakeups;

#[cfg(feature = "contract")]
pub mod contract;

pub use clock::{Clock, ManualClock, SystemClock};
pub use contents::{Contents, Removal, Staged, Staging};
pub use error::StoreError;
pub use guards::{Guards, Limit, Taken, Usage};
pub use requests::{Claim, Holder, Load, Requests, Settlement, Twins};
pub use seeder::{SeedError, Seeder};
pub use swarm::{Announce, MAX_PEERS_PER_ADDRESS, Peer, Swarm, SwarmCounts, neighbourhood, selected};
pub use torrents::Torrents;
pub use wakeups::{Share, Wakeup, Wakeups};
