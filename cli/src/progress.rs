//! The progress display: a bar on a terminal, otherwise a line per change.

use std::io::IsTerminal;

use domain::Status;
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::Request;

/// A display on standard error.
pub(crate) enum Display {
    Bar(ProgressBar),
    Lines(Option<(Status, u8)>),
}

impl Display {
    pub fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(None);
        }
        let bar = ProgressBar::new(100);
        if let Ok(style) = ProgressStyle::with_template("{msg:>10} [{bar:40}] {pos:>3}% {elapsed}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::Bar(bar)
    }

    pub fn show(&mut self, request: &Request) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(request.status.as_str());
                bar.set_position(request.progress.into());
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
