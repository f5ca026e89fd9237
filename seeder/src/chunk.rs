//! Chunks of contents: keys of the cache, and sets of chunks.

use std::io::{Read, Write};

use domain::ContentHash;
use foyer::Code;

/// A chunk of a content: the bytes from `index * size` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    pub content: ContentHash,
    /// In bytes; the last chunk of a content may be shorter.
    pub size: u32,
    pub index: u64,
}

impl ChunkKey {
    /// Returns the key of another chunk of the content.
    pub fn at(self, index: u64) -> Self {
        Self { index, ..self }
    }

    /// Returns the offset of the first byte in the content.
    pub fn offset(&self) -> u64 {
        self.index * u64::from(self.size)
    }
}

/// Returns the permits of a semaphore that counts KiB, for this many bytes of one chunk.
#[expect(clippy::cast_possible_truncation, reason = "a chunk has at most 16 MiB")]
pub(crate) fn kibibytes(bytes: usize) -> u32 {
    bytes.div_ceil(1024) as u32
}

/// The format of the disk cache.
impl Code for ChunkKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(self.content.as_bytes())?;
        self.size.encode(writer)?;
        self.index.encode(writer)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut content = [0; 32];
        reader.read_exact(&mut content)?;
        Ok(Self { content: ContentHash::new(content), size: u32::decode(reader)?, index: u64::decode(reader)? })
    }

    fn estimated_size(&self) -> usize {
        32 + self.size.estimated_size() + self.index.estimated_size()
    }
}

/// A set of chunks of one content, with a bit for each.
#[derive(Debug, Default)]
pub(crate) struct Chunks(Vec<u64>);

impl Chunks {
    pub fn contains(&self, index: u64) -> bool {
        self.0.get((index / 64) as usize).is_some_and(|bits| bits & (1 << (index % 64)) != 0)
    }

    pub fn insert(&mut self, index: u64) {
        let word = (index / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    /// Returns the indexes in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let words = self.0.iter().zip((0..).step_by(64));
        words.flat_map(|(bits, first)| (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| first + bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_inserted() {
        let (mut chunks, indexes) = (Chunks::default(), [0, 1, 63, 64, 200]);
        for index in indexes {
            chunks.insert(index);
        }
        assert_eq!(chunks.iter().collect::<Vec<_>>(), indexes);
        assert!((0..300).all(|index| chunks.contains(index) == indexes.contains(&index)));
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = ChunkKey { content: ContentHash::new([7; 32]), size: 1 << 22, index: 9 };
        let mut bytes = vec![];
        key.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), key.estimated_size());
        assert_eq!(ChunkKey::decode(&mut &bytes[..]).unwrap(), key);
    }
}
