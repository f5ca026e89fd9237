//! AWS adapters of the ports: rows in DynamoDB, contents in S3, task queue on SQS. The files have the same names as
//! in `embedded`.
//!
//! **Invariant**: no call scans a table. Every query has an index, and an index by time is sharded, so that no single
//! partition receives all writes.

mod bucket;
mod clients;
mod contents;
mod dynamo;
mod guards;
mod requests;
mod rows;
pub mod schema;
mod seeders;
mod staged;
mod statistics;
mod swarm;
mod task_queue;
mod torrents;
mod touches;
mod transitions;

pub use bucket::Bucket;
pub use clients::{Clients, http_client};
pub use contents::S3Contents;
pub use guards::DynamoGuards;
pub use requests::DynamoRequests;
pub use seeders::DynamoSeeders;
pub use statistics::DynamoStatistics;
pub use swarm::DynamoSwarm;
pub use task_queue::{Queues, SqsTaskQueue, message, tasks};
pub use torrents::DynamoTorrents;
