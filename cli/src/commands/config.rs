//! `proxytorrent config`: every setting.

use settings::{Profile, Settings};

use super::CommandError;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Show the defaults of the development profile
    #[arg(long)]
    dev: bool,
}

/// Prints the settings as an `.env` file that says what they are; what is wrong with them, if anything,
/// is the error.
pub(crate) fn run(arguments: Arguments) -> Result<(), CommandError> {
    let (settings, problems) = Settings::describe(arguments.dev.then_some(Profile::Development))?;
    for setting in settings {
        println!("# {}", setting.documentation);
        println!("# {}", setting.allowed);
        match setting.value {
            Some(value) => println!("{}={value}\n", setting.name),
            None => println!("#{}={}\n", setting.name, setting.default),
        }
    }
    problems.map_or(Ok(()), |problems| Err(problems.into()))
}
