//! A BitTorrent client that discards what it receives, so that it loads a seeder more than itself.
//!
//! It connects with message stream encryption and RC4 (the specification on wiki.vuze.com), encrypts its requests,
//! and does not decrypt the blocks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use domain::InfoHash;
use num_bigint::BigUint;
use rc4::{KeyInit, Rc4, StreamCipher};
use sha1::{Digest, Sha1};

/// The 768-bit prime of the key exchange.
const PRIME: &[u8] =
    b"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563";

/// The size of a public key in bytes.
const KEY_SIZE: usize = 96;

/// The most bytes of padding after a public key.
const MAX_PADDING: usize = 512;

/// The only encryption that the client offers: RC4.
const CRYPTO_RC4: u32 = 2;

/// The size of a requested block in bytes.
const BLOCK: u32 = 16 * 1024;

const BLOCKS_PER_PIECE: u64 = (PIECE_LENGTH / BLOCK) as u64;

/// The size of a `piece` message in bytes: its length, type, index and offset, and the block.
const PIECE_MESSAGE: u64 = 13 + BLOCK as u64;

/// The piece length that a content must have, as `TORRENT__PIECE_SIZE` sets it.
pub const PIECE_LENGTH: u32 = 1 << 20;

/// How many blocks are requested ahead.
const REQUESTED: u64 = 512;

/// A connected client that may request blocks.
pub struct Leecher {
    stream: TcpStream,
    requests: Rc4,
    /// How many blocks of [`BLOCK`] bytes the content has.
    blocks: u64,
}

impl fmt::Debug for Leecher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leecher").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Leecher {
    /// Connects to a seeder of a content of this many pieces, and waits until it may request.
    pub fn connect(seeder: SocketAddr, infohash: InfoHash, pieces: u32) -> io::Result<Self> {
        let stream = TcpStream::connect(seeder)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (mut stream, mut requests, mut answers) = encrypted(stream, infohash)?;

        let mut handshake = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
        handshake.extend_from_slice(infohash.as_bytes());
        // libtorrent closes a second connection with the same peer id.
        handshake.extend_from_slice(b"-BN0001-");
        handshake.extend_from_slice(&rand::random::<[u8; 12]>());
        handshake.extend_from_slice(b"\0\0\0\x01\x02"); // interested
        requests.apply_keystream(&mut handshake);
        stream.write_all(&handshake)?;
        let mut read = |buffer: &mut [u8]| -> io::Result<()> {
            stream.read_exact(buffer)?;
            answers.apply_keystream(buffer);
            Ok(())
        };
        read(&mut [0; 68])?;
        loop {
            let mut length = [0; 4];
            read(&mut length)?;
            let mut message = vec![0; u32::from_be_bytes(length) as usize];
            read(&mut message)?;
            if message.first() == Some(&1) {
                break; // unchoke
            }
        }
        Ok(Self { stream, requests, blocks: u64::from(pieces) * BLOCKS_PER_PIECE })
    }

    /// Requests the content from the first block after `from`, again and again, until `end`. Returns the received bytes.
    pub fn download(mut self, from: u64, end: Instant) -> io::Result<u64> {
        let (mut buffer, mut received, mut requested) = (vec![0; 1 << 20], 0, 0);
        while Instant::now() < end {
            let outstanding = requested - received / PIECE_MESSAGE;
            if outstanding <= REQUESTED / 2 {
                let more = requested + REQUESTED - outstanding;
                let mut messages: Vec<u8> = (requested..more).flat_map(|block| self.request(from + block)).collect();
                self.requests.apply_keystream(&mut messages);
                self.stream.write_all(&messages)?;
                requested = more;
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => received += bytes as u64,
            }
        }
        Ok(received)
    }

    /// Returns the `request` message for a block.
    #[expect(clippy::cast_possible_truncation, reason = "the numbers of pieces and offsets have 32 bits")]
    fn request(&self, block: u64) -> Vec<u8> {
        let block = block % self.blocks;
        let (piece, offset) = (block / BLOCKS_PER_PIECE, block % BLOCKS_PER_PIECE * u64::from(BLOCK));
        let numbers = [piece as u32, offset as u32, BLOCK].map(u32::to_be_bytes);
        [&b"\0\0\0\x0d\x06"[..], numbers.as_flattened()].concat()
    }
}

/// Performs the handshake of the encryption. Returns the ciphers of both directions.
fn encrypted(mut stream: TcpStream, infohash: InfoHash) -> io::Result<(TcpStream, Rc4, Rc4)> {
    let prime = BigUint::parse_bytes(PRIME, 16).expect("a number");
    let private = BigUint::from_bytes_be(&rand::random::<[u8; 20]>());
    stream.write_all(&fixed(&BigUint::from(2_u8).modpow(&private, &prime)))?;
    let mut public = [0; KEY_SIZE];
    stream.read_exact(&mut public)?;
    let secret = fixed(&BigUint::from_bytes_be(&public).modpow(&private, &prime));
    let cipher = |name: &[u8]| {
        let mut cipher = Rc4::new_from_slice(&hash(&[name, &secret, infohash.as_bytes()])).expect("a key");
        cipher.apply_keystream(&mut [0; 1024]);
        cipher
    };
    let (mut ours, mut theirs) = (cipher(b"keyA"), cipher(b"keyB"));

    // The verification constant, the offer, and no padding and no initial payload.
    let mut offer = [&[0; 8][..], &CRYPTO_RC4.to_be_bytes(), &[0; 4]].concat();
    ours.apply_keystream(&mut offer);
    let (torrent, mask) = (hash(&[b"req2", infohash.as_bytes()]), hash(&[b"req3", &secret]));
    let masked: Vec<u8> = torrent.iter().zip(mask).map(|(one, other)| one ^ other).collect();
    stream.write_all(&[&hash(&[b"req1", &secret])[..], &masked, &offer].concat())?;

    // The seeder's padding ends with the verification constant.
    let mut constant = [0; 8];
    theirs.apply_keystream(&mut constant);
    let mut seen = vec![];
    while !seen.ends_with(&constant) {
        if seen.len() > MAX_PADDING + constant.len() {
            return Err(io::Error::other("the seeder refuses the encryption"));
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        seen.push(byte[0]);
    }
    let mut selected = [0; 6];
    stream.read_exact(&mut selected)?;
    theirs.apply_keystream(&mut selected);
    let mut padding = vec![0; usize::from(u16::from_be_bytes([selected[4], selected[5]]))];
    stream.read_exact(&mut padding)?;
    theirs.apply_keystream(&mut padding);
    Ok((stream, ours, theirs))
}

/// Returns the number in 96 bytes.
fn fixed(number: &BigUint) -> [u8; KEY_SIZE] {
    let (bytes, mut fixed) = (number.to_bytes_be(), [0; KEY_SIZE]);
    fixed[KEY_SIZE - bytes.len()..].copy_from_slice(&bytes);
    fixed
}

fn hash(parts: &[&[u8]]) -> [u8; 20] {
    parts.iter().fold(Sha1::new(), Digest::chain_update).finalize().into()
}
