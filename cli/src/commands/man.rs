//! `proxytorrent man`: writes the manual pages, for packages.

use std::path::PathBuf;

use crate::error::CommandError;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder to write the pages to
    folder: PathBuf,
}

/// Writes a page for the command and one for each of its commands.
pub(crate) fn run(arguments: Arguments, command: clap::Command) -> Result<(), CommandError> {
    let folder = arguments.folder;
    let written = std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(command, &folder));
    written.map_err(|source| CommandError::Write { path: folder, source })
}
