//! The recorder of metrics for CloudWatch, in its embedded metric format: lines of JSON on standard output, which
//! CloudWatch Logs turns into metrics. Each combination of labels is one metric with these dimensions.

use std::sync::OnceLock;

use metrics_cloudwatch_embedded::{Builder, Collector};
use tracing::error;

static COLLECTOR: OnceLock<&'static Collector> = OnceLock::new();

/// Installs the recorder of this process, whose metrics get this namespace. What is counted before is lost.
pub fn install(namespace: &str) -> Result<(), metrics_cloudwatch_embedded::Error> {
    let collector = Builder::new().cloudwatch_namespace(namespace.to_owned()).init()?;
    // `init` fails if there is a recorder already.
    let _ = COLLECTOR.set(collector);
    Ok(())
}

/// Writes what was counted since the last call, and every gauge. Does nothing without the recorder.
pub fn flush() {
    let Some(collector) = COLLECTOR.get() else { return };
    if let Err(error) = collector.flush(std::io::stdout()) {
        error!(%error, "metrics not written");
    }
}
