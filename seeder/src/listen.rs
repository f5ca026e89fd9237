//! The listen addresses, whose port can change while the seeder runs: a VPN forwards another port.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use libtorrent_sys::Session;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

/// The timeout for the results of opening the listen sockets.
const ANSWER: Duration = Duration::from_secs(10);

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
pub(crate) type Opened = Result<(), String>;

/// The listen addresses, and the public addresses that follow from them.
#[derive(Debug)]
pub(crate) struct Listen {
    listen: Vec<SocketAddr>,
    public: Vec<SocketAddr>,
    addresses: watch::Sender<Vec<SocketAddr>>,
    current: Mutex<Current>,
}

/// What the session listens on. Locked during a change.
#[derive(Debug)]
struct Current {
    interfaces: String,
    opened: mpsc::UnboundedReceiver<Opened>,
}

impl Listen {
    /// The state of a session whose first listen socket has this `port`, with the channel for the results of opening
    /// sockets. If the port `is_forced`, all addresses have it, whatever is configured.
    pub fn new(seeder: &settings::Seeder, port: u16, is_forced: bool) -> (Self, mpsc::UnboundedSender<Opened>) {
        let public = if seeder.public_address.is_empty() { &seeder.listen } else { &seeder.public_address };
        let resolved = |configured: &[SocketAddr]| -> Vec<SocketAddr> {
            let known = |address: &SocketAddr| address.port() != 0 && !is_forced;
            let addresses = configured.iter();
            addresses.map(|address| if known(address) { *address } else { with_port(*address, port) }).collect()
        };
        let (sender, opened) = mpsc::unbounded_channel();
        let current = Current { interfaces: interfaces(&resolved(&seeder.listen)), opened };
        let listen = Self {
            listen: seeder.listen.clone(),
            public: public.clone(),
            addresses: watch::Sender::new(resolved(public)),
            current: Mutex::new(current),
        };
        (listen, sender)
    }

    /// Returns the public addresses, and their changes.
    pub fn addresses(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.addresses.subscribe()
    }

    /// Changes the port of all listen and public addresses. Returns when the new sockets are open.
    pub async fn set_port(&self, session: &Session, port: u16) -> Result<(), ListenError> {
        let mut current = self.current.lock().await;
        let with_new_port = |addresses: &[SocketAddr]| -> Vec<SocketAddr> {
            addresses.iter().map(|address| with_port(*address, port)).collect()
        };
        let (wanted, addresses) = (interfaces(&with_new_port(&self.listen)), with_new_port(&self.public));
        if current.interfaces != wanted {
            while current.opened.try_recv().is_ok() {}
            if let Err(why) = open(session, &wanted, sockets(&self.listen), &mut current.opened).await {
                warn!(port, why, "listen port not changed");
                if let Err(error) = session.set_listen_interfaces(&current.interfaces) {
                    error!(%error, "old listen port not opened again");
                }
                return Err(ListenError { port, why });
            }
            current.interfaces = wanted;
        }
        if *self.addresses.borrow() != addresses {
            info!(port, ?addresses, "listen port changed");
            self.addresses.send_replace(addresses);
        }
        Ok(())
    }
}

/// Opens listen sockets. Returns when all are open, or the reason why not.
async fn open(
    session: &Session,
    interfaces: &str,
    sockets: usize,
    opened: &mut mpsc::UnboundedReceiver<Opened>,
) -> Result<(), String> {
    session.set_listen_interfaces(interfaces).map_err(|error| error.to_string())?;
    for _ in 0..sockets {
        let result = timeout(ANSWER, opened.recv()).await.map_err(|_| "libtorrent did not respond in time")?;
        result.ok_or("the seeder has stopped")??;
    }
    Ok(())
}

fn with_port(address: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), port)
}

/// Returns libtorrent's `listen_interfaces` for these addresses.
pub(crate) fn interfaces(listen: &[SocketAddr]) -> String {
    listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Returns the number of listen sockets. Each address has a TCP socket and a UDP socket for µTP. libtorrent opens the
/// latter even if µTP is off.
pub(crate) fn sockets(listen: &[SocketAddr]) -> usize {
    2 * listen.len()
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
