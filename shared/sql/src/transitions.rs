//! Transitions as SQL: one `UPDATE` with its condition.

use domain::{Completed, Due, FromNow, Lease, Received, RequestId, Retries, Timestamp, Transition, Update, millis};
use ports::Condition;

use crate::rows::{request_columns, signed};
use crate::{Statement, Value};

/// Returns the statement that applies a transition and returns the row, if there is one that meets the condition.
pub(crate) fn update(id: RequestId, condition: Condition<'_>, transition: &Transition, now: Timestamp) -> Statement {
    let mut sql = Statement::new("UPDATE requests SET ");
    assign(&mut Assignments { sql: &mut sql, are_empty: true }, transition, now);
    sql.push(" WHERE id = ").push_value(id.to_string()).push(" AND status IN (");
    for (number, status) in transition.from.iter().enumerate() {
        sql.push(if number > 0 { ", " } else { "" }).push_value(status.as_str());
    }
    sql.push(")");
    match condition {
        Condition::Always => {}
        Condition::Due => {
            sql.push(" AND due_at <= ").push_value(now.as_millis());
        }
        Condition::Held(claim) => {
            sql.push(" AND lease = ").push_value(claim.token.to_string());
        }
        Condition::OwnedBy(owner) => {
            sql.push(" AND owner = ").push_value(owner.as_str());
        }
        Condition::HasTorrent(infohash) => {
            sql.push(" AND infohash = ").push_value(infohash.to_string());
        }
        Condition::Unchanged(seen) => {
            sql.push(" AND lease IS NULL AND status = ").push_value(seen.status.as_str());
            sql.push(" AND updated_at = ").push_value(seen.updated_at.as_millis());
        }
    }
    sql.push(concat!(" RETURNING ", request_columns!()));
    sql
}

/// The assignments of an `UPDATE`. Column names are constants: what varies is bound.
struct Assignments<'a> {
    sql: &'a mut Statement,
    are_empty: bool,
}

impl Assignments<'_> {
    fn set(&mut self, column: &'static str, value: impl Into<Value>) {
        self.expression(column);
        self.sql.push(" = ").push_value(value);
    }

    /// Sets a column to an expression that has one value bound in its middle.
    fn compute(&mut self, before: &'static str, value: i64, after: &'static str) {
        self.expression(before);
        self.sql.push_value(value).push(after);
    }

    fn expression(&mut self, assignment: &'static str) {
        if !std::mem::take(&mut self.are_empty) {
            self.sql.push(", ");
        }
        self.sql.push(assignment);
    }
}

fn assign(columns: &mut Assignments<'_>, transition: &Transition, now: Timestamp) {
    let now = now.as_millis();
    if let Some(to) = transition.to {
        columns.set("status", to.as_str());
    }
    if let Some(progress) = transition.progress {
        columns.set("progress", i64::from(progress));
    }
    match transition.received {
        Update::Keep => {}
        Update::Set(Received { bytes, total }) => {
            columns.set("received_bytes", signed(bytes));
            columns.set("total_bytes", total.map(signed));
        }
        Update::Clear => columns.expression("received_bytes = NULL, total_bytes = NULL"),
    }
    match transition.retries {
        Retries::Keep => {}
        Retries::Increment => columns.expression("retry_count = retry_count + 1"),
        Retries::Reset => columns.expression("retry_count = 0"),
    }
    match transition.sha256 {
        Update::Keep => {}
        Update::Set(hash) => columns.set("sha256", hash.to_string()),
        Update::Clear => columns.expression("sha256 = NULL"),
    }
    match &transition.content {
        Update::Keep => {}
        Update::Set(content) => {
            columns.set("content_hash", content.hash.to_string());
            columns.set("content_size", signed(content.size));
            columns.set("content_type", content.media_type.to_string());
            columns.set("file_name", content.file_name.to_string());
            columns.set("final_url", content.final_url.to_string());
            columns.set("origin_status", i64::from(content.origin_status));
            columns.set("fetched_at", content.fetched_at.as_millis());
        }
        Update::Clear => columns.expression(
            "content_hash = NULL, content_size = NULL, content_type = NULL, file_name = NULL, final_url = NULL, \
             origin_status = NULL, fetched_at = NULL",
        ),
    }
    match &transition.checkpoint {
        Update::Keep => {}
        Update::Set(checkpoint) => columns.set("checkpoint", checkpoint.clone()),
        Update::Clear => columns.expression("checkpoint = NULL"),
    }
    match transition.torrent {
        Update::Keep => {}
        Update::Set((infohash, infohash_v2)) => {
            columns.set("infohash", infohash.to_string());
            columns.set("infohash_v2", infohash_v2.map(|hash| hash.to_string()));
        }
        Update::Clear => columns.expression("infohash = NULL, infohash_v2 = NULL"),
    }
    match &transition.failure {
        Update::Keep => {}
        Update::Set(failure) => {
            columns.set("error_code", failure.code.as_str());
            columns.set("error_message", failure.message.clone());
        }
        Update::Clear => columns.expression("error_code = NULL, error_message = NULL"),
    }
    if let Some(keep_for) = transition.keep_for {
        columns.set("keep_for", millis(keep_for));
    }
    match transition.completed_at {
        Update::Keep => {}
        Update::Set(Completed::Now) => columns.set("completed_at", now),
        Update::Set(Completed::NowUnlessSet) => columns.compute("completed_at = coalesce(completed_at, ", now, ")"),
        Update::Clear => columns.expression("completed_at = NULL"),
    }
    // An expression sees the row as it was: a new retention is not in `keep_for` yet.
    let at_expiry = |columns: &mut Assignments<'_>, column: &'static str, sum: &'static str| match transition.keep_for {
        Some(keep_for) => columns.set(column, now + millis(keep_for)),
        None => columns.compute(sum, now, " + keep_for"),
    };
    match transition.expires_at {
        Update::Keep => {}
        Update::Set(FromNow) => at_expiry(columns, "expires_at", "expires_at = "),
        Update::Clear => columns.expression("expires_at = NULL"),
    }
    match transition.due {
        Due::Keep => {}
        Due::At(at) => columns.set("due_at", at.as_millis()),
        Due::AtExpiry => at_expiry(columns, "due_at", "due_at = "),
        Due::Never => columns.expression("due_at = NULL"),
    }
    match transition.lease {
        Lease::Keep => {}
        Lease::Begin(token) => columns.set("lease", token.to_string()),
        Lease::End => columns.expression("lease = NULL"),
    }
    if transition.updates {
        columns.set("updated_at", now);
    }
    if transition.notifies() {
        columns.expression("notify_tries = 0, notify_left = NULL");
        columns.compute("notify_at = CASE WHEN receivers <> '' THEN ", now, " ELSE notify_at END");
    }
}
