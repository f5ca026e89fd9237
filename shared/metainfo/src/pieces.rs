//! Piece hashing (BEP 3, BEP 52): one pass over the content, on all cores.

use std::convert::Infallible;

use rayon::prelude::*;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::TorrentFormat;

/// The size of a block, the leaf of a v2 hash tree (BEP 52), in bytes.
pub const BLOCK: usize = 16 * 1024;

/// The minimum number of bytes that a thread reads at a time. It fits the cache of a core, so the bytes are hashed
/// from the cache.
const GROUP: usize = 256 * 1024;

/// Returns the piece length in bytes for content of this size: as small as possible, so that peers can share early,
/// but with at most 2,048 pieces (40 kB of v1 hashes, 104 kB with v2). The piece length is 32 KiB to 16 MiB; larger
/// contents have more pieces.
pub fn piece_length_for(size: u64) -> u32 {
    const MIN: u64 = 32 * 1024;
    const MAX: u64 = 16 * 1024 * 1024;
    size.div_ceil(2048).next_power_of_two().clamp(MIN, MAX) as u32
}

type Node = [u8; 32];

/// The hashes of one piece.
struct PieceHash {
    v1: [u8; 20],
    v2: Node,
}

impl PieceHash {
    /// Hashes one piece. If the file has a `single` piece, its hash tree is only as wide as its blocks need.
    /// Otherwise the tree has the width of a whole piece, padded with zero leaves (BEP 52).
    fn of(piece: &[u8], format: TorrentFormat, piece_length: usize, single: bool) -> Self {
        let v2 = match format {
            TorrentFormat::V1 => Node::default(),
            TorrentFormat::Hybrid => {
                let blocks: Vec<Node> = piece.chunks(BLOCK).map(|block| Sha256::digest(block).into()).collect();
                let leaves = if single { blocks.len().next_power_of_two() } else { piece_length / BLOCK };
                merkle_root(blocks, leaves, [0; 32])
            }
        };
        Self { v1: Sha1::digest(piece).into(), v2 }
    }
}

/// Returns the Merkle root over `nodes`, padded with `padding` to `width`, which must be a power of two.
fn merkle_root(mut nodes: Vec<Node>, width: usize, padding: Node) -> Node {
    nodes.resize(width, padding);
    while nodes.len() > 1 {
        nodes = nodes
            .chunks_exact(2)
            .map(|pair| {
                let mut hasher = Sha256::new();
                hasher.update(pair[0]);
                hasher.update(pair[1]);
                hasher.finalize().into()
            })
            .collect();
    }
    nodes[0]
}

/// The piece hashes of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    pub(crate) format: TorrentFormat,
    pub(crate) piece_length: u32,
    pub(crate) size: u64,
    /// The concatenated SHA-1 hashes of all pieces: `pieces` of BEP 3.
    pub(crate) v1: Vec<u8>,
    /// `pieces root` of BEP 52. `None` for a v1 torrent and for an empty content.
    pub(crate) root: Option<[u8; 32]>,
    /// The concatenated roots of all pieces: the entry in `piece layers` of BEP 52. Empty if the file has one piece.
    pub(crate) layer: Vec<u8>,
}

impl Pieces {
    /// Hashes `size` bytes in pieces of `piece_length` on all cores. Reads every byte once. `read` fills its buffer
    /// from an offset. It is called from several threads concurrently, with whole pieces of at least 256 KiB in
    /// total, except at the end. Returns the first error of `read`.
    ///
    /// # Panics
    /// If `piece_length` is not a power of two of at least 16 KiB.
    pub fn hash<E: Send>(
        format: TorrentFormat,
        piece_length: u32,
        size: u64,
        read: impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let length = piece_length as usize;
        assert!(length.is_power_of_two() && length >= BLOCK, "a piece length of {length}");
        let group = length.max(GROUP);
        let single = size <= u64::from(piece_length);
        let hash_group = |buffer: &mut Vec<u8>, index: u64| {
            let offset = index * group as u64;
            buffer.resize(usize::try_from(size - offset).map_or(group, |rest| rest.min(group)), 0);
            read(offset, buffer)?;
            Ok(buffer.chunks(length).map(|piece| PieceHash::of(piece, format, length, single)).collect())
        };
        let groups: Vec<Vec<PieceHash>> = (0..size.div_ceil(group as u64))
            .into_par_iter()
            .map_init(Vec::new, hash_group)
            .collect::<Result<_, E>>()?;
        let v1 = groups.iter().flatten().flat_map(|hash| hash.v1).collect();
        let v2: Vec<Node> = groups.iter().flatten().map(|hash| hash.v2).collect();
        let (root, layer) = match format {
            TorrentFormat::Hybrid if single => (v2.first().copied(), vec![]),
            TorrentFormat::Hybrid => {
                let layer = v2.concat();
                let width = v2.len().next_power_of_two();
                // BEP 52: each missing piece after the end of the file is padded with the root of a piece of zero
                // leaves.
                let padding = merkle_root(vec![], length / BLOCK, [0; 32]);
                (Some(merkle_root(v2, width, padding)), layer)
            }
            TorrentFormat::V1 => (None, vec![]),
        };
        Ok(Self { format, piece_length, size, v1, root, layer })
    }

    /// Hashes bytes in memory.
    pub fn of(format: TorrentFormat, piece_length: u32, content: &[u8]) -> Self {
        let read = |offset: u64, buffer: &mut [u8]| {
            let offset = usize::try_from(offset).expect("an offset in the slice");
            buffer.copy_from_slice(&content[offset..][..buffer.len()]);
            Ok::<(), Infallible>(())
        };
        match Self::hash(format, piece_length, content.len() as u64, read) {
            Ok(pieces) => pieces,
        }
    }

    /// Returns the number of hashed bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the piece length in bytes.
    pub const fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Returns the SHA-1 hashes of the pieces, concatenated (BEP 3, `pieces`).
    pub fn v1_hashes(&self) -> &[u8] {
        &self.v1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_piece_length_grows_with_the_content_and_keeps_the_torrent_small() {
        for (size, expected) in [
            (0, 32 << 10),
            (1, 32 << 10),
            (64 << 20, 32 << 10),
            ((64 << 20) + 1, 64 << 10),
            (1 << 30, 512 << 10),
            (32 << 30, 16 << 20),
            (u64::MAX >> 1, 16 << 20),
        ] {
            assert_eq!(piece_length_for(size), expected, "{size}");
        }
    }

    #[test]
    fn every_byte_is_read_once_and_the_first_error_is_returned() {
        let size = 3 * GROUP as u64 + 5;
        let read = AtomicU64::new(0);
        let count = |_, buffer: &mut [u8]| {
            read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            Ok::<(), ()>(())
        };
        let pieces = Pieces::hash(TorrentFormat::V1, 1 << 15, size, count).unwrap();
        assert_eq!(read.load(Ordering::Relaxed), size);
        assert_eq!(pieces.v1.len() as u64, size.div_ceil(1 << 15) * 20);
        let fail = |offset, _: &mut [u8]| if offset > 0 { Err("broken") } else { Ok(()) };
        assert_eq!(Pieces::hash(TorrentFormat::V1, 1 << 15, size, fail), Err("broken"));
    }
}
