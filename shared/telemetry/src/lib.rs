//! Logging (standard error, one line per event) and termination signals.

#[cfg(feature = "emf")]
pub mod emf;
pub mod metrics;
#[cfg(feature = "prometheus")]
mod prometheus;
mod signals;

use std::io::IsTerminal;

#[cfg(feature = "prometheus")]
pub use prometheus::Recorder;
pub use signals::Signals;

use settings::{LogLevel, Settings};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Initializes logging with these settings.
pub fn start(settings: &Settings) {
    let level = if settings.server.debug { LogLevel::Debug } else { settings.monitoring.log_level };
    let level: LevelFilter = level.as_str().parse().unwrap_or(LevelFilter::INFO);
    // Other crates log warnings and errors only.
    let mut targets = Targets::new().with_default(level.min(LevelFilter::WARN));
    // The names of all crates in this workspace have this prefix.
    targets = targets.with_target("proxytorrent", level);
    if settings.database.echo_sql {
        targets = targets.with_target("sqlx::query", LevelFilter::DEBUG);
    }
    let layer = if settings.monitoring.json_logs {
        fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
}
