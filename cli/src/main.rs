//! The `proxytorrent` command: the embedded server and its client.

mod client;
mod commands;
mod error;
mod output;
mod progress;
mod serve;
mod wait;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    SaveTarget, Target, cancel, completions, config, content, doctor, get, health, keygen, list, magnet, man, revoke,
    status, torrent, verify, watch,
};
use crate::error::CommandError;

/// Turns a URL into a torrent: fetches it through your proxy, packages it, seeds it.
///
/// The client commands call the server in CLIENT__SERVER with the bearer token in CLIENT__TOKEN, or sign their calls
/// with CLIENT__KEY_SECRET and CLIENT__KEY_ID. Settings are read from the environment, from .env in the working directory,
/// and from ~/.config/proxytorrent/config.toml, where CLIENT__SERVER is `server` in the table [client].
#[derive(Debug, Parser)]
#[command(name = "proxytorrent", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 the request failed or was cancelled, or a check failed · 2 wrong usage or settings · \
3 the server cannot be reached or is unavailable · 4 the server refused · 5 a file cannot be written · 130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: API, tracker, workers and seeder in one process.
    Serve(serve::Arguments),
    /// Fetch URLs: wait for the torrents, save them, print the magnet links.
    Get(get::Arguments),
    /// Print a request as JSON.
    Status(Target),
    /// List your requests, newest first.
    List(list::Arguments),
    /// Save the .torrent file of a ready request.
    Torrent(SaveTarget),
    /// Print the magnet link of a ready request.
    Magnet(Target),
    /// Save the content of a ready request.
    Content(SaveTarget),
    /// Follow a request until it is ready or has ended.
    Watch(Target),
    /// Cancel a request, and its seeding if no other request needs it.
    Cancel(Target),
    /// Revoke the tracker passkeys in all torrents and magnet links that you got so far, and the links to contents.
    Revoke(revoke::Arguments),
    /// Print the health of the server as JSON. The exit code is 1 if it is unhealthy.
    Health(health::Arguments),
    /// Print every setting with its documentation and value.
    Config(config::Arguments),
    /// Check settings, storage, ports, proxy, addresses and clock of this machine, and say what to do.
    Doctor(doctor::Arguments),
    /// Generate a token or a signing key, and print the settings of server and client.
    Keygen(keygen::Arguments),
    /// Check a file against a .torrent file, without a server.
    Verify(verify::Arguments),
    /// Print the completions for a shell.
    Completions(completions::Arguments),
    /// Write the manual pages to a folder.
    #[command(hide = true)]
    Man(man::Arguments),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("proxytorrent: cannot start its threads: {error}");
            return ExitCode::from(2);
        }
    };
    let result = runtime.block_on(async {
        match command {
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Get(arguments) => get::run(arguments).await,
            Command::Status(target) => status::run(target).await,
            Command::List(arguments) => list::run(arguments).await,
            Command::Torrent(arguments) => torrent::run(arguments).await,
            Command::Magnet(target) => magnet::run(target).await,
            Command::Content(arguments) => content::run(arguments).await,
            Command::Watch(target) => watch::run(target).await,
            Command::Cancel(target) => cancel::run(target).await,
            Command::Revoke(arguments) => revoke::run(arguments).await,
            Command::Health(arguments) => health::run(arguments).await,
            Command::Config(arguments) => config::run(arguments),
            Command::Doctor(arguments) => doctor::run(arguments).await,
            Command::Keygen(arguments) => keygen::run(&arguments),
            Command::Verify(arguments) => verify::run(&arguments),
            Command::Man(arguments) => man::run(arguments, Arguments::command()),
            Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        }
    });
    if matches!(result, Err(CommandError::Interrupted { .. })) {
        // Without waiting for a thread that still reads a file.
        runtime.shutdown_background();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxytorrent: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
