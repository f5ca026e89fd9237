//! DynamoDB schema: the tables and indices that template.yaml creates.

/// An index: name, keys, and the other attributes that it contains (`None`: all attributes).
pub type Index = (&'static str, &'static [&'static str], Option<&'static [&'static str]>);

/// A table: name after the prefix, keys, indices.
pub type Layout = (&'static str, &'static [&'static str], &'static [Index]);

/// The key attributes that are numbers. The others are strings.
pub const NUMBERS: [&str; 2] = ["due_at", "notify_at"];

/// The tables.
pub const TABLES: [Layout; 5] = [
    (
        "requests",
        &["id"],
        &[
            ("by_owner", &["owner", "id"], Some(&[])),
            ("by_live_owner", &["live_owner", "id"], Some(&["status", "content_size"])),
            ("by_due_time", &["due_shard", "due_at"], Some(&["status", "infohash"])),
            ("by_notification", &["notify_shard", "notify_at"], Some(&[])),
            ("by_fingerprint", &["live_fingerprint", "id"], Some(&["status", "fetched_at"])),
            ("by_content", &["live_content", "id"], Some(&["status", "infohash"])),
        ],
    ),
    (
        "torrents",
        &["infohash"],
        &[("by_content", &["content_hash", "infohash"], None), ("by_infohash", &["live", "infohash"], None)],
    ),
    ("contents", &["content_hash"], &[]),
    ("guards", &["name"], &[]),
    ("swarm", &["infohash", "address"], &[]),
];
