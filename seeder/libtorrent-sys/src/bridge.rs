//! cxx bridge between Rust and the C++ shim.

use crate::Callbacks;

#[cxx::bridge(namespace = "proxytorrent")]
pub(crate) mod ffi {
    /// The policy for message stream encryption (MSE) with RC4.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Encryption {
        /// Every connection must be encrypted.
        Forced,
        /// Connections are encrypted if the peer supports it.
        Preferred,
        /// No connection is encrypted.
        Off,
    }

    /// The settings of a session. See `libtorrent::settings_pack`. Their `Debug` does not show the credentials for the proxy.
    #[derive(Clone)]
    pub struct SessionSettings {
        /// libtorrent's `listen_interfaces`, such as `127.0.0.1:6881,[::1]:6881`. Port 0 chooses a free port.
        pub listen_interfaces: String,
        /// Encryption of incoming and outgoing connections.
        pub encryption: Encryption,
        /// Whether peers may connect with µTP (BEP 29) in addition to TCP.
        pub utp: bool,
        /// Whether [`connect_peer`](super::super::Session::connect_peer) opens connections.
        pub connect_to_peers: bool,
        /// libtorrent's `outgoing_interfaces`: the source addresses of outgoing connections. Empty for any.
        pub outgoing_interfaces: String,
        /// The host of a SOCKS5 proxy (RFC 1928), through which the session connects to peers. Empty for none. With a proxy
        /// no peer can connect by TCP.
        pub proxy_hostname: String,
        /// The port of the proxy.
        pub proxy_port: u16,
        /// The user name for the proxy (RFC 1929). Empty for none.
        pub proxy_username: String,
        /// The password for the proxy.
        pub proxy_password: String,
        /// The upload limit of all peers together in bytes per second. 0 is no limit.
        pub upload_rate_limit: i32,
        /// The download limit of all peers together in bytes per second. 0 is no limit.
        pub download_rate_limit: i32,
        /// The maximum number of connected peers.
        pub connections_limit: i32,
    }

    /// The kind of an event.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum EventKind {
        /// The torrent was added to the session.
        Added,
        /// The torrent was already in the session.
        AddedAlready,
        /// The torrent could not be added. `message` is the reason.
        AddFailed,
        /// The torrent was removed from the session.
        Removed,
        /// A listen socket is open.
        Listening,
        /// A listen socket could not be opened.
        ListenFailed,
        /// The torrent stopped because of an error.
        TorrentError,
        /// `statistics` contains the statistics of the torrent, which have changed.
        TorrentStatistics,
        /// `statistics` contains the statistics of the session.
        Statistics,
    }

    /// The statistics of a session or a torrent.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Statistics {
        /// The bytes of contents that were sent to peers since the session started, or the torrent was added.
        pub uploaded_bytes: u64,
        /// The number of connected peers.
        pub peers: u64,
    }

    /// One alert, copied from libtorrent's queue.
    #[derive(Debug, Clone)]
    pub struct Event {
        /// The kind of the event.
        pub kind: EventKind,
        /// The torrent's v1 infohash: 40 hexadecimal digits. Empty for events of the session.
        pub infohash: String,
        /// The message for logs. It may contain Unicode replacement characters.
        pub message: String,
        /// The port of a listen socket.
        pub port: u16,
        /// The statistics, for [`EventKind::Statistics`] and [`EventKind::TorrentStatistics`].
        pub statistics: Statistics,
    }

    extern "Rust" {
        type Callbacks;
        fn announce(&self, key: &str, offset: u64, info: &SharedPtr<TorrentInfo>);
        fn read(&self, key: &str, offset: u64, info: &SharedPtr<TorrentInfo>, job: UniquePtr<ReadJob>);
        fn notify(&self);
    }

    unsafe extern "C++" {
        include!("session.hpp");

        type Session;
        fn new_session(settings: &SessionSettings, callbacks: Box<Callbacks>) -> Result<UniquePtr<Session>>;
        fn add_torrent(self: &Session, torrent: &[u8], key: &str) -> Result<()>;
        fn is_used(self: &Session, infohash: &str) -> Result<bool>;
        fn remove_torrent(self: &Session, infohash: &str) -> Result<bool>;
        fn connect_peer(self: &Session, infohash: &str, address: &str, port: u16) -> Result<bool>;
        fn set_listen_interfaces(self: &Session, interfaces: &str) -> Result<()>;
        fn set_upload_rate_limit(self: &Session, limit: i32) -> Result<()>;
        fn request_statistics(self: &Session);
        fn take_events(self: &Session) -> Result<Vec<Event>>;
        fn uploads(self: &Session) -> Result<Vec<Event>>;
        fn listen_port(self: &Session) -> u16;
        fn release_memory();
        fn exit_immediately(code: i32);

        #[namespace = "libtorrent"]
        #[cxx_name = "torrent_info"]
        type TorrentInfo;
        fn parse_torrent(torrent: &[u8]) -> Result<SharedPtr<TorrentInfo>>;
        fn piece_hash(info: &TorrentInfo, piece: u32) -> [u8; 20];
        fn piece_length(info: &TorrentInfo) -> u32;
        fn content_size(info: &TorrentInfo) -> u64;

        type ReadJob;
        fn buffer(self: Pin<&mut ReadJob>) -> &mut [u8];
        fn complete_read(job: UniquePtr<ReadJob>);
        fn fail_read(job: UniquePtr<ReadJob>, error_number: i32);
    }
}
