//! `proxytorrent verify`: checks a file against a `.torrent` file, without a server.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use domain::FileName;
use metainfo::{Pieces, TorrentFormat, Value};

use crate::error::CommandError;
use crate::output::print;

/// The length of a SHA-1 hash in bytes.
const HASH: usize = 20;

/// The shortest piece length: a block (BEP 52).
const SHORTEST_PIECE: u32 = 16 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The .torrent file, of a torrent with one file
    torrent: PathBuf,
    /// The file to check, or the folder that has it
    path: PathBuf,
}

/// Prints `ok` if the file is that of the torrent. The error says what differs.
pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let torrent = read(&arguments.torrent)?;
    let path = if arguments.path.is_dir() { arguments.path.join(&torrent.name) } else { arguments.path.clone() };
    let failed = |error: &dyn std::fmt::Display| CommandError::Start(format!("{}: {error}", path.display()));
    let differs = |what: String| Err(CommandError::Failed(format!("{}: {what}", path.display())));
    let file = File::open(&path).map_err(|error| failed(&error))?;
    let size = file.metadata().map_err(|error| failed(&error))?.len();
    if size != torrent.length {
        return differs(format!("it has {size} bytes, and the file of the torrent {}", torrent.length));
    }
    let read = |offset: u64, buffer: &mut [u8]| file.read_exact_at(buffer, offset);
    let pieces = Pieces::hash(TorrentFormat::V1, torrent.piece_length, size, read).map_err(|error| failed(&error))?;
    let mut pairs = pieces.v1_hashes().chunks(HASH).zip(torrent.pieces.chunks(HASH));
    if let Some(number) = pairs.position(|(found, expected)| found != expected) {
        return differs(format!("piece {} of {} differs", number + 1, torrent.pieces.len() / HASH));
    }
    print(format_args!("ok {}", path.display()))
}

/// What a torrent with one file says about it.
struct Torrent {
    name: String,
    length: u64,
    piece_length: u32,
    /// The SHA-1 hashes, one after another.
    pieces: Vec<u8>,
}

/// Reads a `.torrent` file (BEP 3).
fn read(path: &Path) -> Result<Torrent, CommandError> {
    let refused = |why: &dyn std::fmt::Display| CommandError::Start(format!("{}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| refused(&error))?;
    let metainfo = Value::decode(&bytes).map_err(|error| refused(&error))?;
    let torrent = metainfo.get("info").and_then(|info| {
        let number = |name: &str| u64::try_from(info.get(name)?.as_integer()?).ok();
        let name = String::from_utf8_lossy(info.get("name")?.as_bytes()?).into_owned();
        let piece_length = u32::try_from(number("piece length")?).ok()?;
        Some(Torrent { name, length: number("length")?, piece_length, pieces: info.get("pieces")?.as_bytes()?.into() })
    });
    let torrent = torrent.ok_or_else(|| refused(&"it is not a v1 torrent with one file"))?;
    if !torrent.piece_length.is_power_of_two() || torrent.piece_length < SHORTEST_PIECE {
        return Err(refused(&format!("its piece length, {}, is not supported", torrent.piece_length)));
    }
    let pieces = torrent.length.div_ceil(torrent.piece_length.into());
    // The name may be that of another torrent client, and must not lead out of the folder.
    let is_plain = FileName::sanitize(&torrent.name).is_some_and(|name| name.as_str() == torrent.name);
    if torrent.pieces.len() as u64 != pieces * HASH as u64 || !is_plain {
        return Err(refused(&"its hashes do not fit its length, or its name is not that of a file"));
    }
    Ok(torrent)
}
