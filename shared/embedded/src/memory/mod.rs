//! State in memory, lost when the process ends: seeders, swarm, task queue, rate limits.

pub(crate) mod seeders;
pub(crate) mod swarm;
pub(crate) mod task_queue;
pub(crate) mod windows;
