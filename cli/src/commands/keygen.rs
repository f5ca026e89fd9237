//! `proxytorrent keygen`: generates a token or a signing key.

use clap::Args;
use sha2::{Digest, Sha256};

use crate::error::CommandError;
use crate::output::print;

const EXAMPLES: &str = "Examples:
  proxytorrent keygen alice             a token for the user alice
  proxytorrent keygen --signing alice   a key with which alice signs calls";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The name of the user: letters, digits, `.`, `_`, `-` and `@`
    #[arg(value_parser = parse_name)]
    name: String,
    /// Generate a key that signs calls instead of a token
    #[arg(long)]
    signing: bool,
}

fn parse_name(text: &str) -> Result<String, String> {
    // In a list of tokens, it would begin a hash.
    let reserved = if text == "sha256" { Err("is reserved".to_owned()) } else { Ok(()) };
    reserved.and_then(|()| settings::check_user_name(text)).map(|()| text.to_owned())
}

/// Prints the settings of the server and of the client. Of a token the server gets the hash only.
pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let (user, secret) = (&arguments.name, hex::encode(rand::random::<[u8; 32]>()));
    let (server, client) = if arguments.signing {
        (format!("SECURITY__HMAC_KEYS={user}:{secret}"), format!("CLIENT__KEY_ID={user}\nCLIENT__KEY_SECRET={secret}"))
    } else {
        let digest = hex::encode(Sha256::digest(&secret));
        (format!("SECURITY__BEARER_TOKENS={user}:sha256:{digest}"), format!("CLIENT__TOKEN={secret}"))
    };
    print("# Settings of the server. Entries of several users are separated by commas.")?;
    print(format_args!("{server}\n\n# Settings of the client\n{client}"))
}
