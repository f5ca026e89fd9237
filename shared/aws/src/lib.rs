//! The ports on AWS: rows in DynamoDB, contents in S3, wake-ups by SQS. The files are named as those of `embedded`.
//!
//! **Invariant**: no call scans a table. Whatever is looked for has an index, and an index that is asked by time is
//! split into parts, so that no part takes all the writes.

mod bucket;
mod clients;
mod contents;
mod dynamo;
mod guards;
mod requests;
mod rows;
pub mod schema;
mod staged;
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
pub use swarm::DynamoSwarm;
pub use task_queue::{Queues, SqsTaskQueue, message, tasks};
pub use torrents::DynamoTorrents;
