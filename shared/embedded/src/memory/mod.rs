//! What lives as long as the process: peers, tasks, rate windows, watchers.

pub(crate) mod swarm;
pub(crate) mod task_queue;
pub(crate) mod watchers;
pub(crate) mod windows;
