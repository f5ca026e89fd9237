//! A network interface that all outgoing sockets are bound to, DNS look-ups included.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use hickory_resolver::{Resolver, ResolverBuilder};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// The timeout to connect to a name server.
const NAME_SERVER: Duration = Duration::from_secs(5);

/// A network interface. While it is down, connections and look-ups fail: no byte leaves through another one.
///
/// A trait, so that a program that binds to no interface does not contain a resolver.
#[async_trait]
pub trait Interface: fmt::Debug + Send + Sync {
    /// Returns the name, such as `tun0`.
    fn name(&self) -> &str;

    /// Returns the addresses of a host, with port 0.
    async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>>;

    /// Connects to the first address of a host that responds.
    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream>;
}

/// An interface that sockets are bound to with `SO_BINDTODEVICE`. Names are looked up at the name servers in
/// `/etc/resolv.conf`, through the interface.
pub struct BoundInterface {
    name: String,
    resolver: Resolver<BoundRuntime>,
}

impl fmt::Debug for BoundInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundInterface").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BoundInterface {
    /// Returns the interface with this name, such as `tun0`. It need not exist yet. Returns an error if
    /// `/etc/resolv.conf` cannot be read.
    pub fn new(name: &str) -> io::Result<Self> {
        let runtime = BoundRuntime { interface: name.into(), handle: TokioHandle::default() };
        let resolver = Resolver::builder(runtime).and_then(ResolverBuilder::build).map_err(io::Error::other)?;
        Ok(Self { name: name.into(), resolver })
    }
}

#[async_trait]
impl Interface for BoundInterface {
    fn name(&self) -> &str {
        &self.name
    }

    async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let found = self.resolver.lookup_ip(host).await.map_err(io::Error::other)?;
        Ok(found.iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut failed = io::Error::other("the name has no address");
        for address in self.look_up(host).await? {
            match connect(&self.name, SocketAddr::new(address.ip(), port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

async fn connect(interface: &str, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.connect(address).await
}

/// The runtime of the resolver: Tokio, with sockets that are bound to an interface.
#[derive(Clone)]
struct BoundRuntime {
    interface: String,
    handle: TokioHandle,
}

impl RuntimeProvider for BoundRuntime {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let interface = self.interface.clone();
        Box::pin(async move {
            let stream = timeout(wait.unwrap_or(NAME_SERVER), connect(&interface, server)).await?;
            Ok(AsyncIoTokioAsStd(stream?))
        })
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<UdpSocket>>>> {
        let interface = self.interface.clone();
        Box::pin(async move {
            let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
            socket.bind_device(Some(interface.as_bytes()))?;
            socket.set_nonblocking(true)?;
            socket.bind(&local.into())?;
            UdpSocket::from_std(socket.into())
        })
    }
}
