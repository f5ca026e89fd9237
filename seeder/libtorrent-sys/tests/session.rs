//! The binding alone, with a disk in memory and peers that speak BitTorrent themselves. `make check-memory` runs these
//! tests under valgrind, with more rounds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use libtorrent_sys::{Disk, Encryption, Event, EventKind, Pieces, ReadJob, Session, SessionSettings};

const BLOCK: usize = 16 * 1024;

/// The timeout of every wait. valgrind is slow.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often a test repeats what could leak: `ROUNDS` at build time, or a few times.
fn rounds() -> u32 {
    option_env!("ROUNDS").map_or(200, |rounds| rounds.parse().expect("a number"))
}

/// What the disk does with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// Fills the block with the first byte of the piece's hash.
    Complete,
    /// Keeps it until the session stops.
    Keep,
    Fail,
    Drop,
    Panic,
}

/// A disk in memory that signals events.
struct TestDisk {
    reads: Reads,
    kept: Mutex<Vec<ReadJob>>,
    count: AtomicU64,
    announced: AtomicU64,
    notified: (Mutex<bool>, Condvar),
}

impl TestDisk {
    fn new(reads: Reads) -> Arc<Self> {
        let (kept, notified) = (Mutex::default(), (Mutex::new(false), Condvar::new()));
        Arc::new(Self { reads, kept, count: AtomicU64::new(0), announced: AtomicU64::new(0), notified })
    }
}

struct Shared(Arc<TestDisk>);

impl Disk for Shared {
    fn announce(&self, key: &str, offset: u64, pieces: &Pieces) {
        assert_eq!((key, offset, pieces.size()), ("key", 0, BLOCK as u64));
        self.0.announced.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, _key: &str, _offset: u64, pieces: &Pieces, mut job: ReadJob) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        match self.0.reads {
            Reads::Complete => {
                job.buffer().fill(pieces.hash(0).expect("one piece")[0]);
                job.complete();
            }
            Reads::Keep => self.0.kept.lock().unwrap().push(job),
            Reads::Fail => job.fail(5),
            Reads::Drop => drop(job),
            Reads::Panic => panic!("a disk that panics"),
        }
    }

    fn notify(&self) {
        *self.0.notified.0.lock().unwrap() = true;
        self.0.notified.1.notify_all();
    }
}

/// A session with its disk.
struct Seeder {
    session: Session,
    disk: Arc<TestDisk>,
}

impl Seeder {
    fn start(reads: Reads) -> Self {
        let settings = SessionSettings {
            listen_interfaces: "127.0.0.1:0".into(),
            encryption: Encryption::Preferred,
            utp: true,
            connect_to_peers: false,
            outgoing_interfaces: String::new(),
            proxy_hostname: String::new(),
            proxy_port: 0,
            proxy_username: String::new(),
            proxy_password: String::new(),
            upload_rate_limit: 0,
            download_rate_limit: 0,
            connections_limit: 100,
        };
        let disk = TestDisk::new(reads);
        let seeder = Self { session: Session::new(&settings, Shared(disk.clone())).unwrap(), disk };
        seeder.wait_for(2, |event| event.kind == EventKind::Listening);
        seeder
    }

    /// Waits for this number of events, and returns them.
    fn wait_for(&self, count: usize, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let (started, mut found) = (Instant::now(), vec![]);
        while found.len() < count {
            let (notified, changed) = &self.disk.notified;
            let waiting = changed.wait_timeout_while(notified.lock().unwrap(), Duration::from_millis(100), |n| !*n);
            *waiting.unwrap().0 = false;
            found.extend(self.session.take_events().unwrap().into_iter().filter(&wanted));
            assert!(started.elapsed() < PATIENCE, "{} of {count} events", found.len());
        }
        found
    }

    /// Adds a torrent and returns its infohash.
    fn add(&self, name: &str, private: bool) -> String {
        self.session.add_torrent(&torrent(name, private), "key").unwrap();
        let added = self.wait_for(1, |event| event.kind == EventKind::Added);
        added.into_iter().next().unwrap().infohash
    }

    /// Connects as a peer and sends the handshake (BEP 3).
    fn peer(&self, infohash: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.session.listen_port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let hash: Vec<_> = (0..20).map(|n| u8::from_str_radix(&infohash[2 * n..][..2], 16).unwrap()).collect();
        let handshake = [&b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0"[..], &hash, b"-XX0001-000000000001"].concat();
        stream.write_all(&handshake).unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        // Interested. The next message after the pieces is an unchoke.
        stream.write_all(&[0, 0, 0, 1, 2]).unwrap();
        while message(&mut stream).unwrap().first() != Some(&1) {}
        stream
    }
}

/// Returns a metainfo file with one block.
fn torrent(name: &str, private: bool) -> Vec<u8> {
    let private = if private { "7:privatei1e" } else { "" };
    let info = format!("6:lengthi{BLOCK}e4:name{}:{name}12:piece lengthi{BLOCK}e6:pieces20:", name.len());
    [b"d4:infod", info.as_bytes(), &[7; 20], private.as_bytes(), b"ee"].concat()
}

/// Reads a message; `None` if the peer has closed.
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// Requests the block.
fn request(stream: &mut TcpStream) {
    stream.write_all(&[&[0, 0, 0, 13, 6][..], &[0; 8], &[0, 0, 0x40, 0]].concat()).unwrap();
}

/// Requests the block and returns it; `None` if the peer has closed.
fn block(stream: &mut TcpStream) -> Option<Vec<u8>> {
    request(stream);
    loop {
        let message = message(stream)?;
        if message.first() == Some(&7) {
            return Some(message[9..].to_vec());
        }
    }
}

#[test]
fn torrents_are_added_and_removed_while_a_peer_downloads() {
    let seeder = Arc::new(Seeder::start(Reads::Complete));
    let permanent = seeder.add("permanent", true);
    assert!(!seeder.session.is_used(&permanent).unwrap());
    let (mut peer, stop) = (seeder.peer(&permanent), Arc::new(AtomicBool::new(false)));
    assert!(seeder.session.is_used(&permanent).unwrap());
    let stopped = stop.clone();
    let downloading = std::thread::spawn(move || {
        let mut blocks = 0;
        while !stopped.load(Ordering::Relaxed) {
            assert_eq!(block(&mut peer).expect("connected"), [7; BLOCK]);
            blocks += 1;
        }
        blocks
    });
    for round in 0..rounds() {
        let infohash = seeder.add(&format!("torrent-{round}"), round % 2 == 0);
        // A peer that is connected when its torrent is removed.
        let peer = (round % 10 == 0).then(|| seeder.peer(&infohash));
        assert!(seeder.session.remove_torrent(&infohash).unwrap());
        seeder.wait_for(1, |event| event.kind == EventKind::Removed);
        drop(peer);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(downloading.join().unwrap() > 0);
    // Once for each piece that a peer requests, not for each block.
    assert_eq!(seeder.disk.announced.load(Ordering::Relaxed), 1);
    let uploads = seeder.session.uploads().unwrap();
    assert_eq!(uploads.len(), 1);
    assert!(uploads[0].infohash == permanent && uploads[0].statistics.uploaded_bytes >= BLOCK as u64);
}

#[test]
fn a_session_stops_while_reads_are_pending() {
    for _ in 0..rounds().div_ceil(200) {
        let seeder = Seeder::start(Reads::Keep);
        let infohash = seeder.add("a", true);
        let mut peer = seeder.peer(&infohash);
        request(&mut peer);
        let started = Instant::now();
        while seeder.disk.count.load(Ordering::Relaxed) == 0 {
            assert!(started.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        let Seeder { session, disk } = seeder;
        let stopping = std::thread::spawn(move || drop(session));
        // The session waits for its reads.
        disk.kept.lock().unwrap().clear();
        stopping.join().unwrap();
        assert_eq!(message(&mut peer).filter(|message| message.first() == Some(&7)), None);
    }
}

#[test]
fn a_read_that_fails_does_not_end_the_session() {
    for reads in [Reads::Fail, Reads::Drop, Reads::Panic] {
        let seeder = Seeder::start(reads);
        let infohash = seeder.add("a", true);
        for _ in 0..3 {
            let mut peer = seeder.peer(&infohash);
            request(&mut peer);
            let before = Instant::now();
            while seeder.disk.count.load(Ordering::Relaxed) == 0 {
                assert!(before.elapsed() < PATIENCE);
                std::thread::yield_now();
            }
        }
        seeder.add("b", false);
    }
}

#[test]
fn bad_input_is_an_error() {
    let seeder = Seeder::start(Reads::Complete);
    for bad in [&b""[..], b"d", b"d4:infodee", b"le", &[0xff; 100]] {
        assert!(seeder.session.add_torrent(bad, "key").is_err(), "{bad:?}");
    }
    assert!(seeder.session.is_used("not an infohash").is_err());
    assert!(!seeder.session.is_used(&"0".repeat(40)).unwrap());
    assert!(seeder.session.remove_torrent("not an infohash").is_err());
    assert!(!seeder.session.remove_torrent(&"0".repeat(40)).unwrap());
    assert!(!seeder.session.connect_peer(&"0".repeat(40), ([127, 0, 0, 1], 1).into()).unwrap());
    let infohash = seeder.add("a", true);
    seeder.session.add_torrent(&torrent("a", true), "key").unwrap();
    seeder.wait_for(1, |event| event.kind == EventKind::AddedAlready && event.infohash == infohash);
}

#[test]
fn the_listen_port_changes_and_the_old_one_is_closed() {
    let seeder = Seeder::start(Reads::Complete);
    let infohash = seeder.add("a", true);
    let mut peer = seeder.peer(&infohash);
    for _ in 0..3 {
        let before = seeder.session.listen_port();
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
        seeder.session.set_listen_interfaces(&format!("127.0.0.1:{port}")).unwrap();
        seeder.wait_for(2, |event| event.kind == EventKind::Listening);
        assert_eq!(seeder.session.listen_port(), port);
        assert!(TcpStream::connect(("127.0.0.1", before)).is_err());
        assert_eq!(block(&mut peer).expect("still connected"), [7; BLOCK]);
    }
}
