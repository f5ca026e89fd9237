//! Whatever befalls a call to AWS, a request ends ready, once, or failed with its reason.

use domain::Status;
use tokio_util::sync::CancellationToken;

use crate::wire::{Fault, Life};
use crate::world::{World, content, undisturbed};

/// Takes a request through its life with this fault; how many calls it was.
async fn live(world: &World, fault: Fault, size: usize, seed: usize, deliveries: usize) -> usize {
    let life = Life::new(fault);
    let context = format!("{fault:?}, {size} bytes");
    let id = world.create(&life, &format!("{size}/{seed}")).await;
    let row = world.settle(&life, id, deliveries).await;
    world.assert_ready(&row, &content(size, seed), &context).await;
    if fault == Fault::None {
        assert_eq!(world.staged().await, 0, "{context}: without a sweep");
    }
    world.assert_nothing_staged(&context).await;
    let owned = world.observer.requests.list(&row.owner, None, None, 1000).await.unwrap();
    let mine = owned.iter().filter(|other| other.spec.url == row.spec.url).count();
    assert_eq!(mine, 1, "{context}: one request was made");
    life.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_be_killed_after_any_call() {
    let world = World::new().await;
    let calls = live(&world, Fault::None, 1_000, 0, 1).await;
    assert!((15..60).contains(&calls), "{calls}");
    for nth in 1..=calls {
        live(&world, Fault::Killed(nth), 1_000, nth, 1).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_be_killed_after_any_call_of_a_large_content() {
    let world = World::new().await;
    let size = (16 << 20) + 1;
    let calls = live(&world, Fault::None, size, 0, 1).await;
    for nth in 1..=calls {
        live(&world, Fault::Killed(nth), size, nth, 1).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_may_be_throttled_or_its_answer_lost() {
    let world = World::new().await;
    let calls = live(&world, Fault::None, 1_000, 0, 1).await;
    for nth in 1..=calls {
        // The SDK tries three times.
        for (i, fault) in [Fault::Lost(nth), Fault::Refused(nth, 1), Fault::Refused(nth, 4)].into_iter().enumerate() {
            live(&world, fault, 1_000, nth * 10 + i, 1).await;
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_may_come_twice_and_out_of_order() {
    let world = World::new().await;
    for seed in 1..=10 {
        live(&world, Fault::None, 1_000, seed, 2).await;
    }
    // Several at once, two of each URL.
    let life = undisturbed();
    let mut ids = vec![];
    for seed in [21, 22, 23, 21, 22, 23] {
        ids.push((world.create(&life, &format!("1000/{seed}")).await, seed));
    }
    for (id, seed) in ids {
        let row = world.settle(&life, id, 2).await;
        world.assert_ready(&row, &content(1_000, seed), "at once").await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_nothing() {
    let world = World::new().await;
    for (seed, hours) in [(1, 1), (2, 24 * 30)] {
        let life = undisturbed();
        let id = world.create(&life, &format!("1000/{seed}")).await;
        world.clock.advance(std::time::Duration::from_secs(hours * 3600));
        let row = world.settle(&life, id, 1).await;
        world.assert_ready(&row, &content(1_000, seed), "later").await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_work_never_ends_fails_with_its_reason() {
    let world = World::new().await;
    let life = undisturbed();
    let id = world.create(&life, "1000/1").await;
    // Every process that takes it dies at once, until the queue gives the message up.
    for _ in 0..5 {
        let dies = Life::new(Fault::Killed(1));
        assert!(!world.handle(&dies, ports::Wakeup::Fetch(id), CancellationToken::new()).await);
        world.clock.advance(pipeline::LEASE);
    }
    world.observer.give_up().run(ports::Wakeup::Fetch(id)).await.unwrap();
    let row = world.row(id).await;
    assert_eq!(row.status, Status::Failed);
    assert!(row.failure.unwrap().message.contains("never ended"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_at_any_call_leaves_nothing() {
    let world = World::new().await;
    let undisturbed = undisturbed();
    let calls = live(&world, Fault::None, 1_000, 0, 1).await;
    let mut ids = vec![];
    for nth in 1..=calls {
        // Killed on its way to ready, and cancelled then.
        let life = Life::new(Fault::Killed(nth));
        let id = world.create(&life, &format!("1000/{nth}")).await;
        while life.count() < nth && world.deliver(&life, 1).await {}
        ids.push(id);
        world.cancel(id).await;
        world.run_down(&undisturbed).await;
        // Killed on its way from ready to nothing.
        let id = world.create(&undisturbed, &format!("1000/{}", 1_000 + nth)).await;
        world.settle(&undisturbed, id, 1).await;
        ids.push(id);
        world.cancel(id).await;
        world.run_down(&Life::new(Fault::Killed(nth))).await;
        world.run_down(&undisturbed).await;
    }
    for id in ids {
        let row = world.row(id).await;
        assert_eq!((row.status, row.due_at), (Status::Cancelled, None), "{row:#?}");
    }
    world.reconcile().await;
    world.run_down(&undisturbed).await;
    world.assert_nothing_staged("in the end").await;
    assert_eq!(world.stored().await, [] as [String; 0]);
    world.stop().await;
}
