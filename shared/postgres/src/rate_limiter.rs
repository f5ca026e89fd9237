//! Rate limits ([`RateLimiter`]) for all processes together: a function in the database counts.

use async_trait::async_trait;
use domain::{Timestamp, millis};
use ports::{Decision, Limit, RateLimiter, StoreError, Usage};
use serde_json::{Value, json};
use sql::{Columns, Driver, Durability, SqlError, Statement};

use crate::PgDatabase;
use crate::driver::without_nul;

/// The rate limits in a database.
#[derive(Debug, Clone)]
pub struct PgRateLimiter(PgDatabase);

impl PgRateLimiter {
    /// The rate limits in this database.
    pub fn new(database: PgDatabase) -> Self {
        Self(database)
    }
}

#[async_trait]
impl RateLimiter for PgRateLimiter {
    async fn acquire(&self, limits: &[Limit], now: Timestamp) -> Result<Decision, StoreError> {
        let limit = |limit: &Limit| json!({ "key": without_nul(limit.key.clone()), "period": millis(limit.window), "most": limit.max });
        let wanted = limits.iter().map(limit).collect::<Value>().to_string();
        let count = Statement::new("SELECT allowed, used, leaves FROM count_use($1, $2)");
        let rows = self.0.fetch(Durability::Written, count.bind(wanted).bind(now.as_millis())).await?;
        let usage = |row: &<PgDatabase as Driver>::Row| {
            let used = row.integer("used")?.unwrap_or_default();
            let used = u32::try_from(used).map_err(|error| SqlError::unreadable("used", error))?;
            let leaves = row.integer("leaves")?.map(Timestamp::from_millis);
            Ok(Usage { used, retry_after: leaves.map(|at| at.since(now)).unwrap_or_default() })
        };
        let allowed = match rows.first() {
            Some(row) => row.boolean("allowed")? == Some(true),
            None => limits.is_empty(),
        };
        Ok(Decision { allowed, usage: rows.iter().map(usage).collect::<Result<_, SqlError>>()? })
    }
}
