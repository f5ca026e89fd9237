//! Standard output, texts of the server, and the files that commands save.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use domain::{ContentHash, FileName};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::CommandError;

/// Prints a line. A reader that has enough, such as `head`, is no error.
pub(crate) fn print(line: impl std::fmt::Display) -> Result<(), CommandError> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::Write { path: "the standard output".into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Returns a text of a server without characters that control a terminal or the direction of text.
pub(crate) fn printable(text: &str) -> String {
    let controls = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|c| !controls(*c)).collect()
}

/// Returns the name of a file for a name that a server gives, which is not trusted.
pub(crate) fn file_name(name: Option<&str>) -> String {
    name.and_then(FileName::sanitize).unwrap_or_default().to_string()
}

/// Creates a file with a temporary name in a folder, which is created if necessary. It is removed unless it is
/// [kept](keep).
pub(crate) fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder)?;
    // The umask applies.
    tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

/// Gives a file its name, and never replaces another one.
pub(crate) fn keep(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist_noclobber(path).map(drop).map_err(|error| error.error)
}

/// Saves a torrent as `name.torrent` in a folder; as `name (2).torrent` if there is such a file. Returns the path.
pub(crate) fn save_torrent(folder: &Path, name: &str, torrent: &[u8]) -> Result<PathBuf, CommandError> {
    let failed = |source| CommandError::Write { path: folder.to_owned(), source };
    for number in 1.. {
        let number = if number == 1 { String::new() } else { format!(" ({number})") };
        let path = folder.join(format!("{name}{number}.torrent"));
        let mut file = new_file(folder).map_err(failed)?;
        file.write_all(torrent).map_err(failed)?;
        match keep(file, &path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    unreachable!("a free number is found")
}

/// Returns whether a path is a regular file with this size and hash.
pub(crate) fn is_content(path: &Path, size: Option<u64>, hash: Option<ContentHash>) -> io::Result<bool> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_file() || size.is_some_and(|size| size != metadata.len()) {
        return Ok(false);
    }
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(ContentHash::new(hasher.finalize().into())) == hash),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_server_do_not_control_the_terminal() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}b\u{202e}c\n"), "a]0;xbc");
    }

    #[test]
    fn a_torrent_never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("a.torrent")).unwrap();
        let long = "x".repeat(200);
        for (name, expected) in [("a", "a (2).torrent"), ("a", "a (3).torrent"), (&long, &format!("{long}.torrent"))] {
            assert_eq!(save_torrent(folder.path(), name, b"d1:ae").unwrap(), folder.path().join(expected));
        }
        assert_eq!(save_torrent(folder.path(), &long, b"").unwrap(), folder.path().join(format!("{long} (2).torrent")));
        assert_eq!(std::fs::read(victim).unwrap(), b"mine");
    }
}
