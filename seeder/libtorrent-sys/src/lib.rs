//! A small binding of libtorrent-rasterbar 2.0: a seed-only [`Session`] whose content is read by Rust.
//!
//! The crates.io crate of this name has neither settings nor `.torrent` loading, alerts, resume data
//! or a custom disk, all of which a seeder needs. `unsafe` and C++ live in this crate alone.
//!
//! * The session has no DHT, LSD, UPnP or NAT-PMP, runs in anonymous mode, and never writes.
//! * What one peer can make the session queue is bounded, and idle peers give way to new ones (`shim/peers.cpp`).
//! * Blocks that peers ask for become [`ReadJob`]s for the [`Disk`], which answers from any thread.
//! * Private torrents serve their info dictionary to peers (BEP 9), so their magnet links resolve;
//!   libtorrent's own plugin does that for public torrents only.

mod bridge;

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bridge::ffi;
pub use bridge::ffi::{Encryption, Event, EventKind, SessionSettings};

/// Where the session's content comes from.
pub trait Disk: Send + Sync + 'static {
    /// Answers `job` with the bytes of the content `key` from `offset` on, now or later, from any
    /// thread. Called on libtorrent's network thread: it must not block.
    ///
    /// A job that is never answered keeps the session from shutting down.
    fn read(&self, key: &str, offset: u64, job: ReadJob);

    /// There are events to [take](Session::take_events). Called on libtorrent's network thread.
    fn notify(&self);
}

/// What libtorrent calls: the disk behind a guard, since a panic must not cross into C++.
pub(crate) struct Callbacks(Box<dyn Disk>);

impl Callbacks {
    fn read(&self, key: &str, offset: u64, job: cxx::UniquePtr<ffi::ReadJob>) {
        // A job that is dropped by the unwinding fails itself.
        let job = ReadJob(job);
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.read(key, offset, job)));
    }

    fn notify(&self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.notify()));
    }
}

/// A block that a peer waits for. Dropping it fails it.
pub struct ReadJob(cxx::UniquePtr<ffi::ReadJob>);

impl ReadJob {
    /// The bytes to fill, at most 16 KiB.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.0.pin_mut().buffer()
    }

    /// Hands the filled buffer to the peer.
    pub fn complete(self) {
        ffi::complete_read(self.0);
    }

    /// Tells the peer that the block is not to be had; `errno` is for libtorrent's log.
    pub fn fail(self, errno: i32) {
        ffi::fail_read(self.0, errno);
    }
}

impl fmt::Debug for ReadJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadJob").finish_non_exhaustive()
    }
}

// SAFETY: a job is used by one owner at a time, and `finish` only posts to the io_context, which is
// thread-safe and kept alive by the job's work guard.
unsafe impl Send for ffi::ReadJob {}

// SAFETY: libtorrent's session_handle may be called from any thread (its manual, "threads"); the
// wrapper has no state of its own.
unsafe impl Send for ffi::Session {}
// SAFETY: as above.
unsafe impl Sync for ffi::Session {}

/// Why libtorrent refused a call.
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
    /// Starts a session that reads from `disk`. Listen errors come as [events](EventKind::ListenFailed).
    pub fn new(settings: &SessionSettings, disk: impl Disk) -> Result<Self, Error> {
        Ok(Self(ffi::new_session(settings, Box::new(Callbacks(Box::new(disk))))?))
    }

    /// Begins to seed the metainfo file `torrent`, whose bytes the disk has under `key` (no slashes), with the
    /// statistics from `resume` (may be empty). Answered by [`EventKind::Added`],
    /// [`EventKind::AddedAlready`] or [`EventKind::AddFailed`]; an unreadable `torrent` is an error at once.
    pub fn add_torrent(&self, torrent: &[u8], resume: &[u8], key: &str) -> Result<(), Error> {
        Ok(self.0.add_torrent(torrent, resume, key)?)
    }

    /// Stops seeding; false when no such torrent is in the session. Answered by [`EventKind::Removed`].
    pub fn remove_torrent(&self, infohash: &str) -> Result<bool, Error> {
        Ok(self.0.remove_torrent(infohash)?)
    }

    /// Connects to a peer of a torrent; false when no such torrent is in the session. Returns before the connection is
    /// made, and reports no failure.
    pub fn connect_peer(&self, infohash: &str, peer: SocketAddr) -> Result<bool, Error> {
        Ok(self.0.connect_peer(infohash, &peer.ip().to_string(), peer.port())?)
    }

    /// Asks every torrent for its resume data; returns how many [`EventKind::ResumeData`] and
    /// [`EventKind::ResumeDataFailed`] will come.
    pub fn save_resume_data(&self) -> Result<u32, Error> {
        Ok(self.0.save_resume_data()?)
    }

    /// What has happened since the last call.
    pub fn take_events(&self) -> Result<Vec<Event>, Error> {
        Ok(self.0.take_events()?)
    }

    /// The TCP port of the first listen socket; 0 while there is none.
    pub fn listen_port(&self) -> u16 {
        self.0.listen_port()
    }
}

/// Returns memory to the system after a peer was disconnected because of what it made a session queue.
pub fn release_memory() {
    ffi::release_memory();
}

/// Ends the process without waiting for threads or running C++ destructors: for a session that does not close.
pub fn exit_immediately(code: i32) {
    ffi::exit_immediately(code);
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
