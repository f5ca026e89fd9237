//! The ports: the capabilities that the pipeline, the API and the seeder need, one trait each.
//!
//! `embedded` implements them on SQLite, a folder and channels, `aws` on DynamoDB, S3 and SQS. A step or a handler takes only
//! the ports that it needs. The [`contract`] suites define what every backend must do, and run against each of them.

mod check;
mod clock;
mod contents;
mod endpoints;
mod error;
mod fleet;
mod rate_limiter;
mod requests;
mod reservations;
mod seeder;
mod seeders;
mod statistics;
mod stores;
mod swarm;
mod task_queue;
mod torrents;
mod unreadable;
mod upload_limiter;
mod verified_reader;

#[cfg(feature = "contract")]
pub mod contract;

pub use check::Check;
pub use clock::{Clock, ManualClock, SystemClock};
pub use contents::{Contents, LINK_VALIDITY, Removal, StagedUpload, StagingEntry, UploadToken};
pub use endpoints::{Endpoints, home_session};
pub use error::StoreError;
pub use fleet::{Fleet, FleetMember, Place};
pub use rate_limiter::{Decision, Limit, RateLimiter, Usage};
pub use requests::{
    Applied, Claim, Condition, ContentReference, Deduplication, DueNotification, IdenticalRequests, NotificationQueue,
    QuotaUsage, Requests,
};
pub use reservations::{Guards, Reservations};
pub use seeder::{SeedError, Seeder};
pub use seeders::{RunningSeeder, Seeders};
pub use statistics::{Statistics, Transferred};
pub use stores::Stores;
pub use swarm::{Announce, MAX_PEERS_PER_ADDRESS, Peer, Swarm, SwarmCounts, client_network, select_peers};
pub use task_queue::{Share, Task, TaskQueue};
pub use torrents::{LiveTorrent, Torrents};
pub use unreadable::Unreadable;
pub use upload_limiter::UploadLimiter;
pub use verified_reader::VerifiedReader;
