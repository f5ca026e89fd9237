//! Torrents: bencode, piece hashing, metainfo files and magnet links (BEP 3, 9, 12, 19, 27, 52).
//! Pure computation over bytes: no I/O.
//!
//! A torrent needs one pass over the content:
//!
//! ```
//! use proxytorrent_metainfo::{Pieces, TorrentBuilder, TorrentFormat, piece_length_for};
//!
//! let content = b"hello";
//! let pieces = Pieces::of(TorrentFormat::V1, piece_length_for(content.len() as u64), content);
//! let recipe = TorrentBuilder {
//!     name: "hello.txt".into(),
//!     private: true,
//!     source: None,
//!     created_by: None,
//!     creation_date: None,
//! };
//! let metainfo = recipe.build(pieces)?;
//! assert_eq!(metainfo.infohash().as_bytes().len(), 20);
//! # Ok::<(), proxytorrent_metainfo::BuildError>(())
//! ```

mod bencode;
mod builder;
mod magnet;
mod pieces;

pub use bencode::{BencodeError, Value};
pub use builder::{BuildError, Metainfo, MetainfoExtras, TorrentBuilder};
pub use domain::TorrentFormat;
pub use magnet::Magnet;
pub use pieces::{BLOCK, Pieces, piece_length_for};
