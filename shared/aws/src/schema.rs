//! DynamoDB schema: the tables and indices that template.yaml creates.

/// An index: name, keys, and the other attributes that it contains (`None`: all attributes).
///
/// Each change of an entry is a write that costs as much as one of the item. So the indices have no attribute that
/// changes at every step, such as the status or the lease.
pub type Index = (&'static str, &'static [&'static str], Option<&'static [&'static str]>);

/// A table: name after the prefix, keys, indices.
pub type Layout = (&'static str, &'static [&'static str], &'static [Index]);

/// The key attributes that are numbers. The others are strings.
pub const NUMBERS: [&str; 2] = ["expires_at", "notify_at"];

/// The tables.
pub const TABLES: [Layout; 5] = [
    (
        "requests",
        &["id"],
        &[
            ("by_owner", &["owner", "id"], Some(&[])),
            ("by_live_owner", &["live_owner", "id"], Some(&["stored_size"])),
            ("by_work", &["work_shard", "id"], Some(&[])),
            ("by_expiry", &["expiry_shard", "expires_at"], Some(&[])),
            ("by_notification", &["notify_shard", "notify_at"], Some(&[])),
            ("by_fingerprint", &["live_fingerprint", "id"], Some(&["fetched_at"])),
            ("by_content", &["live_content", "id"], Some(&["live_torrent"])),
        ],
    ),
    (
        "torrents",
        &["infohash"],
        &[
            ("by_content", &["content_hash", "infohash"], Some(&[])),
            ("by_infohash", &["live", "infohash"], Some(&["content_hash", "size"])),
        ],
    ),
    ("contents", &["content_hash"], &[]),
    ("guards", &["name"], &[]),
    ("swarm", &["infohash", "address"], &[]),
];
