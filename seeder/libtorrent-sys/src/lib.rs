//! Binding of libtorrent-rasterbar 2.0: a seed-only [`Session`] that reads contents from Rust.
//!
//! The crates.io crate of this name lacks settings, `.torrent` loading, alerts and a custom disk, all of which a
//! seeder needs. No other crate of the workspace contains `unsafe` or C++.
//!
//! * The session has no DHT, LSD, UPnP or NAT-PMP, runs in anonymous mode, and never writes.
//! * The memory that one peer can make the session queue is limited, and idle peers are disconnected in favor of
//!   new ones (`shim/peers.cpp`).
//! * Block requests of peers become [`ReadJob`]s for the [`Disk`], which completes them from any thread.
//! * Private torrents serve their info dictionary to peers (BEP 9), so that their magnet links resolve. The plugin
//!   of libtorrent does so for public torrents only.

mod bridge;

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bridge::ffi;
pub use bridge::ffi::{Encryption, Event, EventKind, SessionSettings, Statistics};

/// The source of the session's contents.
pub trait Disk: Send + Sync + 'static {
    /// Announces that a peer has requested blocks of the piece at `offset` of the content `key`, which libtorrent will
    /// read later. Called on libtorrent's network thread: it must not block.
    fn announce(&self, key: &str, offset: u64, pieces: &Pieces);

    /// Completes `job` with the bytes of the content `key` from `offset`, now or later, from any thread. The bytes must
    /// match `pieces`, because nothing else verifies them. Called on libtorrent's network thread: it must not block.
    ///
    /// A job that is never completed, failed or dropped prevents the shutdown of the session.
    fn read(&self, key: &str, offset: u64, pieces: &Pieces, job: ReadJob);

    /// Notifies that there are events to [take](Session::take_events). Called on libtorrent's network thread.
    fn notify(&self);
}

/// The callbacks from libtorrent to the disk. They catch panics, because a panic must not unwind into C++.
pub(crate) struct Callbacks(Box<dyn Disk>);

impl Callbacks {
    fn announce(&self, key: &str, offset: u64, info: &cxx::SharedPtr<ffi::TorrentInfo>) {
        let pieces = Pieces(info.clone());
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.announce(key, offset, &pieces)));
    }

    fn read(&self, key: &str, offset: u64, info: &cxx::SharedPtr<ffi::TorrentInfo>, job: cxx::UniquePtr<ffi::ReadJob>) {
        let pieces = Pieces(info.clone());
        // A panic drops the job, and a dropped job fails.
        let job = ReadJob(job);
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.read(key, offset, &pieces, job)));
    }

    fn notify(&self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.notify()));
    }
}

/// The pieces of a torrent, with their v1 hashes (BEP 3). Never null.
#[derive(Clone)]
pub struct Pieces(cxx::SharedPtr<ffi::TorrentInfo>);

impl Pieces {
    /// Reads the pieces of a metainfo file. Returns an error if it is invalid or has no v1 hashes.
    pub fn parse(torrent: &[u8]) -> Result<Self, Error> {
        Ok(Self(ffi::parse_torrent(torrent)?))
    }

    /// Returns the piece length in bytes. The last piece may be shorter.
    pub fn length(&self) -> u32 {
        ffi::piece_length(&self.0)
    }

    /// Returns the size of the content in bytes.
    pub fn size(&self) -> u64 {
        ffi::content_size(&self.0)
    }

    /// Returns the SHA-1 of a piece; `None` if there is no such piece.
    pub fn hash(&self, piece: u32) -> Option<[u8; 20]> {
        let exists = u64::from(piece) * u64::from(self.length()) < self.size();
        exists.then(|| ffi::piece_hash(&self.0, piece))
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("length", &self.length()).field("size", &self.size()).finish()
    }
}

/// A block read that a peer waits for. Dropping the job fails the read.
pub struct ReadJob(cxx::UniquePtr<ffi::ReadJob>);

impl ReadJob {
    /// Returns the buffer to fill, at most 16 KiB.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.0.pin_mut().buffer()
    }

    /// Completes the read: the filled buffer is sent to the peer.
    pub fn complete(self) {
        ffi::complete_read(self.0);
    }

    /// Fails the read: libtorrent rejects the peer's request. `errno` is for libtorrent's log.
    pub fn fail(self, errno: i32) {
        ffi::fail_read(self.0, errno);
    }
}

impl fmt::Debug for ReadJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadJob").finish_non_exhaustive()
    }
}

// SAFETY: a job has one owner at a time, and `finish` only posts to the io_context, which is thread-safe and kept
// alive by the job's work guard.
unsafe impl Send for ffi::ReadJob {}

// SAFETY: the const members that `piece_hash`, `piece_length` and `content_size` call read fields that do not change once
// the torrent is added, and the reference count of a shared_ptr is atomic.
unsafe impl Send for ffi::TorrentInfo {}
// SAFETY: as above.
unsafe impl Sync for ffi::TorrentInfo {}

// SAFETY: libtorrent's session_handle may be called from any thread (see "threads" in its manual). The other fields
// of the wrapper do not change after construction.
unsafe impl Send for ffi::Session {}
// SAFETY: as above.
unsafe impl Sync for ffi::Session {}

impl fmt::Debug for SessionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSettings")
            .field("listen_interfaces", &self.listen_interfaces)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

/// The error of a libtorrent call.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<cxx::Exception> for Error {
    fn from(exception: cxx::Exception) -> Self {
        Self(exception.what().to_owned())
    }
}

/// A running libtorrent session. Dropping it closes every connection and waits for its threads.
pub struct Session(cxx::UniquePtr<ffi::Session>);

impl Session {
    /// Starts a session that reads from `disk`. Listen errors are reported as [events](EventKind::ListenFailed).
    pub fn new(settings: &SessionSettings, disk: impl Disk) -> Result<Self, Error> {
        Ok(Self(ffi::new_session(settings, Box::new(Callbacks(Box::new(disk))))?))
    }

    /// Adds the metainfo file `torrent`, which must have v1 hashes, for seeding. The disk serves its content under `key`. The
    /// result is an event: [`EventKind::Added`], [`EventKind::AddedAlready`] or [`EventKind::AddFailed`]. Returns an
    /// error immediately if `torrent` is invalid.
    pub fn add_torrent(&self, torrent: &[u8], key: &str) -> Result<(), Error> {
        Ok(self.0.add_torrent(torrent, key)?)
    }

    /// Whether peers are connected to a torrent. Blocks until the network thread responds.
    pub fn is_used(&self, infohash: &str) -> Result<bool, Error> {
        Ok(self.0.is_used(infohash)?)
    }

    /// Stops seeding a torrent. Returns whether the session has it. The result is the event [`EventKind::Removed`].
    pub fn remove_torrent(&self, infohash: &str) -> Result<bool, Error> {
        Ok(self.0.remove_torrent(infohash)?)
    }

    /// Connects to a peer of a torrent. Returns whether the session has the torrent. Returns before the connection is
    /// established, and does not report failures.
    pub fn connect_peer(&self, infohash: &str, peer: SocketAddr) -> Result<bool, Error> {
        Ok(self.0.connect_peer(infohash, &peer.ip().to_string(), peer.port())?)
    }

    /// Closes the listen sockets that are not in `interfaces` and opens new ones, as in
    /// [`SessionSettings::listen_interfaces`]. Connected TCP peers stay. The results are events:
    /// [`EventKind::Listening`] or [`EventKind::ListenFailed`] for each new socket.
    pub fn set_listen_interfaces(&self, interfaces: &str) -> Result<(), Error> {
        Ok(self.0.set_listen_interfaces(interfaces)?)
    }

    /// Sets [`SessionSettings::upload_rate_limit`].
    pub fn set_upload_rate_limit(&self, limit: i32) -> Result<(), Error> {
        Ok(self.0.set_upload_rate_limit(limit)?)
    }

    /// Requests the statistics. The result is one event [`EventKind::TorrentStatistics`] for each torrent whose state
    /// has changed since the last call, and then the event [`EventKind::Statistics`].
    pub fn request_statistics(&self) {
        self.0.request_statistics();
    }

    /// Returns the events since the last call.
    pub fn take_events(&self) -> Result<Vec<Event>, Error> {
        Ok(self.0.take_events()?)
    }

    /// Returns an event [`EventKind::TorrentStatistics`] for each torrent of which anything was uploaded. They are exact,
    /// while those that [`Session::request_statistics`] requests are up to a second old. Blocks until the network thread
    /// responds.
    pub fn uploads(&self) -> Result<Vec<Event>, Error> {
        Ok(self.0.uploads()?)
    }

    /// Returns the TCP port of the first listen socket, or 0 while there is none.
    pub fn listen_port(&self) -> u16 {
        self.0.listen_port()
    }
}

/// Returns freed memory to the system, if a peer was disconnected because its send buffer was too large.
pub fn release_memory() {
    ffi::release_memory();
}

/// Ends the process without waiting for threads or running C++ destructors. For a session that does not close.
pub fn exit_immediately(code: i32) {
    ffi::exit_immediately(code);
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
