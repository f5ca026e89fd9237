//! A fair queue: owners are served in turn, with limits per owner and per origin host.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::{Backlog, FetchQueue};
use domain::{RequestId, UserId};
use ports::Share;
use tokio::sync::Notify;

/// The most requests that run at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In all.
    pub all: usize,
    /// Of one owner.
    pub owner: usize,
    /// Of one owner and one origin host: a slow origin must not take all places of an owner, and the requests of one owner
    /// to a host must not block those of another.
    pub host: usize,
}

/// Requests that wait for a step, each once.
#[derive(Debug)]
pub(super) struct FairQueue {
    bounds: Bounds,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Owners with waiting requests, next one first.
    turns: VecDeque<UserId>,
    owners: HashMap<UserId, Owner>,
    /// The waiting requests, and since when they wait.
    waiting: HashMap<RequestId, Instant>,
    running: usize,
    /// The moving average of durations over all owners, in seconds.
    average: Option<f64>,
}

/// The waiting and running requests of one owner.
#[derive(Debug, Default)]
struct Owner {
    /// Hosts with waiting requests, next one first.
    turns: VecDeque<String>,
    hosts: HashMap<String, VecDeque<RequestId>>,
    waiting: usize,
    running: usize,
    running_by_host: HashMap<String, usize>,
    /// The moving average of durations, in seconds.
    average: Option<f64>,
}

/// A request whose turn has come. Dropping this frees its place.
#[derive(Debug)]
pub(super) struct Turn {
    pub id: RequestId,
    share: Share,
    queue: Arc<FairQueue>,
    started: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.finished(&self.share, self.started.elapsed());
    }
}

impl FairQueue {
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::default(), changed: Notify::new() })
    }

    /// The number of requests that wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// How long the oldest waiting request has waited.
    pub fn oldest(&self) -> Duration {
        self.state().waiting.values().min().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Whether the request waits already; then a second task adds nothing.
    pub fn is_waiting(&self, id: RequestId) -> bool {
        self.state().waiting.contains_key(&id)
    }

    pub fn push(&self, share: Share, id: RequestId) {
        let mut state = self.state();
        let Entry::Vacant(place) = state.waiting.entry(id) else { return };
        place.insert(Instant::now());
        let State { turns, owners, .. } = &mut *state;
        let owner = owners.entry(share.owner.clone()).or_default();
        if owner.waiting == 0 {
            turns.push_back(share.owner);
        }
        owner.waiting += 1;
        let queue = owner.hosts.entry(share.host.clone()).or_default();
        if queue.is_empty() {
            owner.turns.push_back(share.host);
        }
        queue.push_back(id);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next request: of the next owner that is within its limits.
    pub async fn next(self: &Arc<Self>) -> Turn {
        loop {
            let changed = self.changed.notified();
            if let Some((share, id)) = self.state().take(self.bounds) {
                return Turn { id, share, queue: self.clone(), started: Instant::now() };
            }
            changed.await;
        }
    }

    fn finished(&self, share: &Share, took: Duration) {
        let mut state = self.state();
        state.running -= 1;
        average(&mut state.average, took);
        if let Some(owner) = state.owners.get_mut(&share.owner) {
            owner.running -= 1;
            if let Some(count) = owner.running_by_host.get_mut(&share.host) {
                *count -= 1;
                if *count == 0 {
                    owner.running_by_host.remove(&share.host);
                }
            }
            average(&mut owner.average, took);
            if owner.running == 0 && owner.waiting == 0 {
                state.owners.remove(&share.owner);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FetchQueue for FairQueue {
    fn backlog(&self, owner: &UserId) -> Backlog {
        let state = self.state();
        let own = state.owners.get(owner);
        let others = state.owners.iter().filter(|(name, other)| *name != owner && other.waiting > 0).count();
        let at_once = (self.bounds.all / (others + 1)).clamp(1, self.bounds.owner);
        let average = own.and_then(|own| own.average).or(state.average);
        Backlog {
            ahead: own.map_or(0, |own| own.waiting + own.running),
            at_once,
            average: average.map(Duration::from_secs_f64),
        }
    }

    fn ahead(&self, owner: &UserId, id: RequestId) -> Option<usize> {
        let state = self.state();
        if !state.waiting.contains_key(&id) {
            return None;
        }
        // Ids are ordered by time.
        let waiting = state.owners.get(owner)?.hosts.values().flatten();
        Some(waiting.filter(|other| **other < id).count())
    }
}

fn average(average: &mut Option<f64>, took: Duration) {
    let took = took.as_secs_f64();
    *average = Some(average.map_or(took, |average| average * 0.875 + took * 0.125));
}

impl State {
    fn take(&mut self, bounds: Bounds) -> Option<(Share, RequestId)> {
        if self.running >= bounds.all {
            return None;
        }
        for _ in 0..self.turns.len() {
            let name = self.turns.pop_front()?;
            let owner = self.owners.get_mut(&name)?;
            let found = if owner.running < bounds.owner { owner.take(bounds.host) } else { None };
            let still_waits = owner.waiting > 0;
            if still_waits {
                self.turns.push_back(name.clone());
            }
            if let Some((host, id)) = found {
                self.waiting.remove(&id);
                self.running += 1;
                return Some((Share { owner: name, host }, id));
            }
        }
        None
    }
}

impl Owner {
    /// Returns the next request to a host that is within its limit. Few hosts can be at their limit at once, so the search
    /// is short.
    fn take(&mut self, bound: usize) -> Option<(String, RequestId)> {
        for _ in 0..self.turns.len() {
            let host = self.turns.pop_front()?;
            if self.running_by_host.get(&host).is_some_and(|running| *running >= bound) {
                self.turns.push_back(host);
                continue;
            }
            let queue = self.hosts.get_mut(&host)?;
            let id = queue.pop_front()?;
            if queue.is_empty() {
                self.hosts.remove(&host);
            } else {
                self.turns.push_back(host.clone());
            }
            self.waiting -= 1;
            self.running += 1;
            *self.running_by_host.entry(host.clone()).or_default() += 1;
            return Some((host, id));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn share(owner: &str, host: &str) -> Share {
        Share { owner: UserId::new(owner), host: host.into() }
    }

    fn queue(all: usize, owner: usize, host: usize) -> Arc<FairQueue> {
        FairQueue::new(Bounds { all, owner, host })
    }

    fn next(queue: &Arc<FairQueue>) -> Option<Turn> {
        queue.next().now_or_never()
    }

    fn owner_of(turn: &Turn) -> &str {
        turn.share.owner.as_str()
    }

    #[test]
    fn owners_are_served_in_turn() {
        let queue = queue(10, 10, 10);
        for _ in 0..3 {
            queue.push(share("alice", "a"), RequestId::new());
        }
        queue.push(share("bob", "a"), RequestId::new());
        let turns: Vec<_> = std::iter::from_fn(|| next(&queue)).collect();
        assert_eq!(turns.iter().map(owner_of).collect::<Vec<_>>(), ["alice", "bob", "alice", "alice"]);
    }

    #[test]
    fn an_owner_at_the_bound_leaves_places_to_others() {
        let queue = queue(4, 2, 10);
        for _ in 0..10 {
            queue.push(share("alice", "a"), RequestId::new());
        }
        let held: Vec<_> = std::iter::from_fn(|| next(&queue)).collect();
        assert_eq!(held.len(), 2);
        queue.push(share("bob", "a"), RequestId::new());
        let bob = next(&queue).expect("a place");
        assert_eq!(owner_of(&bob), "bob");
        drop(held);
        assert_eq!(std::iter::from_fn(|| next(&queue)).count(), 8, "each place is free again");
    }

    #[test]
    fn a_host_at_the_bound_does_not_hold_up_other_hosts() {
        let queue = queue(10, 10, 2);
        for _ in 0..5 {
            queue.push(share("alice", "slow"), RequestId::new());
        }
        queue.push(share("alice", "fast"), RequestId::new());
        let held: Vec<_> = std::iter::from_fn(|| next(&queue)).collect();
        let hosts: Vec<_> = held.iter().map(|turn| turn.share.host.as_str()).collect();
        assert_eq!(hosts, ["slow", "fast", "slow"]);
        drop(held);
        assert_eq!(next(&queue).map(|turn| turn.share.host.clone()).as_deref(), Some("slow"));
    }

    #[test]
    fn a_request_waits_once_and_nothing_is_left_behind() {
        let queue = queue(1, 1, 1);
        let id = RequestId::new();
        queue.push(share("alice", "a"), id);
        queue.push(share("alice", "a"), id);
        assert!(queue.is_waiting(id) && queue.oldest() > Duration::ZERO);
        assert_eq!(queue.backlog(&UserId::new("alice")).ahead, 1);
        let turn = next(&queue).expect("a turn");
        assert!(next(&queue).is_none() && !queue.is_waiting(id));
        assert_eq!(queue.oldest(), Duration::ZERO);
        drop(turn);
        let state = queue.state();
        assert!(state.owners.is_empty() && state.turns.is_empty());
        assert_eq!((state.running, state.waiting.len()), (0, 0));
    }
}
