//! The listen addresses, whose port can change while the seeder runs: a VPN forwards another port.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libtorrent_sys::Session;
use ports::Endpoints;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

/// The timeout for the results of opening the listen sockets.
const ANSWER: Duration = Duration::from_secs(10);

/// The timeout for the other addresses of a network interface after one has failed, such as a link-local one that is
/// still being checked for duplicates.
pub(crate) const OTHERS: Duration = Duration::from_secs(2);

/// The error of a change of the listen port. The seeder still listens on the old one.
#[derive(Debug, thiserror::Error)]
#[error("the seeder cannot listen on port {port}: {why}")]
pub struct ListenError {
    /// The port that was requested.
    pub port: u16,
    /// The reason.
    pub why: String,
}

/// The result of opening one listen socket.
#[derive(Debug)]
pub(crate) struct Opened {
    pub port: u16,
    /// The error is the reason.
    pub result: Result<(), String>,
}

/// The most results that wait to be read.
const RESULTS: usize = 256;

/// The listen addresses, and the public addresses that follow from them.
#[derive(Debug)]
pub(crate) struct Listen {
    /// Whether peers are reached through a proxy only. Then none can connect, and there is no public address.
    is_proxied: bool,
    interface: Option<String>,
    listen: Vec<SocketAddr>,
    public: Vec<SocketAddr>,
    /// The number of the session, and where its public addresses are published.
    number: usize,
    endpoints: Arc<watch::Sender<Endpoints>>,
    current: Mutex<Current>,
}

/// What the session listens on. Locked during a change.
#[derive(Debug)]
struct Current {
    listen: Vec<SocketAddr>,
    opened: mpsc::Receiver<Opened>,
    /// The configured public addresses, with their present ports.
    public: Vec<SocketAddr>,
    /// The IP address that all public addresses have, if it is known.
    public_ip: Option<IpAddr>,
}

impl Current {
    /// Returns the addresses at which peers reach the seeder.
    fn addresses(&self) -> Vec<SocketAddr> {
        let mut found: Vec<SocketAddr> = vec![];
        for address in &self.public {
            let address = SocketAddr::new(self.public_ip.unwrap_or(address.ip()), address.port());
            if !address.ip().is_unspecified() && !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }
}

impl Listen {
    /// The state of the session with this number, whose first listen socket has this `port`, with the channel for the results
    /// of opening sockets. If the port `is_forced`, all addresses have it, whatever is configured.
    pub fn new(
        number: usize,
        seeder: &settings::Seeder,
        port: u16,
        is_forced: bool,
        endpoints: Arc<watch::Sender<Endpoints>>,
    ) -> (Self, mpsc::Sender<Opened>) {
        let is_proxied = seeder.proxy.is_some();
        let public = match seeder.public_address.as_slice() {
            _ if is_proxied => &[],
            [] => seeder.listen.as_slice(),
            addresses => addresses,
        };
        let resolved = |configured: &[SocketAddr]| -> Vec<SocketAddr> {
            if is_forced {
                return on_port(configured, port);
            }
            let chosen = |address: &SocketAddr| if address.port() == 0 { port } else { address.port() };
            configured.iter().map(|address| SocketAddr::new(address.ip(), chosen(address))).collect()
        };
        let (sender, opened) = mpsc::channel(RESULTS);
        let public_ip = seeder.public_ip_file.as_deref().and_then(read_public_ip_file);
        let current = Current { listen: resolved(&seeder.listen), opened, public: resolved(public), public_ip };
        endpoints.send_modify(|endpoints| endpoints.sessions[number] = current.addresses());
        let listen = Self {
            is_proxied,
            interface: interface(seeder),
            listen: seeder.listen.clone(),
            public: public.to_vec(),
            number,
            endpoints,
            current: Mutex::new(current),
        };
        (listen, sender)
    }

    /// Whether peers are reached through a proxy only.
    pub fn is_proxied(&self) -> bool {
        self.is_proxied
    }

    /// Changes the port of all listen and public addresses. Returns when the new sockets are open. Must not be
    /// cancelled.
    pub async fn set_port(&self, session: &Session, port: u16) -> Result<(), ListenError> {
        if self.is_proxied {
            return Err(ListenError {
                port,
                why: "peers are reached through SEEDER__PROXY, and none can connect".into(),
            });
        }
        let mut current = self.current.lock().await;
        let listen = on_port(&self.listen, port);
        if current.listen != listen {
            let failed = |error: libtorrent_sys::Error| ListenError { port, why: error.to_string() };
            // The old sockets stay open until the new ones are.
            let new: Vec<_> = listen.iter().filter(|address| !current.listen.contains(address)).copied().collect();
            let interface = self.interface.as_deref();
            let both = interfaces(&[&current.listen[..], &new].concat(), interface);
            while current.opened.try_recv().is_ok() {}
            session.set_listen_interfaces(&both).map_err(failed)?;
            let is_bound = interface.is_some();
            let opened = opened(port, sockets(&new, interface), is_bound, &mut current.opened).await;
            let next = if opened.is_ok() { &listen } else { &current.listen };
            session.set_listen_interfaces(&interfaces(next, interface)).map_err(failed)?;
            if let Err(why) = opened {
                warn!(port, why, "listen port not changed");
                return Err(ListenError { port, why });
            }
            current.listen = listen;
        }
        current.public = on_port(&self.public, port);
        self.publish(&current);
        Ok(())
    }

    /// Changes the IP address of all public addresses.
    pub async fn set_public_ip(&self, ip: IpAddr) {
        let mut current = self.current.lock().await;
        current.public_ip = Some(ip);
        self.publish(&current);
    }

    fn publish(&self, current: &Current) {
        let addresses = current.addresses();
        self.endpoints.send_if_modified(|endpoints| {
            let published = &mut endpoints.sessions[self.number];
            let has_changed = *published != addresses;
            if has_changed {
                info!(session = self.number, ?addresses, "public addresses changed");
                *published = addresses;
            }
            has_changed
        });
    }
}

/// Waits until this number of sockets on this port are open. Returns the reason if one is not. On a network interface, an
/// address may fail as long as another one does not.
async fn opened(port: u16, sockets: usize, is_bound: bool, results: &mut mpsc::Receiver<Opened>) -> Result<(), String> {
    let (mut missing, mut failed, mut deadline) = (sockets, None, Instant::now() + ANSWER);
    while missing > 0 {
        let Ok(next) = timeout_at(deadline, results.recv()).await else {
            return Err(failed.unwrap_or_else(|| "libtorrent did not respond in time".into()));
        };
        let opened = next.ok_or("the seeder has stopped")?;
        match opened.result {
            _ if opened.port != port => {}
            Ok(()) => missing -= 1,
            Err(why) if is_bound => {
                failed.get_or_insert(why);
                deadline = deadline.min(Instant::now() + OTHERS);
            }
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Returns the addresses with this port. Those that differ in their ports only are one then.
pub(crate) fn on_port(addresses: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = vec![];
    for address in addresses.iter().map(|address| SocketAddr::new(address.ip(), port)) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Returns the name of the network interface that the seeder is bound to.
pub(crate) fn interface(seeder: &settings::Seeder) -> Option<String> {
    seeder.interface.as_ref().map(|name| name.as_str().to_owned())
}

/// Returns libtorrent's `listen_interfaces` for these addresses. With a network interface they are all addresses of the
/// interface, and the sockets are bound to it.
pub(crate) fn interfaces(listen: &[SocketAddr], interface: Option<&str>) -> String {
    let mut entries: Vec<_> = match interface {
        Some(name) => listen.iter().map(|address| format!("{name}:{}", address.port())).collect(),
        None => listen.iter().map(ToString::to_string).collect(),
    };
    entries.dedup();
    entries.join(",")
}

/// Returns the number of listen sockets. Each address has a TCP socket and a UDP socket for µTP. libtorrent opens the
/// latter even if µTP is off. With a network interface it is the least number: those of one address.
pub(crate) fn sockets(listen: &[SocketAddr], interface: Option<&str>) -> usize {
    if interface.is_some() { 2 } else { 2 * listen.len() }
}

/// Returns the port in a text: its first number. gluetun separates several ports by lines or commas. Returns `None` if
/// there is no port from 1 to 65535.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let first = text.trim().split([',', '\n']).next().unwrap_or_default();
    first.trim().parse().ok().filter(|port| *port != 0)
}

/// Returns the port in the file; `None` if there is none yet.
pub(crate) fn read_port_file(file: &Path) -> Option<u16> {
    parse_port(&std::fs::read_to_string(file).ok()?)
}

/// Returns the IP address in a text; `None` if there is none that peers can connect to.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
}

/// Returns the IP address in the file; `None` if there is none yet.
fn read_public_ip_file(file: &Path) -> Option<IpAddr> {
    parse_ip(&std::fs::read_to_string(file).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_port_is_used() {
        for text in ["51820", "51820\n", " 51820 \n", "51820,51821", "51820\n51821\n"] {
            assert_eq!(parse_port(text), Some(51820), "{text:?}");
        }
        for text in ["", "\n", "0", "65536", "-1", "port", "51820x"] {
            assert_eq!(parse_port(text), None, "{text:?}");
        }
    }
}
