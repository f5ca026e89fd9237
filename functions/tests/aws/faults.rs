//! Fault injection on AWS: whatever call fails, a request becomes ready once, or fails with its reason.

use domain::Status;
use pipeline::DeadLetter;
use tokio_util::sync::CancellationToken;

use tests::content;

use crate::env::{TestEnv, undisturbed};
use crate::transport::{Fault, FaultPlan};

/// Creates a request with this fault, waits until it is ready, and checks that nothing is left. Returns the number of
/// AWS calls.
async fn live(env: &TestEnv, fault: Fault, size: usize, seed: usize, deliveries: usize) -> usize {
    let plan = FaultPlan::new(fault);
    let context = format!("{fault:?}, {size} bytes");
    let id = env.create(&plan, &format!("{size}/{seed}")).await;
    let row = env.settle(&plan, id, deliveries).await;
    env.assert_ready(&row, &content(size, seed as u64), &context).await;
    if fault == Fault::None {
        assert_eq!(env.staged().await, 0, "{context}: staged uploads before the sweep");
    }
    env.assert_nothing_staged(&context).await;
    let owned = env.observer.stores.requests.list(&row.owner, None, None, 1000).await.unwrap();
    let mine = owned.iter().filter(|other| other.spec.url == row.spec.url).count();
    assert_eq!(mine, 1, "{context}: one request was created");
    plan.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_be_killed_after_any_call() {
    let env = TestEnv::new().await;
    let calls = live(&env, Fault::None, 1_000, 0, 1).await;
    assert!((15..60).contains(&calls), "{calls}");
    for nth in 1..=calls {
        live(&env, Fault::Killed(nth), 1_000, nth, 1).await;
    }
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_be_killed_after_any_call_of_a_large_content() {
    let env = TestEnv::new().await;
    let size = (16 << 20) + 1;
    let calls = live(&env, Fault::None, size, 0, 1).await;
    for nth in 1..=calls {
        live(&env, Fault::Killed(nth), size, nth, 1).await;
    }
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_may_be_throttled_or_lose_its_response() {
    let env = TestEnv::new().await;
    let calls = live(&env, Fault::None, 1_000, 0, 1).await;
    for nth in 1..=calls {
        // The SDK tries each call three times: it hides one refusal, while four make the call fail.
        for (i, fault) in [Fault::Lost(nth), Fault::Refused(nth, 1), Fault::Refused(nth, 4)].into_iter().enumerate() {
            live(&env, fault, 1_000, nth * 10 + i, 1).await;
        }
    }
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_may_be_delivered_twice_and_out_of_order() {
    let env = TestEnv::new().await;
    for seed in 1..=10 {
        live(&env, Fault::None, 1_000, seed, 2).await;
    }
    // Several requests at once, two for each URL.
    let plan = undisturbed();
    let mut ids = vec![];
    for seed in [21, 22, 23, 21, 22, 23] {
        ids.push((env.create(&plan, &format!("1000/{seed}")).await, seed));
    }
    for (id, seed) in ids {
        let row = env.settle(&plan, id, 2).await;
        env.assert_ready(&row, &content(1_000, seed), "at once").await;
    }
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_jump_loses_no_request() {
    let env = TestEnv::new().await;
    for (seed, hours) in [(1, 1), (2, 24 * 30)] {
        let plan = undisturbed();
        let id = env.create(&plan, &format!("1000/{seed}")).await;
        env.clock.advance(std::time::Duration::from_secs(hours * 3600));
        let row = env.settle(&plan, id, 1).await;
        env.assert_ready(&row, &content(1_000, seed), "later").await;
    }
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_step_never_ends_fails_with_its_reason() {
    let env = TestEnv::new().await;
    let plan = undisturbed();
    let id = env.create(&plan, "1000/1").await;
    // Every process that receives the task is killed at once, until SQS moves it to the dead-letter queue.
    for _ in 0..5 {
        let dies = FaultPlan::new(Fault::Killed(1));
        assert!(!env.handle(&dies, ports::Task::Fetch(id), CancellationToken::new()).await);
        env.clock.advance(pipeline::LEASE);
    }
    DeadLetter::new(&env.observer.stores).run(ports::Task::Fetch(id)).await.unwrap();
    let row = env.row(id).await;
    assert_eq!(row.status, Status::Failed);
    assert!(row.failure.unwrap().message.contains("never ended"));
    env.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cancelled_at_any_call_leaves_nothing() {
    let env = TestEnv::new().await;
    let undisturbed = undisturbed();
    let calls = live(&env, Fault::None, 1_000, 0, 1).await;
    let mut ids = vec![];
    for nth in 1..=calls {
        // A process is killed before the request is ready; then the request is cancelled.
        let plan = FaultPlan::new(Fault::Killed(nth));
        let id = env.create(&plan, &format!("1000/{nth}")).await;
        while plan.count() < nth && env.deliver(&plan, 1).await {}
        ids.push(id);
        env.cancel(id).await;
        env.run_down(&undisturbed).await;
        // A process is killed during the release of a cancelled request.
        let id = env.create(&undisturbed, &format!("1000/{}", 1_000 + nth)).await;
        env.settle(&undisturbed, id, 1).await;
        ids.push(id);
        env.cancel(id).await;
        env.run_down(&FaultPlan::new(Fault::Killed(nth))).await;
        env.run_down(&undisturbed).await;
    }
    for id in ids {
        let row = env.row(id).await;
        assert_eq!((row.status, row.due_at), (Status::Cancelled, None), "{row:#?}");
    }
    env.collect_orphans().await;
    env.run_down(&undisturbed).await;
    env.assert_nothing_staged("after the collection of orphans").await;
    assert_eq!(env.stored().await, [] as [String; 0]);
    env.stop().await;
}
