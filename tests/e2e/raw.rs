//! A raw TCP or TLS server for tests: the test writes every byte of the responses, as an origin or a proxy.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection to a [`Raw`] server.
pub struct Peer {
    stream: Box<dyn Stream>,
    /// The number of earlier connections.
    pub earlier: usize,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Reads the head of the next request, with line ends and lower-case header names. Empty if the peer has closed.
    pub async fn request(&mut self) -> String {
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        // Header names are case-insensitive (RFC 9110, 5.1): tests look for them in lower case.
        let lower = |line: &str| match line.split_once(": ") {
            Some((name, value)) if !name.contains(' ') => format!("{}: {value}", name.to_ascii_lowercase()),
            _ => line.to_owned(),
        };
        let head: String = String::from_utf8_lossy(&head).split_inclusive("\r\n").map(lower).collect();
        if !head.is_empty() {
            self.seen.lock().unwrap().push(head.clone());
        }
        head
    }

    /// Reads `size` bytes. Missing bytes are zero if the peer closes.
    pub async fn read(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let _ = self.stream.read_exact(&mut bytes).await;
        bytes
    }

    /// Adds a text to the list of request heads.
    pub fn note(&self, text: String) {
        self.seen.lock().unwrap().push(text);
    }

    /// Sends bytes. Returns false if the peer has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Returns the connection, for a server library.
    pub fn into_stream(self) -> impl AsyncRead + AsyncWrite + Send + Unpin {
        self.stream
    }

    /// Waits until the peer closes.
    pub async fn closed(&mut self) {
        while self.stream.read_u8().await.is_ok() {}
    }
}

/// A server on a free port. It stops when it is dropped.
pub struct Raw {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    _stop: DropGuard,
}

impl Raw {
    /// Starts a server that calls `serve` for each connection.
    pub async fn start<F: Future<Output = ()> + Send>(
        serve: impl Fn(Peer) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::with(None, serve).await
    }

    /// As [`Raw::start`], over TLS if `tls` is given.
    pub async fn with<F: Future<Output = ()> + Send>(
        tls: Option<rustls::ServerConfig>,
        serve: impl Fn(Peer) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let seen = Arc::new(Mutex::new(vec![]));
        let log = seen.clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, serve, seen) = (tls.clone(), serve.clone(), log.clone());
                let earlier = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        // A client that rejects the certificate closes the connection.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    serve(Peer { stream, earlier, seen }).await;
                }));
            }
        }));
        Self { address, seen, connections, _stop: stop.drop_guard() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the heads of all requests so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// A certificate authority for a test.
pub struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Returns the authority's certificate in PEM, for `SSL_CERT_FILE`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns a TLS server configuration with a certificate for this name. `spoil` may make the certificate invalid.
    pub fn server(&self, name: &str, spoil: impl FnOnce(&mut CertificateParams)) -> rustls::ServerConfig {
        let (certificate, key) = self.issue(name, spoil);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration")
    }

    pub fn issue(&self, name: &str, spoil: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        spoil(&mut params);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }
}
