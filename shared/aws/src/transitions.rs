//! Transitions as updates of an item, with their condition.

use domain::{
    Completed, Due, FromNow, Lease, Received, RequestId, Retries, Status, Step, Timestamp, Transition, Update,
};
use ports::Condition;

use crate::dynamo::{Change, n, s, time, time_to_live};
use crate::rows::{INDEXED, shard};

/// Whether an update must know if the request has receivers: only then a notification becomes due, and an item stands
/// in the index by notification only as long as one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HasReceivers {
    /// The update is the same in either case, or the caller knows that there is none.
    Irrelevant,
    /// The request has none; the update is refused if it has.
    No,
    /// The request has some.
    Yes,
}

/// The update that applies a transition.
pub(crate) fn update(
    id: RequestId,
    condition: Condition<'_>,
    transition: &Transition,
    has_receivers: HasReceivers,
    now: Timestamp,
) -> Change {
    let names: Vec<_> = (0..transition.from.len()).map(|i| format!(":from_{i}")).collect();
    let mut change = Change::when(&format!("#status IN ({})", names.join(", ")));
    for (i, status) in transition.from.iter().enumerate() {
        change = change.value(&format!("from_{i}"), s(status));
    }
    change = match condition {
        Condition::Always => change,
        Condition::Due => change.and("#due_at <= :due_by").value("due_by", time(now)),
        Condition::Held(claim) => change.and("#lease = :held").value("held", s(claim.token)),
        Condition::OwnedBy(owner) => change.and("#owner = :owned_by").value("owned_by", s(owner)),
        Condition::HasTorrent(infohash) => change.and("#infohash = :torrent").value("torrent", s(infohash)),
        Condition::Unchanged(seen) => change
            .and("attribute_not_exists(#lease) AND #status = :seen AND #updated_at = :seen_at")
            .value("seen", s(seen.status))
            .value("seen_at", time(seen.updated_at)),
    };
    if has_receivers == HasReceivers::No {
        change = change.and("attribute_not_exists(#receivers)");
    }
    change = state(change, id, transition, now);
    change = times(change, id, condition, transition, now);
    if transition.notifies() && has_receivers == HasReceivers::Yes {
        change = change.set("notify_at", time(now)).set("notify_shard", s(shard(id)));
        change = change.set("notify_tries", n(0)).set("notify_left", None);
    }
    change
}

/// What a transition writes, without times.
fn state(mut change: Change, id: RequestId, transition: &Transition, now: Timestamp) -> Change {
    change = match transition.to {
        Some(to) => indexed(change.set("status", s(to)), id, transition, to),
        // An ended request has work only while it is due.
        None if transition.from == Step::Release.statuses() && transition.due != Due::Never => {
            change.set("work_shard", s(shard(id)))
        }
        None => change,
    };
    if let Some(progress) = transition.progress {
        change = change.set("progress", n(progress));
    }
    change = match transition.received {
        Update::Keep => change,
        Update::Set(Received { bytes, total }) => {
            change.set("received_bytes", n(bytes)).set("total_bytes", total.map(n))
        }
        Update::Clear => change.set("received_bytes", None).set("total_bytes", None),
    };
    change = match transition.retries {
        Retries::Keep => change,
        Retries::Increment => change.add("retry_count", 1),
        Retries::Reset => change.set("retry_count", n(0)),
    };
    change = match transition.sha256 {
        Update::Keep => change,
        Update::Set(hash) => change.set("sha256", s(hash)),
        Update::Clear => change.set("sha256", None),
    };
    change = match &transition.content {
        Update::Keep => change,
        Update::Set(content) => change
            .set("content_hash", s(content.hash))
            .set("content_size", n(content.size))
            .set("content_type", s(&content.media_type))
            .set("file_name", s(&content.file_name))
            .set("final_url", s(&content.final_url))
            .set("origin_status", n(content.origin_status))
            .set("fetched_at", time(content.fetched_at))
            .set("live_content", s(content.hash)),
        Update::Clear => ["content_hash", "content_size", "content_type", "file_name", "final_url", "origin_status"]
            .into_iter()
            .chain(["fetched_at", "live_content", "live_torrent"])
            .fold(change, |change, name| change.set(name, None)),
    };
    change = match &transition.checkpoint {
        Update::Keep => change,
        Update::Set(checkpoint) => change.set("checkpoint", s(checkpoint)),
        Update::Clear => change.set("checkpoint", None),
    };
    change = match transition.torrent {
        Update::Keep => change,
        Update::Set((infohash, v2)) => {
            change.set("infohash", s(infohash)).set("infohash_v2", v2.map(s)).set("live_torrent", s(infohash))
        }
        Update::Clear => change.set("infohash", None).set("infohash_v2", None),
    };
    change = match &transition.failure {
        Update::Keep => change,
        Update::Set(failure) => change.set("error_code", s(failure.code)).set("error_message", s(&failure.message)),
        Update::Clear => change.set("error_code", None).set("error_message", None),
    };
    change = match transition.lease {
        Lease::Keep => change,
        Lease::Begin(token) => change.set("lease", s(token)),
        Lease::End => change.set("lease", None),
    };
    if let Some(keep_for) = transition.keep_for {
        change = change.set("keep_for", n(keep_for.as_millis()));
    }
    if transition.updates { change.set("updated_at", time(now)) } else { change }
}

/// What a change of the status writes into the key attributes of the indices. It writes no attribute again that the item
/// has already, except `work_shard` of one that may have been ready.
fn indexed(mut change: Change, id: RequestId, transition: &Transition, to: Status) -> Change {
    let may_be_ready = transition.from.contains(&Status::Ready);
    if to == Status::Ready {
        // A ready request waits for its expiry only.
        return change
            .set("work_shard", None)
            .set("expiry_shard", s(shard(id)))
            .compute("stored_size", "#content_size");
    }
    if may_be_ready && transition.due != Due::Never {
        change = change.set("work_shard", s(shard(id)));
    }
    // The indices find live requests alone.
    if to.is_final() {
        change.set_all(INDEXED.map(|name| (name, None)))
    } else if may_be_ready {
        change = change.set("expiry_shard", None).set("stored_size", None);
        // Its next torrent may be another one.
        if to == Status::Packaging { change.set("live_torrent", None) } else { change }
    } else {
        change
    }
}

fn times(
    mut change: Change,
    id: RequestId,
    condition: Condition<'_>,
    transition: &Transition,
    now: Timestamp,
) -> Change {
    change = match transition.completed_at {
        Update::Keep => change,
        Update::Set(Completed::Now) => change.set("completed_at", time(now)),
        Update::Set(Completed::NowUnlessSet) => change
            .value("completed_now", time(now))
            .compute("completed_at", "if_not_exists(#completed_at, :completed_now)"),
        Update::Clear => change.set("completed_at", None),
    };
    // An expression sees the item as it was: a new retention is not in `keep_for` yet.
    let at_expiry = |change: Change, name: &str| match transition.keep_for {
        Some(keep_for) => change.set(name, time(now + keep_for)),
        None => change.value("now", time(now)).compute(name, ":now + #keep_for"),
    };
    change = match transition.expires_at {
        Update::Keep => change,
        Update::Set(FromNow) => at_expiry(change, "expires_at"),
        Update::Clear => change.set("expires_at", None),
    };
    match transition.due {
        Due::Keep => change,
        Due::At(at) => change.set("due_at", time(at)),
        Due::AtExpiry => at_expiry(change, "due_at"),
        Due::Never => {
            let end = match condition {
                Condition::Held(claim) if !transition.updates => claim.request.updated_at,
                _ => now,
            };
            debug_assert!(
                transition.to.is_some_and(Status::is_final) || transition.from == Step::Release.statuses(),
                "{id}"
            );
            // DynamoDB deletes the item when its time to live is over.
            change
                .set("due_at", None)
                .set("work_shard", None)
                .value("end", time_to_live(end))
                .compute("expires", ":end + #history")
        }
    }
}
