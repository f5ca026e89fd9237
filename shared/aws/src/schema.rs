//! DynamoDB schema: the same tables and indices as in template.yaml, for emulators to which the template is not
//! deployed.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use ports::StoreError;

/// An index: name, keys, and the other attributes that it contains (`None`: all attributes).
pub type Index = (&'static str, &'static [&'static str], Option<&'static [&'static str]>);

/// A table: name after the prefix, keys, indices.
pub type Layout = (&'static str, &'static [&'static str], &'static [Index]);

/// The key attributes that are numbers. The others are strings.
const NUMBERS: [&str; 2] = ["due_at", "notify_at"];

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

fn keys(names: &[&str]) -> Result<Vec<KeySchemaElement>, StoreError> {
    let kinds = [KeyType::Hash, KeyType::Range];
    let element = |(name, kind): (&&str, KeyType)| {
        let element = KeySchemaElement::builder().attribute_name(*name).key_type(kind).build();
        element.map_err(|error| StoreError::unavailable("DynamoDB", error))
    };
    names.iter().zip(kinds).map(element).collect()
}

/// Creates the tables. Their names start with `prefix`.
pub async fn create_tables(client: &Client, prefix: &str) -> Result<(), StoreError> {
    let bad = |error| StoreError::unavailable("DynamoDB", error);
    for (name, key, indices) in TABLES {
        let mut attributes: Vec<_> = key.to_vec();
        attributes.extend(indices.iter().flat_map(|(_, keys, _)| keys.iter()));
        attributes.sort_unstable();
        attributes.dedup();
        let mut create = client
            .create_table()
            .table_name(format!("{prefix}-{name}"))
            .billing_mode(BillingMode::PayPerRequest)
            .set_key_schema(Some(keys(key)?));
        for attribute in attributes {
            let kind = if NUMBERS.contains(&attribute) { ScalarAttributeType::N } else { ScalarAttributeType::S };
            let definition = AttributeDefinition::builder().attribute_name(attribute).attribute_type(kind).build();
            create = create.attribute_definitions(definition.map_err(bad)?);
        }
        for (index, key, included) in indices {
            let projection = match included {
                None => Projection::builder().projection_type(ProjectionType::All),
                Some([]) => Projection::builder().projection_type(ProjectionType::KeysOnly),
                Some(names) => Projection::builder()
                    .projection_type(ProjectionType::Include)
                    .set_non_key_attributes(Some(names.iter().map(|name| (*name).to_owned()).collect())),
            };
            let index = GlobalSecondaryIndex::builder().index_name(*index).set_key_schema(Some(keys(key)?));
            create = create.global_secondary_indexes(index.projection(projection.build()).build().map_err(bad)?);
        }
        let failed = |error| StoreError::unavailable("DynamoDB", DisplayErrorContext(error).to_string());
        create.send().await.map_err(failed)?;
    }
    Ok(())
}
