//! `proxytorrent list`: lists the requests of the caller.

use std::io::{IsTerminal, Write};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use domain::Status;
use serde_json::Value;

use crate::client::{Client, Server};
use crate::error::CommandError;
use crate::output::{print, printable};

/// The longest page that the server returns.
const PAGE: usize = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only those with this status
    #[arg(long, value_parser = statuses())]
    status: Option<Status>,
    /// The number of requests, newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = parse_limit)]
    limit: usize,
    /// Print each request as a line of JSON with all fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// The names of statuses.
fn statuses() -> impl TypedValueParser<Value = Status> {
    PossibleValuesParser::new(Status::ALL.iter().map(|status| status.as_str())).try_map(|name| name.parse::<Status>())
}

fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "it must be a number from 1".to_owned())
}

/// Prints a line per request, separated by tabs: id, status, size in bytes, time of creation, and the name or the URL.
/// On a terminal, the first line has the names of these columns.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let client = Client::new(arguments.server)?;
    let filter = arguments.status.map(|status| format!("&status={status}")).unwrap_or_default();
    let (mut left, mut cursor) = (arguments.limit, String::new());
    let mut has_header = arguments.json || !std::io::stdout().is_terminal();
    while left > 0 {
        let page = client.list(&format!("limit={}{filter}{cursor}", left.min(PAGE))).await?;
        if !has_header {
            has_header = true;
            print(format_args!("{:36}\t{:9}\t{:>12}\t{:24}\tNAME", "ID", "STATUS", "SIZE", "CREATED"))?;
        }
        for item in &page.items {
            let line = if arguments.json { item.to_string() } else { line(item) };
            if writeln!(std::io::stdout(), "{line}").is_err() {
                // The reader, such as head, has enough.
                return Ok(());
            }
        }
        left = left.saturating_sub(page.items.len());
        let Some(next) = page.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    Ok(())
}

fn line(item: &Value) -> String {
    let text = |name: &str| item[name].as_str().unwrap_or_default();
    let size = item["content_size"].as_u64().map_or_else(|| "-".to_owned(), |size| size.to_string());
    let name = item["file_name"].as_str().unwrap_or_else(|| text("url"));
    let [id, status, created] = ["id", "status", "created_at"].map(|field| printable(text(field)));
    let name = printable(name);
    if std::io::stdout().is_terminal() {
        return format!("{id}\t{status:9}\t{size:>12}\t{created:24}\t{name}");
    }
    format!("{id}\t{status}\t{size}\t{created}\t{name}")
}
