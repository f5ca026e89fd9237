//! Metainfo files (BEP 3, BEP 52): built from piece hashes, then extended with trackers and webseeds.

use domain::{InfoHash, InfoHashV2};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::TorrentFormat;
use crate::bencode::{BencodeError, Value};
use crate::pieces::Pieces;

/// The parameters of a torrent besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorrentBuilder {
    /// The file name: not empty, no path separators.
    pub name: String,
    /// The private flag (BEP 27): clients take peers only from the tracker.
    pub private: bool,
    /// The tracker of the torrent, or a salt. A different value results in a different infohash.
    pub source: Option<String>,
    /// The program that created the torrent. Not part of the infohash.
    pub created_by: Option<String>,
    /// The creation time in seconds since the Unix epoch. Not part of the infohash.
    pub creation_date: Option<i64>,
}

/// The error of a torrent that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The content is empty. BEP 3 allows it, but no client downloads it.
    #[error("cannot build a torrent: the content is empty")]
    Empty,
    /// The name is not a valid file name.
    #[error("cannot build a torrent: '{0}' is not a file name")]
    BadName(String),
    /// The size is not a 64-bit signed integer.
    #[error("cannot build a torrent: the content is too large")]
    TooLarge,
}

impl TorrentBuilder {
    /// Builds the metainfo file of a content with these hashes. The same hashes, name, private flag and source always
    /// result in the same infohash.
    pub fn build(&self, pieces: Pieces) -> Result<Metainfo, BuildError> {
        if pieces.size == 0 {
            return Err(BuildError::Empty);
        }
        if matches!(self.name.as_str(), "" | "." | "..") || self.name.contains(['/', '\\', '\0']) {
            return Err(BuildError::BadName(self.name.clone()));
        }
        let size = Value::Integer(i64::try_from(pieces.size).map_err(|_| BuildError::TooLarge)?);
        let mut info = vec![
            ("name", Value::bytes(&self.name)),
            ("piece length", Value::Integer(i64::from(pieces.piece_length))),
            ("length", size.clone()),
            ("pieces", Value::Bytes(pieces.v1)),
        ];
        if self.private {
            info.push(("private", Value::Integer(1)));
        }
        if let Some(source) = &self.source {
            info.push(("source", Value::bytes(source)));
        }
        let mut torrent = vec![];
        if let Some(root) = pieces.root {
            // BEP 52: the file tree nests path components; the properties of the file are under the empty key.
            let file = Value::dict([("length", size), ("pieces root", Value::bytes(root))]);
            info.push(("meta version", Value::Integer(2)));
            info.push(("file tree", Value::dict([(&self.name, Value::dict([("", file)]))])));
            let layers = (!pieces.layer.is_empty()).then_some((root, Value::Bytes(pieces.layer)));
            torrent.push(("piece layers", Value::dict(layers)));
        }
        if let Some(program) = &self.created_by {
            torrent.push(("created by", Value::bytes(program)));
        }
        if let Some(seconds) = self.creation_date {
            torrent.push(("creation date", Value::Integer(seconds)));
        }
        let info = Value::dict(info).encode();
        let infohash = InfoHash::new(Sha1::digest(&info).into());
        let infohash_v2 =
            (pieces.format == TorrentFormat::Hybrid).then(|| InfoHashV2::new(Sha256::digest(&info).into()));
        torrent.push(("info", Value::Raw(info)));
        Ok(Metainfo { infohash, infohash_v2, bytes: Value::dict(torrent).encode() })
    }
}

/// A metainfo file without trackers and webseeds. It is the same for all users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metainfo {
    infohash: InfoHash,
    infohash_v2: Option<InfoHashV2>,
    bytes: Vec<u8>,
}

impl Metainfo {
    /// Returns the v1 infohash.
    pub const fn infohash(&self) -> InfoHash {
        self.infohash
    }

    /// Returns the v2 infohash of a hybrid torrent, or `None` for a v1 torrent.
    pub const fn infohash_v2(&self) -> Option<InfoHashV2> {
        self.infohash_v2
    }

    /// Returns the `.torrent` file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the `.torrent` file, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The entries that are added to a metainfo file for one user. None of them is part of the infohash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetainfoExtras {
    /// Tracker URLs in order of preference (BEP 12).
    pub trackers: Vec<String>,
    /// Webseed URLs (BEP 19).
    pub webseeds: Vec<String>,
    /// The free-text comment.
    pub comment: Option<String>,
}

impl MetainfoExtras {
    /// Returns the metainfo file with these entries added. The bytes of the info dictionary do not change.
    pub fn apply(&self, metainfo: &[u8]) -> Result<Vec<u8>, BencodeError> {
        let mut torrent = Value::decode_shallow(metainfo)?;
        let mut set = |key: &str, value| torrent.insert(key.as_bytes().to_vec(), value);
        if let Some(first) = self.trackers.first() {
            set("announce", Value::bytes(first));
            if self.trackers.len() > 1 {
                let tiers = self.trackers.iter().map(|url| Value::List(vec![Value::bytes(url)]));
                set("announce-list", Value::List(tiers.collect()));
            }
        }
        if !self.webseeds.is_empty() {
            set("url-list", Value::List(self.webseeds.iter().map(Value::bytes).collect()));
        }
        if let Some(comment) = &self.comment {
            set("comment", Value::bytes(comment));
        }
        Ok(Value::Dict(torrent).encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> TorrentBuilder {
        TorrentBuilder {
            name: "a.txt".into(),
            private: true,
            source: None,
            created_by: Some("test".into()),
            creation_date: Some(7),
        }
    }

    fn pieces(format: TorrentFormat) -> Pieces {
        Pieces::of(format, 32 * 1024, &[7; 100_000])
    }

    #[test]
    fn the_infohash_ignores_program_and_date_but_not_name_private_flag_and_source() {
        let build = |recipe: TorrentBuilder| recipe.build(pieces(TorrentFormat::Hybrid)).unwrap();
        let base = build(recipe());
        let later = build(TorrentBuilder { created_by: None, creation_date: Some(8), ..recipe() });
        assert_eq!((base.infohash(), base.infohash_v2()), (later.infohash(), later.infohash_v2()));
        for other in [
            TorrentBuilder { name: "b.txt".into(), ..recipe() },
            TorrentBuilder { private: false, ..recipe() },
            TorrentBuilder { source: Some("salt".into()), ..recipe() },
        ] {
            let other = build(other);
            assert_ne!(base.infohash(), other.infohash());
            assert_ne!(base.infohash_v2(), other.infohash_v2());
        }
    }

    #[test]
    fn extras_do_not_change_the_info_dictionary() {
        for format in [TorrentFormat::V1, TorrentFormat::Hybrid] {
            let base = recipe().build(pieces(format)).unwrap();
            let handout = MetainfoExtras {
                trackers: vec!["http://a/announce".into(), "http://b/announce".into()],
                webseeds: vec!["http://c/".into()],
                comment: Some("c".into()),
            };
            let torrent = Value::decode(&handout.apply(base.as_bytes()).unwrap()).unwrap();
            assert_eq!(torrent.get("announce"), Some(&Value::bytes("http://a/announce")));
            assert_eq!(torrent.get("url-list"), Some(&Value::List(vec![Value::bytes("http://c/")])));
            let info = torrent.get("info").unwrap().encode();
            assert_eq!(InfoHash::new(Sha1::digest(&info).into()), base.infohash());
        }
    }

    #[test]
    fn empty_contents_and_bad_names_are_refused() {
        let empty = Pieces::of(TorrentFormat::V1, 32 * 1024, &[]);
        assert_eq!(recipe().build(empty), Err(BuildError::Empty));
        for name in ["", ".", "..", "a/b", "a\\b", "a\0b"] {
            let recipe = TorrentBuilder { name: name.into(), ..recipe() };
            assert_eq!(recipe.build(pieces(TorrentFormat::V1)), Err(BuildError::BadName(name.into())));
        }
    }
}
