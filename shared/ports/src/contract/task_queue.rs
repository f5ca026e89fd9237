//! Contract test of [`TaskQueue`](crate::TaskQueue).

use std::time::Duration;

use domain::RequestId;

use crate::{Task, TaskQueue};

/// Enqueues a delayed task and then an immediate one. Returns them in the order in which they must arrive; the
/// backend's test receives them.
pub async fn send_a_late_and_an_early_one<W: TaskQueue>(tasks: &W) -> [Task; 2] {
    let (late, early) = (Task::Fetch(RequestId::new()), Task::Package(RequestId::new()));
    tasks.enqueue(late, Duration::from_secs(1)).await.unwrap();
    tasks.enqueue(early, Duration::ZERO).await.unwrap();
    [early, late]
}
