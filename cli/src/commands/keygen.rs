//! `proxytorrent keygen`: generates a token or a signing key.

use clap::Args;
use domain::UserId;
use sha2::{Digest, Sha256};

const EXAMPLES: &str = "Examples:
  proxytorrent keygen alice             a token for the user alice
  proxytorrent keygen --signing alice   a key with which alice signs calls";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The name of the user: letters, digits, `-`, `_` and `.`
    #[arg(value_parser = parse_name)]
    name: String,
    /// Generate a key that signs calls instead of a token
    #[arg(long)]
    signing: bool,
}

fn parse_name(text: &str) -> Result<String, String> {
    let is_good = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if is_good { Ok(text.to_owned()) } else { Err("use letters, digits, -, _ and .".to_owned()) }
}

/// Prints the settings of the server and of the client. Of a token the server gets the hash only.
pub(crate) fn run(arguments: &Arguments) {
    let user = UserId::new(&arguments.name);
    let secret = hex::encode(rand::random::<[u8; 32]>());
    println!("# Settings of the server. Entries of several users are separated by commas.");
    if arguments.signing {
        println!("SECURITY__HMAC_KEYS={user}:{secret}");
        println!("\n# Settings of the client");
        println!("CLIENT__KEY_ID={user}\nCLIENT__KEY_SECRET={secret}");
    } else {
        println!("SECURITY__BEARER_TOKENS={user}:sha256:{}", hex::encode(Sha256::digest(&secret)));
        println!("\n# Settings of the client");
        println!("CLIENT__TOKEN={secret}");
    }
}
