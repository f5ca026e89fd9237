//! A limit of what runs at once: for all clients together, and for each of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ports::client_network;

/// A limit of what runs at once, in all and for each client network.
#[derive(Debug)]
pub(crate) struct ClientLimit {
    limit: usize,
    limit_per_network: usize,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    all: usize,
    /// How many each client has.
    of: HashMap<Option<IpAddr>, usize>,
}

/// A permit to run. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<ClientLimit>,
    network: Option<IpAddr>,
}

impl ClientLimit {
    /// At most `limit` at once, and `limit_per_network` for each client.
    pub fn new(limit: usize, limit_per_network: usize) -> Arc<Self> {
        Arc::new(Self { limit, limit_per_network, running: Mutex::default() })
    }

    /// Returns a permit for a client, or `None` if a limit is reached. Clients whose address is `None` count as one.
    pub fn start(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Permit> {
        self.start_within(self.limit_per_network, client.map(client_network))
    }

    /// Returns a permit for one of many clients behind a proxy, or `None` if the limit for all is reached.
    pub fn start_for_proxy(self: &Arc<Self>) -> Option<Permit> {
        self.start_within(self.limit, None)
    }

    fn start_within(self: &Arc<Self>, limit_per_network: usize, network: Option<IpAddr>) -> Option<Permit> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = running.of.get(&network).copied().unwrap_or_default();
        if running.all >= self.limit || of_client >= limit_per_network {
            return None;
        }
        running.all += 1;
        running.of.insert(network, of_client + 1);
        Some(Permit { of: self.clone(), network })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.of.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.all -= 1;
        if let Some(count) = running.of.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                running.of.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_in_all_and_for_each_client() {
        let limit = ClientLimit::new(200, 25);
        let start = |address: &str| limit.start(Some(address.parse().unwrap()));
        let one: Vec<_> = std::iter::from_fn(|| start("2001:db8::1")).collect();
        assert_eq!(one.len(), 25);
        assert!(start("2001:db8::2").is_none(), "of the same /64");
        let many: Vec<_> = (0..=255).filter_map(|last| start(&format!("192.0.2.{last}"))).collect();
        assert_eq!(many.len(), 175);
        drop(one);
        assert!(start("2001:db8::2").is_some());
        drop(many);
        let running = limit.running.lock().unwrap();
        assert_eq!((running.all, running.of.len()), (0, 0));
    }
}
