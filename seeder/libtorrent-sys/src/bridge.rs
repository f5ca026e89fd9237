//! The cxx bridge: what crosses between Rust and the C++ shim, and nothing else.

use crate::Callbacks;

#[cxx::bridge(namespace = "proxytorrent")]
pub(crate) mod ffi {
    /// Whether connections are encrypted with RC4 (message stream encryption).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Encryption {
        /// Every connection must be.
        Forced,
        /// Those are whose peer can.
        Preferred,
        /// None is.
        Off,
    }

    /// How a session behaves; see `libtorrent::settings_pack`.
    #[derive(Debug, Clone)]
    pub struct SessionSettings {
        /// libtorrent's `listen_interfaces`: `127.0.0.1:6881,[::1]:6881`; port 0 takes a free one.
        pub listen_interfaces: String,
        /// Encryption of incoming and outgoing connections.
        pub encryption: Encryption,
        /// Whether peers may connect by µTP (BEP 29) beside TCP.
        pub utp: bool,
        /// Whether [`connect_peer`](super::super::Session::connect_peer) connects.
        pub connect_to_peers: bool,
        /// libtorrent's `outgoing_interfaces`: the addresses that outgoing connections come from; empty for any.
        pub outgoing_interfaces: String,
        /// Bytes a second to all peers together; 0 is no limit.
        pub upload_rate_limit: i32,
        /// Bytes a second from all peers together; 0 is no limit.
        pub download_rate_limit: i32,
        /// How many peers may be connected at once.
        pub connections_limit: i32,
    }

    /// What happened in the session.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum EventKind {
        /// The torrent is in the session.
        Added,
        /// The torrent was in the session before.
        AddedAlready,
        /// The torrent could not be added; `message` says why.
        AddFailed,
        /// The torrent has left the session.
        Removed,
        /// `data` is the torrent's resume data.
        ResumeData,
        /// No resume data; `message` is empty when nothing had changed.
        ResumeDataFailed,
        /// A listen socket is open.
        Listening,
        /// A listen socket could not be opened.
        ListenFailed,
        /// The torrent stopped over an error.
        TorrentError,
    }

    /// One alert, copied out of libtorrent's queue.
    #[derive(Debug, Clone)]
    pub struct Event {
        /// What happened.
        pub kind: EventKind,
        /// The torrent's v1 infohash, 40 hexadecimal digits; empty for session events.
        pub infohash: String,
        /// For people; may hold replacement characters.
        pub message: String,
        /// Resume data.
        pub data: Vec<u8>,
    }

    extern "Rust" {
        type Callbacks;
        fn read(&self, key: &str, offset: u64, job: UniquePtr<ReadJob>);
        fn notify(&self);
    }

    unsafe extern "C++" {
        include!("session.hpp");

        type Session;
        fn new_session(settings: &SessionSettings, callbacks: Box<Callbacks>) -> Result<UniquePtr<Session>>;
        fn add_torrent(self: &Session, torrent: &[u8], resume: &[u8], key: &str) -> Result<()>;
        fn remove_torrent(self: &Session, infohash: &str) -> Result<bool>;
        fn connect_peer(self: &Session, infohash: &str, address: &str, port: u16) -> Result<bool>;
        fn save_resume_data(self: &Session) -> Result<u32>;
        fn take_events(self: &Session) -> Result<Vec<Event>>;
        fn listen_port(self: &Session) -> u16;
        fn release_memory();
        fn exit_immediately(code: i32);

        type ReadJob;
        fn buffer(self: Pin<&mut ReadJob>) -> &mut [u8];
        fn complete_read(job: UniquePtr<ReadJob>);
        fn fail_read(job: UniquePtr<ReadJob>, error_number: i32);
    }
}
