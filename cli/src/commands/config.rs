//! `proxytorrent config`: prints every setting.

use std::io::Write;

use settings::Settings;

use crate::error::CommandError;
use crate::serve::profile;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Show the defaults of the development profile
    #[arg(long)]
    dev: bool,
}

/// Prints the settings as a documented `.env` file. The error names the settings that are not valid.
pub(crate) fn run(arguments: Arguments) -> Result<(), CommandError> {
    let (settings, problems) = Settings::describe(&profile(arguments.dev))?;
    // The reader may stop before the end.
    let mut output = std::io::stdout().lock();
    let mut section = String::new();
    for setting in settings {
        let heading = heading(&setting.name);
        if heading != section {
            if writeln!(output, "# ==== {heading} ====\n").is_err() {
                break;
            }
            heading.clone_into(&mut section);
        }
        let line = match setting.value {
            Some(value) => format!("{}={value}", setting.name),
            None => format!("#{}={}", setting.name, setting.default),
        };
        if writeln!(output, "# {}\n# {}\n{line}\n", setting.documentation, setting.allowed).is_err() {
            break;
        }
    }
    problems.map_or(Ok(()), |problems| Err(problems.into()))
}

/// The heading above settings with the same prefix.
fn heading(name: &str) -> &str {
    match name.split_once("__") {
        Some((prefix, _)) => prefix,
        None if name.starts_with("ECS_") => "ECS",
        None => "SERVER",
    }
}
