//! The progress display: a bar on a terminal, otherwise a line per change.

use std::io::IsTerminal;

use domain::Status;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::client::Request;

/// A display on standard error.
pub(crate) enum Display {
    Bar(ProgressBar),
    Lines(Option<(Status, u8)>),
}

/// The bar of a transfer with a known size, and what it has in place of the rest until the size is known.
const TRANSFER: &str = "{msg:>10} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {left}";
const STEP: &str = "{msg:>10} {spinner} {bytes:.dim}";

/// Returns the style of a bar.
fn style(template: &str) -> ProgressStyle {
    let left = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let left = humantime::format_duration(std::time::Duration::from_secs(state.eta().as_secs()));
        let _ = write!(text, "{left} left");
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("left", left).progress_chars("=> ")
}

impl Display {
    pub fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(None);
        }
        Self::Bar(ProgressBar::no_length().with_style(style(STEP)))
    }

    /// A display of the transfer of a content with this size; without a terminal it shows nothing.
    pub fn of_transfer(size: Option<u64>) -> Self {
        let display = Self::new();
        if let (Self::Bar(bar), Some(size)) = (&display, size) {
            bar.set_message("saving");
            bar.set_length(size);
            bar.set_style(style(TRANSFER));
        }
        display
    }

    /// Sets the bytes of the transfer.
    pub fn set(&self, bytes: u64) {
        if let Self::Bar(bar) = self {
            bar.set_position(bytes);
        }
    }

    /// Adds bytes to the transfer.
    pub fn add(&self, bytes: u64) {
        if let Self::Bar(bar) = self {
            bar.inc(bytes);
        }
    }

    pub fn show(&mut self, request: &Request) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(request.status.as_str());
                let total = request.total_bytes.filter(|_| request.status == Status::Fetching);
                // A fetch that starts anew has fewer bytes.
                if bar.length() != total || request.received_bytes < bar.position() {
                    bar.set_style(style(if total.is_some() { TRANSFER } else { STEP }));
                    bar.reset();
                    total.map_or_else(|| bar.unset_length(), |total| bar.set_length(total));
                }
                bar.set_position(request.received_bytes);
            }
            Self::Lines(shown) => {
                // Not a line per percent.
                let now = Some((request.status, request.progress / 10));
                if *shown != now {
                    *shown = now;
                    eprintln!("{} {}%", request.status, request.progress);
                }
            }
        }
    }

    /// Prints a line beside the display.
    pub fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines(_) => eprintln!("{text}"),
        }
    }

    pub fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
