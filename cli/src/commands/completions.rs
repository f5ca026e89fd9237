//! `proxytorrent completions`: prints the completions for a shell.

use std::io::Write;

use clap_complete::Shell;

use crate::error::CommandError;

const EXAMPLES: &str = "Examples:
  proxytorrent completions bash > ~/.local/share/bash-completion/completions/proxytorrent
  proxytorrent completions fish > ~/.config/fish/completions/proxytorrent.fish
  proxytorrent completions zsh > ~/.zfunc/_proxytorrent";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    shell: Shell,
}

/// Prints the completions of this command.
pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<(), CommandError> {
    let mut script = vec![];
    clap_complete::generate(arguments.shell, &mut command, "proxytorrent", &mut script);
    std::io::stdout().write_all(&script).map_err(|error| CommandError::start(format!("cannot print: {error}")))
}
