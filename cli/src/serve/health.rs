//! The health checks of the embedded server.

use std::sync::Arc;

use api::HealthChecks;
use fetcher::{Fetcher, ProxyHealth};
use pipeline::{ScrubFindings, Seed};
use ports::{StoreError, Stores};
use seeder::SeedSessions;
use serde_json::json;
use tracing::warn;

/// Checks of the database, the content folder, the task queue, the proxy and the seeder.
pub(super) fn checks(
    stores: &Stores,
    fetcher: &Fetcher,
    sessions: &Arc<SeedSessions>,
    findings: Arc<ScrubFindings>,
    seed: Seed,
) -> HealthChecks {
    let (requests, contents, tasks) = (stores.requests.clone(), stores.contents.clone(), stores.tasks.clone());
    let (fetcher, sessions) = (fetcher.clone(), sessions.clone());
    HealthChecks::new()
        .with("database", move || {
            let requests = requests.clone();
            async move {
                let checked = requests.check().await;
                checked.map(|()| json!({})).map_err(|error| reason(&error, "the database does not take writes"))
            }
        })
        .with("storage", move || {
            let (contents, findings) = (contents.clone(), findings.clone());
            async move {
                if findings.is_mostly_missing() {
                    return Err("most contents are missing (STORAGE__CONTENT_PATH)".into());
                }
                let checked = contents.check().await;
                checked
                    .map(|()| json!({ "damaged_contents": findings.damaged() }))
                    .map_err(|error| reason(&error, "the content folder does not take files"))
            }
        })
        .with("task_queue", move || {
            let tasks = tasks.clone();
            async move { tasks.check().await.map(|()| json!({})).map_err(|_| "the workers have stopped".into()) }
        })
        .with("proxy", move || {
            let fetcher = fetcher.clone();
            async move {
                match fetcher.check_proxy().await {
                    Ok(ProxyHealth::Working { working, of }) => Ok(json!({ "working": working, "configured": of })),
                    Ok(ProxyHealth::Disabled) => Ok(json!({ "status": "disabled" })),
                    Err(failure) => Err(failure.message),
                }
            }
        })
        .with("seeder", move || {
            let (sessions, mut seeder) = (sessions.clone(), seed.health());
            seeder["torrents"] = sessions.seeding().into();
            async move {
                let listens = sessions.is_listening().await;
                listens.then_some(seeder).ok_or_else(|| "no listen socket is open (SEEDER__LISTEN)".into())
            }
        })
}

/// The detail of a failed check. The log has the error itself, which may contain paths.
fn reason(error: &StoreError, otherwise: &str) -> String {
    warn!(%error, "health check failed");
    if error.is_full() { "no space left (STORAGE__MIN_FREE, STORAGE__MAX_BYTES)".into() } else { otherwise.into() }
}
