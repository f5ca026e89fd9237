//! Piece hashing: one pass over the content, on all cores.

use rayon::prelude::*;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::TorrentFormat;

/// The size of a block, the leaf of a v2 hash tree (BEP 52), in bytes.
pub const BLOCK: usize = 16 * 1024;

/// How much is hashed in one go at least, so that threads have something to share, in bytes.
const BATCH: usize = 4 * 1024 * 1024;

/// The piece length for content of this size: so small that peers can share early, and so large that
/// there are at most 2,048 pieces (40 kB of v1 hashes, 104 kB with v2's), as far as 16 MiB suffices.
pub fn piece_length_for(size: u64) -> u32 {
    const MIN: u64 = 32 * 1024;
    const MAX: u64 = 16 * 1024 * 1024;
    size.div_ceil(2048).next_power_of_two().clamp(MIN, MAX) as u32
}

type Node = [u8; 32];

/// The hashes of one piece.
#[derive(Default, Clone, Copy)]
struct PieceHash {
    v1: [u8; 20],
    v2: Node,
}

/// Hashes content as it streams by; see [`PieceHasher::finish`].
#[derive(Debug)]
pub struct PieceHasher {
    format: TorrentFormat,
    piece_length: usize,
    batch: usize,
    buffer: Vec<u8>,
    size: u64,
    v1: Vec<u8>,
    v2: Vec<Node>,
    /// The block hashes of the first piece: the whole tree of a content that fits one piece.
    first_blocks: Vec<Node>,
}

impl PieceHasher {
    /// A hasher for pieces of `piece_length` bytes, a power of two of at least 16 KiB.
    ///
    /// # Panics
    /// If `piece_length` is not that.
    pub fn new(format: TorrentFormat, piece_length: u32) -> Self {
        assert!(piece_length.is_power_of_two() && piece_length as usize >= BLOCK, "a piece length of {piece_length}");
        let piece_length = piece_length as usize;
        Self {
            format,
            piece_length,
            batch: BATCH.max(piece_length),
            buffer: vec![],
            size: 0,
            v1: vec![],
            v2: vec![],
            first_blocks: vec![],
        }
    }

    /// How many bytes at a time suit it best: slices of this size are hashed where they lie.
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// Takes the next bytes. Blocks while it hashes: call it from a thread that may.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if !self.buffer.is_empty() {
            let missing = (self.batch - self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.buffer.len() == self.batch {
                let batch = std::mem::take(&mut self.buffer);
                self.hash(&batch);
                self.buffer = batch;
                self.buffer.clear();
            }
        }
        let whole = bytes.len() / self.batch * self.batch;
        self.hash(&bytes[..whole]);
        self.buffer.extend_from_slice(&bytes[whole..]);
    }

    /// The hashes of all that was taken.
    pub fn finish(mut self) -> Pieces {
        let rest = std::mem::take(&mut self.buffer);
        self.hash(&rest);
        let (root, layer) = match self.format {
            TorrentFormat::V1 => (None, vec![]),
            TorrentFormat::Hybrid if self.size == 0 => (None, vec![]),
            TorrentFormat::Hybrid if self.v2.len() == 1 => {
                // The tree of a file that fits one piece is as small as its blocks allow.
                let leaves = self.first_blocks.len().next_power_of_two();
                (Some(merkle_root(self.first_blocks, leaves, [0; 32])), vec![])
            }
            TorrentFormat::Hybrid => {
                let leaves = self.v2.len().next_power_of_two();
                // Beyond the file's end a whole piece of zero leaves stands for each missing piece.
                let padding = merkle_root(vec![], self.piece_length / BLOCK, [0; 32]);
                (Some(merkle_root(self.v2.clone(), leaves, padding)), self.v2.concat())
            }
        };
        Pieces {
            format: self.format,
            piece_length: self.piece_length as u32,
            size: self.size,
            v1: self.v1,
            root,
            layer,
        }
    }

    /// Hashes whole pieces, and at the very end of the content a short one.
    fn hash(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.format == TorrentFormat::Hybrid && self.first_blocks.is_empty() {
            let first = &bytes[..bytes.len().min(self.piece_length)];
            self.first_blocks = first.par_chunks(BLOCK).map(|block| Sha256::digest(block).into()).collect();
        }
        let (format, piece_length) = (self.format, self.piece_length);
        let hash = |piece: &[u8]| PieceHash {
            v1: Sha1::digest(piece).into(),
            v2: match format {
                TorrentFormat::V1 => Node::default(),
                TorrentFormat::Hybrid => piece_root(piece, piece_length),
            },
        };
        let hashes: Vec<PieceHash> = if bytes.len() <= piece_length {
            vec![hash(bytes)]
        } else {
            bytes.par_chunks(piece_length).map(hash).collect()
        };
        self.v1.extend(hashes.iter().flat_map(|h| h.v1));
        if format == TorrentFormat::Hybrid {
            self.v2.extend(hashes.iter().map(|h| h.v2));
        }
    }
}

/// The root over one piece's blocks, filled up with zero leaves to a whole piece.
fn piece_root(piece: &[u8], piece_length: usize) -> Node {
    let blocks = piece.chunks(BLOCK).map(|block| Sha256::digest(block).into()).collect();
    merkle_root(blocks, piece_length / BLOCK, [0; 32])
}

/// The root over `nodes`, filled up with `padding` to `width`, a power of two.
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

/// What a torrent says of its content's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    pub(crate) format: TorrentFormat,
    pub(crate) piece_length: u32,
    pub(crate) size: u64,
    /// The concatenated SHA-1 of all pieces: `pieces` of BEP 3.
    pub(crate) v1: Vec<u8>,
    /// `pieces root` of BEP 52, for a hybrid torrent of anything but nothing.
    pub(crate) root: Option<[u8; 32]>,
    /// The concatenated roots of all pieces: the entry in `piece layers` of a file larger than one.
    pub(crate) layer: Vec<u8>,
}

impl Pieces {
    /// Bytes hashed.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes a piece.
    pub const fn piece_length(&self) -> u32 {
        self.piece_length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn how_the_content_is_cut_up_does_not_matter(
            size in 0_usize..200_000,
            cuts in proptest::collection::vec(1_usize..70_000, 1..8),
            hybrid in any::<bool>(),
        ) {
            let format = if hybrid { TorrentFormat::Hybrid } else { TorrentFormat::V1 };
            let content: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut whole = PieceHasher::new(format, 32 * 1024);
            whole.batch = 64 * 1024;
            whole.update(&content);
            let mut cut = PieceHasher::new(format, 32 * 1024);
            cut.batch = 64 * 1024;
            let mut rest = &content[..];
            for length in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*length).min(rest.len()));
                cut.update(now);
                rest = later;
                if rest.is_empty() { break }
            }
            prop_assert_eq!(whole.finish(), cut.finish());
        }
    }
}
